//! The labelled corpus as files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use url::Url;

use crate::error::AgentError;
use crate::eval::Subset;
use crate::posting::{EmploymentType, PageKind, SalaryPeriod};

/// What a page's kind should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedKind {
    /// One kind.
    Is(PageKind),
    /// Listing or hub: nobody labelled it.
    ListingOrHub,
}

impl ExpectedKind {
    /// Whether `kind` is right.
    pub fn accepts(self, kind: PageKind) -> bool {
        match self {
            Self::Is(expected) => kind == expected,
            Self::ListingOrHub => matches!(kind, PageKind::Listing | PageKind::Hub),
        }
    }

    /// Whether any job told of the page is one too many.
    pub fn holds_no_job(self) -> bool {
        matches!(self, Self::Is(PageKind::Hub | PageKind::None))
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Is(PageKind::Posting) => "posting",
            Self::Is(PageKind::Listing) => "listing",
            Self::Is(PageKind::Hub) => "hub",
            Self::Is(PageKind::None) => "none",
            Self::ListingOrHub => "listing or hub",
        }
    }
}

/// A job of a listing's truth.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TruthJob {
    /// As on the page.
    pub title: Option<String>,
}

/// A line of `truth.jsonl`; of what a page is labelled with, only what is scored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TruthPage {
    /// Path in the corpus.
    pub file: String,
    /// Of a single posting.
    pub title: Option<String>,
    /// Employer.
    pub company: Option<String>,
    /// Places.
    pub locations: Option<Vec<String>>,
    /// Kind of contract.
    pub employment_type: Option<EmploymentType>,
    /// Remote or not.
    pub remote: Option<bool>,
    /// Pay.
    pub salary_min: Option<f64>,
    /// Pay.
    pub salary_max: Option<f64>,
    /// ISO 4217.
    pub salary_currency: Option<String>,
    /// Per what.
    pub salary_period: Option<SalaryPeriod>,
    /// ISO date.
    pub date_posted: Option<String>,
    /// Of a listing.
    pub jobs: Option<Vec<TruthJob>>,
    /// Of a listing.
    pub n_jobs: Option<usize>,
}

/// A page to be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct CorpusPage {
    /// Path in the corpus.
    pub file: String,
    /// For averages per site.
    pub site: String,
    /// Where it came from, where the index says so.
    pub url: Option<Url>,
    /// When it was fetched, where the index says so; relative dates are read against that day.
    pub fetched: Option<chrono::NaiveDate>,
    /// It has next to no visible text.
    pub is_shell: bool,
    /// Of the text, where the index says so.
    pub language: Option<String>,
    /// The kind of system it is from, where the index says so.
    pub ats_family: Option<String>,
    /// What it is.
    pub expected: ExpectedKind,
    /// Its labels, if it has any.
    pub truth: Option<TruthPage>,
}

/// All pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// In the index's order.
    pub pages: Vec<CorpusPage>,
}

impl Corpus {
    /// Reads index and truth.
    pub fn read(folder: &Path) -> Result<Self, AgentError> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map(|text| (path.clone(), text)).map_err(AgentError::io(path))
        };
        let (truth_path, truth_text) = text("truth.jsonl")?;
        let mut truth = HashMap::new();
        for (number, line) in truth_text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let page: TruthPage = serde_json::from_str(line).map_err(|e| AgentError::Corpus {
                path: truth_path.clone(),
                why: format!("line {}: {e}", number + 1),
            })?;
            truth.insert(page.file.clone(), page);
        }
        let (index_path, index_text) = text("index.tsv")?;
        let pages = parse_index(&index_path, &index_text, &mut truth)?;
        Ok(Self { pages })
    }

    /// The pages of a subset.
    pub fn select(&self, subset: Subset) -> Vec<&CorpusPage> {
        let is = |page: &&CorpusPage, kind| page.expected == ExpectedKind::Is(kind);
        match subset {
            Subset::All | Subset::Gate => self.pages.iter().collect(),
            Subset::Singles => self.pages.iter().filter(|page| is(page, PageKind::Posting)).collect(),
            Subset::SinglesWithText => {
                let has_text = |page: &&CorpusPage| is(page, PageKind::Posting) && !page.is_shell;
                self.pages.iter().filter(has_text).collect()
            }
            Subset::Listings => self.pages.iter().filter(|page| is(page, PageKind::Listing)).collect(),
            Subset::First(count) => self.pages.iter().take(count).collect(),
        }
    }
}

