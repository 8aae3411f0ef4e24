//! A whole repository of the hub as a folder: configuration, tokenizer, and the weight files that its index names.
//!
//! All files are of one commit. Each is checked against what the hub says of it before its sum goes to the list of sums,
//! so a pull that goes on later takes listed files as they are and resumes the one that was cut off. The folder gets its
//! name when it is whole, so a folder under its own name is one.
//!
//! ```text
//! NAME.hub.partial/            the files so far, under their own names
//! NAME.hub.partial/.commit     which commit they are of
//! NAME/quarry-sums.txt         `sha256  file`, a line each; what `verify` compares
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::SourceError;
use crate::assemble::{self, Assembly};
use crate::hub::{HubClient, Remote};

/// The list of sums.
pub(crate) const SUMS: &str = "quarry-sums.txt";
/// Which commit a partial folder is of.
const COMMIT: &str = ".commit";
/// What every folder has.
const NEEDED: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];
/// What some have.
const OPTIONAL: [&str; 2] = ["generation_config.json", "chat_template.jinja"];
/// Which weight files there are, where there are several.
const INDEX: &str = "model.safetensors.index.json";
/// The weight file, where there is one.
const SINGLE: &str = "model.safetensors";
/// Bytes of a file that is no weights.
const SMALL_BYTES_MAX: u64 = 64 << 20;
/// Weight files of a repository.
const SHARDS_MAX: usize = 1024;

/// Told the bytes so far of all files and, where it is known, of the whole.
type BytesSoFar<'a> = dyn FnMut(u64, Option<u64>) + Send + 'a;

/// One pull of a repository into a folder.
pub(crate) struct FolderPull<'a> {
    hub: &'a HubClient,
    repo: &'a str,
    revision: String,
    folder: &'a Path,
    /// Bytes of the files that are whole.
    done: u64,
    total: Option<u64>,
}

/// Bytes of the files in a folder, which has no folders.
pub(crate) fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

impl<'a> FolderPull<'a> {
    /// Opens `folder`, keeping what is there of the commit that the hub has now.
    pub(crate) fn open(hub: &'a HubClient, repo: &'a str, folder: &'a Path) -> Result<Self, SourceError> {
        let missing = || SourceError::Hub {
            url: format!("{}/{repo}", hub.endpoint),
            message: format!("the repository has no {}", NEEDED[0]),
        };
        let commit = hub.describe(repo, "main", NEEDED[0])?.ok_or_else(missing)?.commit;
        let revision = commit.unwrap_or_else(|| "main".to_owned());
        let mark = folder.join(COMMIT);
        if folder.exists() && fs::read_to_string(&mark).ok().as_deref() != Some(&revision) {
            fs::remove_dir_all(folder).map_err(SourceError::io("remove", folder, 0))?;
        }
        fs::create_dir_all(folder).map_err(SourceError::io("create", folder, 0))?;
        fs::write(&mark, &revision).map_err(SourceError::io("write", &mark, 0))?;
        Ok(Self { hub, repo, revision, folder, done: 0, total: None })
    }

    /// Gets every file; the bytes of all.
    pub(crate) fn run(mut self, progress: &mut BytesSoFar<'_>) -> Result<u64, SourceError> {
        for name in NEEDED {
            self.needed(name, SMALL_BYTES_MAX, progress)?;
        }
        for name in OPTIONAL {
            self.file(name, SMALL_BYTES_MAX, progress)?;
        }
        let shards = match self.file(INDEX, SMALL_BYTES_MAX, progress)? {
            true => self.shards()?,
            false => vec![SINGLE.to_owned()],
        };
        // So that progress knows the whole before the first large file comes.
        let mut remotes = Vec::new();
        for name in &shards {
            remotes.push(self.describe(name)?.ok_or_else(|| self.missing(name))?);
        }
        let rest = remotes.iter().map(|remote| remote.bytes).sum::<Option<u64>>();
        self.total = rest.map(|rest| self.done + rest);
        for (name, remote) in shards.iter().zip(&remotes) {
            self.get(name, remote, remote.bytes.unwrap_or(u64::MAX), progress)?;
        }
        let mark = self.folder.join(COMMIT);
        fs::remove_file(&mark).map_err(SourceError::io("remove", &mark, 0))?;
        Ok(self.done)
    }

    fn describe(&self, name: &str) -> Result<Option<Remote>, SourceError> {
        self.hub.describe(self.repo, &self.revision, name)
    }

    fn missing(&self, name: &str) -> SourceError {
        SourceError::Hub {
            url: format!("{}/{}", self.hub.endpoint, self.repo),
            message: format!("the repository has no {name}"),
        }
    }

    fn needed(
        &mut self,
        name: &str,
        bytes_max: u64,
        progress: &mut BytesSoFar<'_>,
    ) -> Result<(), SourceError> {
        if self.file(name, bytes_max, progress)? { Ok(()) } else { Err(self.missing(name)) }
    }

    /// Gets a file; false where the repository has none.
    fn file(
        &mut self,
        name: &str,
        bytes_max: u64,
        progress: &mut BytesSoFar<'_>,
    ) -> Result<bool, SourceError> {
        let Some(remote) = self.describe(name)? else { return Ok(false) };
        self.get(name, &remote, bytes_max, progress)?;
        Ok(true)
    }

