//! Cleaning: saved pages to the text that a model reads, on one core, and how much of their truth is still in it.
//!
//! All pages are read into memory first. A repeat is decoding, parsing and cleaning of each; its seconds are of this
//! thread alone. Truth that is kept: title, employer, first place and a figure of the pay of single postings, titles of
//! listings. A page without visible text (a shell) has no truth in any text and is left out of that count. Others'
//! texts of the same pages are judged by the same rules.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use quarry_agent::clean::{clean, decode};
use quarry_agent::document::Document;
use quarry_agent::eval::{Corpus, CorpusPage, TruthPage, words};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::Spread;

/// The address of a page whose own nobody knows.
const ADDRESS: &str = "https://page.example/";

/// Pages and their truth.
pub struct Job {
    pages: Vec<(CorpusPage, Vec<u8>)>,
    bytes: usize,
}

/// Found of looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// In the text.
    pub found: u32,
    /// In the truth.
    pub total: u32,
}

impl Kept {
    fn count(&mut self, is_found: bool) {
        self.found += u32::from(is_found);
        self.total += 1;
    }
}

/// One cleaner.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Whose.
    pub name: String,
    /// Pages cleaned in each repeat.
    pub pages: usize,
    /// Megabytes of them.
    pub megabytes: f64,
    /// Seconds of each repeat.
    pub seconds: Vec<f64>,
    /// Characters of all texts.
    pub characters: usize,
    /// Of single postings.
    pub titles: Kept,
    /// Of single postings.
    pub companies: Kept,
    /// First ones, of single postings.
    pub places: Kept,
    /// Either bound, of single postings.
    pub salaries: Kept,
    /// Of listings.
    pub listed_titles: Kept,
}

impl Measured {
    /// By the median repeat.
    pub fn pages_per_second(&self) -> f64 {
        self.pages as f64 / Spread::of(&self.seconds).median
    }

    /// Everything together.
    pub fn kept(&self) -> Kept {
        let all = [self.titles, self.companies, self.places, self.salaries, self.listed_titles];
        let sum = |of: fn(&Kept) -> u32| all.iter().map(of).sum();
        Kept { found: sum(|kept| kept.found), total: sum(|kept| kept.total) }
    }
}

/// A line of another cleaner's file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text { file: String, text: String },
    Repeat { seconds: f64 },
}

impl Job {
    /// Reads a labelled folder.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let corpus = Corpus::read(folder)?;
        let read = |page: CorpusPage| {
            let path = folder.join(&page.file);
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            Ok((page, bytes))
        };
        let pages = corpus.pages.into_iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        if pages.is_empty() {
            bail!("{} lists no page", folder.display());
        }
        let bytes = pages.iter().map(|(_, bytes)| bytes.len()).sum();
        Ok(Self { pages, bytes })
    }

    /// Cleans every page `repeats` times.
    pub fn measure(&self, repeats: usize) -> Measured {
        let addresses: Vec<Url> = self.pages.iter().map(|(page, _)| address(page)).collect();
        let text = |(index, (_, bytes)): (usize, &(CorpusPage, Vec<u8>))| {
            let html = decode(bytes, None);
            clean(&Document::parse(&html, &addresses[index])).markdown
        };
        // Once for the texts, and so that no repeat pays for what is made once.
        let texts: Vec<String> = self.pages.iter().enumerate().map(text).collect();
        let seconds = (0..repeats.max(1)).map(|_| {
            let started = Instant::now();
            self.pages.iter().enumerate().for_each(|page| drop(black_box(text(page))));
            started.elapsed().as_secs_f64()
        });
        self.judge("Quarry", seconds.collect(), |index| texts[index].as_str())
    }

    /// The texts that somebody else made of the same pages.
    pub fn beside(&self, name: &str, file: &Path) -> anyhow::Result<Measured> {
        let lines = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let (mut texts, mut seconds) = (HashMap::new(), Vec::new());
        for line in lines.lines() {
            match serde_json::from_str(line).with_context(|| file.display().to_string())? {
                Line::Text { file, text } => drop(texts.insert(file, text)),
                Line::Repeat { seconds: one } => seconds.push(one),
            }
        }
        if let Some((page, _)) = self.pages.iter().find(|(page, _)| !texts.contains_key(&page.file)) {
            bail!("{} has no text of {}", file.display(), page.file);
        }
        if seconds.is_empty() {
            bail!("{} says no seconds", file.display());
        }
        Ok(self.judge(name, seconds, |index| texts[&self.pages[index].0.file].as_str()))
    }

    fn judge<'a>(&self, name: &str, seconds: Vec<f64>, text: impl Fn(usize) -> &'a str) -> Measured {
        let mut measured = Measured {
            name: name.to_owned(),
            pages: self.pages.len(),
            megabytes: self.bytes as f64 / 1e6,
            seconds,
            characters: 0,
            titles: Kept::default(),
            companies: Kept::default(),
            places: Kept::default(),
            salaries: Kept::default(),
            listed_titles: Kept::default(),
        };
        for (index, (page, _)) in self.pages.iter().enumerate() {
            let text = text(index);
            measured.characters += text.chars().count();
            if let Some(truth) = page.truth.as_ref().filter(|_| !page.is_shell) {
                measured.count(truth, &Text::new(text));
            }
        }
        measured
    }
}

