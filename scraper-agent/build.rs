//! Reads and checks the lists of words (`words/*.toml`, described in `words/README.md`) and writes them as Rust.
//!
//! Every fault of every file is told at once, with file, list and entry, and stops the build: an unknown or missing list,
//! an empty or doubled entry, a mark where none may stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use toml::{Table, Value};

#[path = "src/words/fold.rs"]
mod fold;
#[path = "src/words/lists.rs"]
mod lists;

use lists::{List, Owner};

/// Characters of an entry at most.
const ENTRY_CHARS_MAX: usize = 80;

/// Lists whose entries stand for codes.
const CODED: [&str; 4] = ["currencies", "countries", "regions", "cities"];

/// One entry as it is written out: list, value, parts of folded text and marks.
struct Entry {
    list: List,
    value: u16,
    parts: Vec<(String, u8)>,
}

/// A list of a file: its values (a month's number, a code's place) with their entries.
type Values = Vec<(u16, Vec<String>)>;

/// What is read of all files.
#[derive(Default)]
struct Build {
    faults: Vec<String>,
    entries: Vec<Entry>,
    /// Codes of the lists that have them; an entry's value is its code's place.
    codes: BTreeMap<&'static str, BTreeSet<String>>,
}

fn main() {
    println!("cargo::rerun-if-changed=words");
    let mut paths: Vec<PathBuf> = fs::read_dir("words")
        .expect("the folder `words` can be read")
        .map(|entry| entry.expect("the folder `words` can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    paths.sort();
    let mut build = Build::default();
    let tables: Vec<(String, Table)> = paths.iter().filter_map(|path| build.read(path)).collect();
    for (_, table) in &tables {
        build.collect_codes(table);
    }
    for (file, table) in &tables {
        build.file(file, table);
    }
    build.missing();
    if !build.faults.is_empty() {
        eprintln!("{} faults in scraper-agent/words:\n{}", build.faults.len(), build.faults.join("\n"));
        process::exit(1);
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("words.rs");
    fs::write(out, build.rust()).expect("the output folder can be written");
}

impl Build {
    fn read(&mut self, path: &Path) -> Option<(String, Table)> {
        let file = path.file_name()?.to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap_or_default();
        match text.parse::<Table>() {
            Ok(table) => Some((file, table)),
            Err(error) => {
                self.faults.push(format!("{file}: {error}"));
                None
            }
        }
    }

    fn collect_codes(&mut self, table: &Table) {
        for list in CODED {
            let named = table.get(list).and_then(Value::as_table).into_iter().flatten();
            self.codes.entry(list).or_default().extend(named.map(|(code, _)| code.clone()));
        }
    }

    /// Takes a file's lists, and says what it lacks. A file named by two letters is a language's.
    fn file(&mut self, file: &str, table: &Table) {
        let is_language = file.len() == "en.toml".len();
        let mut seen = BTreeSet::new();
        for (name, value) in flat(table) {
            let Some((list, _, owner)) = List::ALL.iter().find(|(_, known, _)| *known == name) else {
                self.faults.push(format!("{file}: {name} is no list (src/words/lists.rs names them)"));
                continue;
            };
            if *owner == Owner::NoLanguage && is_language {
                self.faults.push(format!("{file}: {name} stands in the files of no language alone"));
            }
            seen.insert(name.clone());
            match self.values(*list, &name, value) {
                Ok(values) => self.list(file, *list, &name, values),
                Err(what) => self.faults.push(format!("{file}: {name}: {what}")),
            }
        }
        for (_, name, owner) in List::ALL {
            if *owner == Owner::EveryLanguage && is_language && !seen.contains(*name) {
                self.faults.push(format!("{file}: lacks {name}"));
            }
        }
    }

    /// Says which lists no file has at all.
    fn missing(&mut self) {
        let lacks = |list: &List| self.entries.iter().all(|entry| entry.list != *list);
        let missing = List::ALL
            .iter()
            .filter(|(list, ..)| lacks(list))
            .map(|(_, name, _)| format!("no file has {name}"));
        let missing: Vec<String> = missing.collect();
        self.faults.extend(missing);
    }

    fn values(&self, list: List, name: &str, value: &Value) -> Result<Values, String> {
        let strings = |value: &Value| -> Result<Vec<String>, String> {
            let all = value.as_array().ok_or("an array of strings is wanted")?;
            let text = |one: &Value| one.as_str().map(str::to_owned).ok_or(format!("{one} is no string"));
            all.iter().map(text).collect()
        };
        match list {
            List::Months => {
                let months =
                    value.as_array().filter(|all| all.len() == 12).ok_or("twelve arrays are wanted")?;
                (1..).zip(months).map(|(number, names)| Ok((number, strings(names)?))).collect()
            }
            _ if CODED.contains(&name) => {
                let named = value.as_table().ok_or("a table of codes is wanted")?;
                let place = |code: &str| self.codes[name].iter().position(|known| known == code).unwrap_or(0);
                named.iter().map(|(code, names)| Ok((place(code) as u16, strings(names)?))).collect()
            }
            _ => Ok(vec![(0, strings(value)?)]),
        }
    }

    fn list(&mut self, file: &str, list: List, name: &str, values: Values) {
        let mut seen = BTreeSet::new();
        if values.iter().any(|(_, entries)| entries.is_empty()) {
            self.faults.push(format!("{file}: {name} is empty"));
        }
        for (value, text) in
            values.into_iter().flat_map(|(value, all)| all.into_iter().map(move |one| (value, one)))
        {
            match parts(&text) {
                Err(what) => self.faults.push(format!("{file}: {name}: {text:?} {what}")),
                Ok(parts) if !seen.insert(parts.clone()) => {
                    self.faults.push(format!(
                        "{file}: {name}: {text:?} stands there twice, or differs only in spelling"
                    ));
                }
                Ok(parts) => self.entries.push(Entry { list, value, parts }),
            }
        }
    }

    /// The tables as Rust; `Entry` and `Part` are of `src/words/automaton.rs`.
    fn rust(&self) -> String {
        let mut out = String::from("pub(super) static ENTRIES: &[Entry] = &[\n");
        for entry in &self.entries {
            let (list, value) = (entry.list as u8, entry.value);
            let _ = write!(out, "Entry {{ list: {list}, value: {value}, parts: &[");
            for (text, marks) in &entry.parts {
                let _ = write!(out, "Part {{ text: {text:?}, marks: {marks} }}, ");
            }
            out.push_str("] },\n");
        }
        out.push_str("];\n");
        for (name, codes) in &self.codes {
            let name = name.to_uppercase();
            let _ =
                writeln!(out, "pub(super) static {name}: &[&str] = &{:?};", codes.iter().collect::<Vec<_>>());
        }
        out
    }
}

/// The lists of a file by their full names: `sections.tasks` is `tasks` in the table `sections`.
fn flat(table: &Table) -> Vec<(String, &Value)> {
    let mut out = Vec::new();
    for (name, value) in table {
        match value.as_table() {
            Some(inner) if !CODED.contains(&name.as_str()) => {
                out.extend(inner.iter().map(|(below, value)| (format!("{name}.{below}"), value)));
            }
            _ => out.push((name.clone(), value)),
        }
    }
    out
}

/// An entry's parts, folded, with their marks: 1 open before, 2 open behind, 4 alone.
fn parts(entry: &str) -> Result<Vec<(String, u8)>, &'static str> {
    if entry.chars().count() > ENTRY_CHARS_MAX {
        return Err("is too long");
    }
    if entry.trim() != entry {
        return Err("begins or ends with a space");
    }
    let (alone, entry) = entry.strip_prefix('=').map_or((0, entry), |rest| (4, rest));
    let pieces: Vec<&str> = entry.split('…').map(str::trim).collect();
    if pieces.len() > 2 || alone != 0 && pieces.len() > 1 {
        return Err("has too many parts: two at most, and one behind `=`");
    }
    let part = |piece: &str| {
        let (before, piece) = piece.strip_prefix('*').map_or((0, piece), |rest| (1, rest));
        let (behind, piece) = piece.strip_suffix('*').map_or((0, piece), |rest| (2, rest));
        // An asterisk in between is one of the text ("Mitarbeiter*in", "(m*w*d)").
        let text = fold::fold(piece).text.trim().to_owned();
        if text.is_empty() {
            return Err("is empty");
        }
        if text.contains('\n') {
            return Err("has a line break");
        }
        Ok((text, before | behind | alone))
    };
    pieces.into_iter().map(part).collect()
}