    /// Gets a file that the hub describes so, unless it is here whole and checked.
    fn get(
        &mut self,
        name: &str,
        remote: &Remote,
        bytes_max: u64,
        progress: &mut BytesSoFar<'_>,
    ) -> Result<(), SourceError> {
        let path = self.folder.join(name);
        let listed = sums(self.folder)?.into_iter().find(|(_, listed)| listed == name).map(|(sum, _)| sum);
        if let Some(sum) = listed {
            let length = fs::metadata(&path).map_or(0, |file| file.len());
            let is_same = remote.sha256.as_ref().is_none_or(|expected| *expected == sum);
            if is_same && remote.bytes.is_none_or(|bytes| bytes == length) {
                self.done += length;
                progress(self.done, self.total);
                return Ok(());
            }
            // Changed behind the list's back: as if it had never been here.
            self.forget(name)?;
        }
        let mut assembly = Assembly::open(&path, remote.bytes.unwrap_or(0))?;
        if remote.bytes.is_none_or(|bytes| assembly.length() > bytes) {
            // Without a length nothing says whether what is here is a beginning.
            assembly.truncate(0)?;
        }
        if remote.bytes != Some(assembly.length()) || assembly.length() == 0 {
            let (done, total) = (self.done, self.total);
            let at = (self.repo, self.revision.as_str(), name);
            self.hub.fetch(at, bytes_max, &mut assembly, &mut |bytes, of| {
                progress(done + bytes, total.or(of.map(|of| done + of)));
            })?;
        }
        let length = assembly.length();
        assembly.finish()?;
        let checked = check(&path, name, remote, length);
        if checked.is_err() {
            // Wrong bytes are no beginning of the right ones.
            fs::remove_file(&path).map_err(SourceError::io("remove", &path, 0))?;
        }
        let sum = checked?;
        let list = self.folder.join(SUMS);
        let added = OpenOptions::new().create(true).append(true).open(&list);
        added
            .and_then(|mut list| writeln!(list, "{sum}  {name}"))
            .map_err(SourceError::io("write", &list, 0))?;
        self.done += length;
        Ok(())
    }

    /// Takes a file off the list of sums and away.
    fn forget(&self, name: &str) -> Result<(), SourceError> {
        let (list, path) = (self.folder.join(SUMS), self.folder.join(name));
        let others = sums(self.folder)?.into_iter().filter(|(_, listed)| listed != name);
        let text: String = others.map(|(sum, name)| format!("{sum}  {name}\n")).collect();
        fs::write(&list, text).map_err(SourceError::io("write", &list, 0))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(SourceError::io("remove", &path, 0)(error))
            }
            _ => Ok(()),
        }
    }

    /// The weight files that the index names.
    fn shards(&self) -> Result<Vec<String>, SourceError> {
        let bad = |message: &str| SourceError::Hub {
            url: format!("{}/{}/{INDEX}", self.hub.endpoint, self.repo),
            message: message.to_owned(),
        };
        let path = self.folder.join(INDEX);
        let text = fs::read(&path).map_err(SourceError::io("read", &path, 0))?;
        let index: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| bad(&format!("is no JSON: {error}")))?;
        let map = index["weight_map"].as_object().ok_or_else(|| bad("weight_map is missing"))?;
        let mut names = Vec::new();
        for file in map.values() {
            // Plain names only: nothing outside the folder is written.
            let is_plain = |name: &&str| {
                name.ends_with(".safetensors")
                    && !name.starts_with('.')
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            };
            let name =
                file.as_str().filter(is_plain).ok_or_else(|| bad("names a file that is no weight file"))?;
            names.push(name.to_owned());
        }
        names.sort();
        names.dedup();
        if names.is_empty() || names.len() > SHARDS_MAX {
            return Err(bad(&format!(
                "names {} weight files, from 1 to {SHARDS_MAX} are possible",
                names.len()
            )));
        }
        Ok(names)
    }
}

/// A file is what the hub said; its sum.
fn check(path: &Path, name: &str, remote: &Remote, length: u64) -> Result<String, SourceError> {
    if let Some(expected) = remote.bytes.filter(|&expected| expected != length) {
        return Err(SourceError::Size { what: name.to_owned(), found: length, expected });
    }
    let sum = assemble::sha256_of(path, &mut |_| {})?;
    match &remote.sha256 {
        Some(expected) if *expected != sum => {
            Err(SourceError::Checksum { what: name.to_owned(), found: sum, expected: expected.clone() })
        }
        _ => Ok(sum),
    }
}

/// `(sum, file)` of every checked file; empty where there is no list.
fn sums(folder: &Path) -> Result<Vec<(String, String)>, SourceError> {
    let path = folder.join(SUMS);
    let mut text = String::new();
    match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened
            .and_then(|file| file.take(SMALL_BYTES_MAX).read_to_string(&mut text))
            .map_err(SourceError::io("read", &path, 0))?,
    };
    // A last line that was cut off when the disk was full names no file that is there.
    Ok(text
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| (sum.into(), name.into()))
        .collect())
}

/// Computes every file's sum and compares it with the list; the sum of the list and the bytes of all files.
pub(crate) fn verify(folder: &Path, progress: &mut dyn FnMut(u64)) -> Result<(String, u64), SourceError> {
    let listed = sums(folder)?;
    let list = folder.join(SUMS);
    if listed.is_empty() {
        let source =
            std::io::Error::new(std::io::ErrorKind::NotFound, "the list of sums is empty or missing");
        return Err(SourceError::Io { what: "read", path: list, source });
    }
    let mut done = 0;
    for (expected, name) in listed {
        let path = folder.join(&name);
        let found = assemble::sha256_of(&path, &mut |bytes| progress(done + bytes))?;
        if found != expected {
            return Err(SourceError::Checksum { what: name, found, expected });
        }
        done += fs::metadata(&path).map_err(SourceError::io("read", &path, 0))?.len();
    }
    Ok((assemble::sha256_of(&list, &mut |_| {})?, done))
}
