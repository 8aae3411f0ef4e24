//! Measuring the agent on a folder of labelled real pages: `index.tsv`, `truth.jsonl`, `html/`.
//!
//! Rules of comparison (`compare.rs`): titles are equal after NFKC, case, punctuation and gender marks, or one
//! contains the other and is at least three fifths of it; companies are equal without legal forms, or contain each other by
//! whole words; places agree if any place shares a city; pay agrees if both bounds are within half a percent and
//! currency and period, where both are given, are equal; the rest is equality. A field is scored where the truth has
//! a value; a value where the truth is silent is counted apart, for the truth is not complete there. Kinds: a
//! labelled listing without a job is a hub, an unlabelled one may be listing or hub, a posting's empty shell is none.
//! Invented is a value of which a word, or a figure, is nowhere in the page's source.

mod compare;
mod corpus;
mod invented;
mod report;
mod score;

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::attempt::PageReport;
use crate::error::AgentError;
use crate::fetch::file;

pub use corpus::{Corpus, CorpusPage, ExpectedKind, TruthJob, TruthPage};
pub use report::text_tables;
pub use score::{EvalReport, FieldScore, GateScore, ListingScore, PageScore};

/// Which pages are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    /// All.
    All,
    /// Single postings.
    Singles,
    /// Single postings whose pages have visible text.
    SinglesWithText,
    /// Listings with a truth that holds jobs.
    Listings,
    /// All, but no model is asked: only what pages are.
    Gate,
    /// The first so many.
    First(usize),
}

impl std::str::FromStr for Subset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "singles" => Ok(Self::Singles),
            "singles-with-text" => Ok(Self::SinglesWithText),
            "listings" => Ok(Self::Listings),
            "gate" => Ok(Self::Gate),
            other => match other.parse() {
                Ok(count) if count > 0 => Ok(Self::First(count)),
                _ => Err(format!(
                    "{other:?} is none of all, singles, singles-with-text, listings, gate, or a number of pages"
                )),
            },
        }
    }
}

/// What to measure and how.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Which pages.
    pub subset: Subset,
    /// Finished pages are appended here as JSON lines.
    pub pages_file: Option<PathBuf>,
    /// Pages that the file already holds are not read again.
    pub resume: bool,
}

/// A line of the pages file.
#[derive(Serialize, Deserialize)]
struct FinishedPage {
    file: String,
    report: PageReport,
}

/// Runs the pipeline over the corpus and scores it. `progress` hears of each finished page.
pub async fn run(
    folder: &Path,
    agent: &Arc<Agent>,
    options: &EvalOptions,
    progress: &(dyn Fn(usize, usize, &PageReport) + Sync),
) -> Result<EvalReport, AgentError> {
    let corpus = Corpus::read(folder)?;
    let pages = corpus.select(options.subset);
    let mut finished = match &options.pages_file {
        Some(path) if options.resume => read_finished(path)?,
        _ => HashMap::new(),
    };
    let mut log = options.pages_file.as_ref().map(|path| open_log(path, options.resume)).transpose()?;
    let todo: Vec<&CorpusPage> =
        pages.iter().copied().filter(|page| !finished.contains_key(&page.file)).collect();
    let total = pages.len();
    let dry_run = options.subset == Subset::Gate;
    let in_flight = agent.config().scraping.extractions_in_flight;
    let mut results = futures::stream::iter(todo.into_iter().map(|page| {
        let agent = Arc::clone(agent);
        let path = folder.join(&page.file);
        let (name, url) = (page.file.clone(), page.url.clone());
        async move {
            let report = match file::read(&path, agent.config().scraping.body_bytes_max) {
                Ok(mut fetched) => {
                    // The corpus says where a page came from; a crawler would know.
                    if let Some(url) = url {
                        fetched.url = url;
                    }
                    agent.process(&name, "corpus", fetched, dry_run).await
                }
                Err(error) => PageReport::failed(name.clone(), "corpus".to_owned(), error.to_string()),
            };
            (name, report)
        }
    }))
    .buffer_unordered(in_flight);
    while let Some((file, report)) = results.next().await {
        if let Some((path, log)) = &mut log {
            let line = FinishedPage { file: file.clone(), report: report.clone() };
            let mut json = serde_json::to_vec(&line)
                .map_err(|source| AgentError::Stored { what: "evaluation page", source })?;
            json.push(b'\n');
            log.write_all(&json).map_err(AgentError::io(path.as_path()))?;
        }
        finished.insert(file, report.clone());
        progress(finished.len().min(total), total, &report);
    }
    drop(results);
    let mut report = EvalReport::default();
    for page in pages {
        let Some(result) = finished.get(&page.file) else { continue };
        let path = folder.join(&page.file);
        let source = std::fs::read(&path).map_err(AgentError::io(&path))?;
        report.add(page, result, &source);
    }
    report.finish();
    Ok(report)
}

fn open_log(path: &Path, append: bool) -> Result<(PathBuf, std::fs::File), AgentError> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).write(true);
    if append {
        options.append(true)
    } else {
        options.truncate(true)
    };
    Ok((path.to_owned(), options.open(path).map_err(AgentError::io(path))?))
}

/// A last line cut off by a kill is left out; its page is read again.
fn read_finished(path: &Path) -> Result<HashMap<String, PageReport>, AgentError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(AgentError::io(path)(error)),
    };
    let mut finished = HashMap::new();
    for line in std::io::BufReader::new(file).lines() {
        let line = line.map_err(AgentError::io(path))?;
        if let Ok(page) = serde_json::from_str::<FinishedPage>(&line) {
            finished.insert(page.file, page.report);
        }
    }
    Ok(finished)
}