impl Measured {
    fn count(&mut self, truth: &TruthPage, text: &Text) {
        let of = |kept: &mut Kept, value: Option<&str>| {
            if let Some(value) = value {
                kept.count(text.holds(value));
            }
        };
        of(&mut self.titles, truth.title.as_deref());
        of(&mut self.companies, truth.company.as_deref());
        let place = truth.locations.as_ref().and_then(|places| places.first());
        // "Oslo, Norway" is there where Oslo is.
        of(&mut self.places, place.and_then(|place| place.split([',', '(']).next()));
        let bounds = [truth.salary_min, truth.salary_max];
        if bounds.iter().any(Option::is_some) {
            self.salaries.count(bounds.into_iter().flatten().any(|bound| text.holds_sum(bound)));
        }
        for title in truth.jobs.iter().flatten().filter_map(|job| job.title.as_deref()) {
            self.listed_titles.count(text.holds(title));
        }
    }
}

/// A cleaned text, as words and as digits.
struct Text {
    words: String,
    digits: String,
}

impl Text {
    fn new(text: &str) -> Self {
        let digits = text.chars().filter(|c| {
            c.is_ascii_digit() || !matches!(c, '.' | ',' | '\'' | '’' | ' ' | '\u{a0}' | '\u{202f}')
        });
        Self { words: format!(" {} ", words(text).join(" ")), digits: digits.collect() }
    }

    fn holds(&self, value: &str) -> bool {
        let value = words(value).join(" ");
        !value.is_empty() && self.words.contains(&value)
    }

    /// All digits of a sum, or those before its thousands ("211.4K", "26万").
    fn holds_sum(&self, sum: f64) -> bool {
        let whole = sum.round().to_string();
        let short = whole.trim_end_matches('0');
        let short = if short.is_empty() { whole.as_str() } else { short };
        self.digits.contains(&whole) || whole.len() > 3 && self.digits.contains(short)
    }
}

fn address(page: &CorpusPage) -> Url {
    page.url.clone().unwrap_or_else(|| Url::parse(ADDRESS).expect("a constant address parses"))
}

/// The figures beside each other; ratios are of the first one's pages a second.
pub fn table(measured: &[Measured]) -> String {
    let mut text = format!(
        "{:<24} {:>8} {:>7} {:>6} {:>10} {:>8} {:>9} {:>8} {:>8} {:>12}\n",
        "CLEANER", "PAGES/S", "MB/S", "RATIO", "CHARS", "TITLES", "COMPANIES", "PLACES", "PAY", "LISTED"
    );
    let first = measured.first().map_or(1.0, Measured::pages_per_second);
    for one in measured {
        let cell = |kept: Kept| format!("{}/{}", kept.found, kept.total);
        let speed = one.pages_per_second();
        text.push_str(&format!(
            "{:<24} {speed:>8.1} {:>7.1} {:>6.2} {:>10} {:>8} {:>9} {:>8} {:>8} {:>12}\n",
            one.name,
            speed * one.megabytes / one.pages as f64,
            first / speed,
            one.characters,
            cell(one.titles),
            cell(one.companies),
            cell(one.places),
            cell(one.salaries),
            cell(one.listed_titles),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("html")).unwrap();
        let index = "file\tkind\tsite\tjs_shell\tnote\nhtml/1.html\tsingle\tA\tn\t\nhtml/2.html\tlisting\tA\tn\t\n\
            html/3.html\tsingle\tA\ty\t\n";
        let truth = r#"{"file": "html/1.html", "title": "Net Mender", "company": "Tide", "locations": ["Oslo, Norway"], "salary_min": 31500}
{"file": "html/2.html", "jobs": [{"title": "Cook"}, {"title": "Baker"}]}
{"file": "html/3.html", "title": "Sailor"}
"#;
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("index.tsv", index);
        write("truth.jsonl", truth);
        write("html/1.html", "<h1>Net Mender</h1><p>Oslo, £31.5K</p><footer>Tide</footer>");
        write("html/2.html", "<ul><li>Cook<li>Waiter</ul>");
        write("html/3.html", "<p>");
        Job::read(folder.path()).unwrap()
    }

    #[test]
    fn truth_is_looked_for_in_every_text() {
        let ours = job().measure(2);
        let kept = |kept: Kept| (kept.found, kept.total);
        assert_eq!((ours.pages, ours.seconds.len()), (3, 2));
        assert_eq!((kept(ours.titles), kept(ours.companies), kept(ours.places)), ((1, 1), (0, 1), (1, 1)));
        assert_eq!((kept(ours.salaries), kept(ours.listed_titles)), ((1, 1), (1, 2)));
        assert_eq!(kept(ours.kept()), (4, 6));
    }

    #[test]
    fn others_are_judged_by_their_texts_and_must_have_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("texts.jsonl");
        let lines = ["html/1.html", "html/2.html", "html/3.html"]
            .map(|file| format!("{{\"file\": \"{file}\", \"text\": \"Tide 31,500 Baker Cook\"}}\n"));
        std::fs::write(&file, lines.concat() + "{\"seconds\": 0.5}\n").unwrap();
        let other = job().beside("other", &file).unwrap();
        assert_eq!((other.kept(), other.pages_per_second()), (Kept { found: 4, total: 6 }, 6.0));
        std::fs::write(&file, &lines[0]).unwrap();
        assert!(job().beside("other", &file).unwrap_err().to_string().contains("no text of html/2.html"));
    }
}