fn parse_index(
    path: &Path,
    text: &str,
    truth: &mut HashMap<String, TruthPage>,
) -> Result<Vec<CorpusPage>, AgentError> {
    static SOURCE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\burl=(https?://[^;\s]+)").expect("a constant pattern compiles"));
    static FETCHED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bfetched (\d{4}-\d\d-\d\d)").expect("a constant pattern compiles"));
    let bad = |why: String| AgentError::Corpus { path: path.to_path_buf(), why };
    let mut lines = text.lines();
    let heads: Vec<String> = cells(lines.next().ok_or_else(|| bad("is empty".to_owned()))?);
    let column = |name: &str| {
        heads.iter().position(|head| head == name).ok_or_else(|| bad(format!("has no column {name}")))
    };
    let (file, kind, site, note) = (column("file")?, column("kind")?, column("site")?, column("note")?);
    let shell = column("js_shell")?;
    let optional = |names: &[&str]| heads.iter().position(|head| names.contains(&head.as_str()));
    let (language, family) = (optional(&["language"]), optional(&["ats_family", "ats"]));
    let mut pages = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let row = cells(line);
        let cell = |index: usize| row.get(index).map_or("", String::as_str);
        if !cell(file).ends_with(".html") {
            continue;
        }
        let told = |index: Option<usize>| index.map(cell).filter(|cell| !cell.is_empty()).map(str::to_owned);
        let truth = truth.remove(cell(file));
        let expected = match (cell(kind), &truth) {
            ("single", Some(truth)) if truth.title.is_none() => ExpectedKind::Is(PageKind::None),
            ("single", _) => ExpectedKind::Is(PageKind::Posting),
            ("listing", Some(truth)) if job_count(truth) == 0 => ExpectedKind::Is(PageKind::Hub),
            ("listing", Some(_)) => ExpectedKind::Is(PageKind::Listing),
            ("listing", None) => ExpectedKind::ListingOrHub,
            ("not-a-posting", _) => ExpectedKind::Is(PageKind::None),
            (other, _) => return Err(bad(format!("unknown kind {other:?} of {}", cell(file)))),
        };
        let fetched = FETCHED.captures(cell(note)).and_then(|found| found[1].parse().ok());
        let url = SOURCE.captures(cell(note)).and_then(|found| Url::parse(&found[1]).ok());
        pages.push(CorpusPage {
            file: cell(file).to_owned(),
            site: cell(site).to_owned(),
            url,
            fetched,
            is_shell: cell(shell) == "y",
            language: told(language),
            ats_family: told(family),
            expected,
            truth,
        });
    }
    Ok(pages)
}

fn job_count(truth: &TruthPage) -> usize {
    truth.jobs.as_ref().map(Vec::len).or(truth.n_jobs).unwrap_or(0)
}

/// Tab-separated; a cell with quotes is quoted, its quotes doubled.
fn cells(line: &str) -> Vec<String> {
    line.split('\t')
        .map(|cell| match cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')) {
            Some(inner) => inner.replace("\"\"", "\""),
            None => cell.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_index_and_truth() {
        let folder = tempfile::tempdir().unwrap();
        let index = "file\tkind\tsite\tjs_shell\tnote\nhtml/1.html\tlisting\tA\tn\t\"url=https://a.example/x; \"\"q\"\"\"\n\
            html/2.html\tlisting\tA\tn\t\nhtml/3.html\tlisting\tA\tn\t\nhtml/4.html\tsingle\tB\tn\t\n\
            html/5.html\tsingle\tB\ty\t\nhtml/6.html\tnot-a-posting\tB\tn\t\njson/7.json\tapi\tB\t\t\n\
            html/8.html\tsingle\tB\ty\t\n";
        let truth = r#"{"file": "html/1.html", "jobs": []}
{"file": "html/2.html", "jobs": [{"title": "X", "url": "u"}]}
{"file": "html/4.html", "title": "T", "employment_type": "full_time", "salary_period": "year"}
{"file": "html/5.html", "title": null}
"#;
        std::fs::write(folder.path().join("index.tsv"), index).unwrap();
        std::fs::write(folder.path().join("truth.jsonl"), truth).unwrap();
        let corpus = Corpus::read(folder.path()).unwrap();
        let names: Vec<&str> = corpus.pages.iter().map(|page| page.expected.name()).collect();
        assert_eq!(names, ["hub", "listing", "listing or hub", "posting", "none", "none", "posting"]);
        assert_eq!(corpus.pages[0].url.as_ref().unwrap().as_str(), "https://a.example/x");
        assert_eq!(corpus.select(Subset::Singles).len(), 2);
        assert_eq!(corpus.select(Subset::SinglesWithText).len(), 1);
        assert_eq!(corpus.select(Subset::First(2)).len(), 2);
    }
}
