//! Measuring the agent on a folder of labelled real pages: `index.tsv`, `truth.jsonl`, `html/`.
//!
//! Rules of comparison (`compare.rs`): titles are equal after NFKC, case, punctuation and gender marks, or one
//! contains the other and is at least three fifths of it; companies are equal without legal forms, or contain each other by
//! whole words; places agree if any place shares a city; pay agrees if both bounds are within half a percent and
//! currency and period, where both are given, are equal; the rest is equality. A field is scored where the truth has
//! a value; a value where the truth is silent is counted apart, for the truth is not complete there. Kinds: a
//! labelled listing without a job is a hub, an unlabelled one may be listing or hub, a posting's empty shell is none.
//! Invented is a value that stands nowhere in what the page shows or declares for that job (`invented/`). With
//! `ablate` the same pages are read again with something taken away (`ablate.rs`).

mod ablate;
mod chrome;
mod compare;
mod corpus;
mod fields;
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
use crate::fetch::{FetchError, FetchedPage, file};

pub use ablate::{Variation, ablate};
pub use compare::words;
pub use corpus::{Corpus, CorpusPage, ExpectedKind, TruthJob, TruthPage};
pub use invented::{Checked, PageContent};
pub use report::text_tables;
pub use score::{Ablation, EvalReport, FieldScore, GateScore, JobCounts, ListingScore, PageScore};

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
    /// Reads the pages once more for each [`Variation`].
    pub ablate: bool,
}

/// A line of the pages file.
#[derive(Serialize, Deserialize)]
struct FinishedPage {
    file: String,
    #[serde(default)]
    variation: Option<Variation>,
    report: PageReport,
}

/// Reports by page and what was changed in it.
type Finished = HashMap<(String, Option<Variation>), PageReport>;

/// Runs the pipeline over the corpus and scores it. `progress` hears of each finished page.
pub async fn run(
    folder: &Path,
    agent: &Arc<Agent>,
    options: &EvalOptions,
    progress: &(dyn Fn(usize, usize, &PageReport) + Sync),
) -> Result<EvalReport, AgentError> {
    let corpus = Corpus::read(folder)?;
    let pages = corpus.select(options.subset);
    let mut variations = vec![None];
    if options.ablate {
        variations.extend(Variation::ALL.map(Some));
    }
    let finished = match &options.pages_file {
        Some(path) if options.resume => read_finished(path)?,
        _ => HashMap::new(),
    };
    let log = options.pages_file.as_ref().map(|path| open_log(path, options.resume)).transpose()?;
    let total = pages.len() * variations.len();
    let mut run =
        Run { folder, agent, dry_run: options.subset == Subset::Gate, finished, log, total, progress };
    let mut report = EvalReport::default();
    for variation in variations {
        let measured = run.measure(&pages, variation).await?;
        match variation {
            None => report = measured,
            Some(variation) => report.ablations.push(Ablation { variation, report: measured }),
        }
    }
    Ok(report)
}

struct Run<'a> {
    folder: &'a Path,
    agent: &'a Arc<Agent>,
    dry_run: bool,
    finished: Finished,
    log: Option<(PathBuf, std::fs::File)>,
    total: usize,
    progress: &'a (dyn Fn(usize, usize, &PageReport) + Sync),
}

impl Run<'_> {
    /// Every page in one variation.
    async fn measure(
        &mut self,
        pages: &[&CorpusPage],
        variation: Option<Variation>,
    ) -> Result<EvalReport, AgentError> {
        let config = &self.agent.config().scraping;
        let bytes_max = config.body_bytes_max;
        let is_todo = |page: &&&CorpusPage| !self.finished.contains_key(&(page.file.clone(), variation));
        let todo: Vec<CorpusPage> = pages.iter().filter(is_todo).map(|page| (*page).clone()).collect();
        let mut results = futures::stream::iter(todo.into_iter().map(|page| {
            let agent = Arc::clone(self.agent);
            let folder = self.folder.to_owned();
            let dry_run = self.dry_run;
            async move {
                let report = match read_page(&folder, &page, variation, bytes_max) {
                    Ok(fetched) => agent.process(&page.file, "corpus", fetched, dry_run).await,
                    Err(error) => {
                        PageReport::failed(page.file.clone(), "corpus".to_owned(), error.to_string())
                    }
                };
                (page.file, report)
            }
        }))
        .buffer_unordered(config.extractions_in_flight);
        while let Some((file, report)) = results.next().await {
            if let Some((path, log)) = &mut self.log {
                let line = FinishedPage { file: file.clone(), variation, report: report.clone() };
                let mut json = serde_json::to_vec(&line)
                    .map_err(|source| AgentError::Stored { what: "evaluation page", source })?;
                json.push(b'\n');
                log.write_all(&json).map_err(AgentError::io(path.as_path()))?;
            }
            self.finished.insert((file, variation), report.clone());
            (self.progress)(self.finished.len().min(self.total), self.total, &report);
        }
        drop(results);
        let mut report = EvalReport::default();
        for page in pages {
            let Some(result) = self.finished.get(&(page.file.clone(), variation)) else { continue };
            // A page that could not be read was reported as such and told no value.
            if let Ok(fetched) = read_page(self.folder, page, variation, bytes_max) {
                report.add(page, result, &PageContent::read(&fetched));
            } else {
                report.failures.push(format!("{}: {}", page.file, result.page.reason));
            }
        }
        report.finish();
        Ok(report)
    }
}

/// A page of the corpus as a crawler would have brought it, changed where that is asked for.
fn read_page(
    folder: &Path,
    page: &CorpusPage,
    variation: Option<Variation>,
    bytes_max: usize,
) -> Result<FetchedPage, FetchError> {
    let mut fetched = file::read(&folder.join(&page.file), bytes_max)?;
    // The corpus says where a page came from; a crawler would know.
    if let Some(url) = &page.url {
        fetched.url = url.clone();
    }
    if let Some(day) = page.fetched.and_then(|day| day.and_hms_opt(12, 0, 0)) {
        fetched.fetched_at = day.and_utc();
    }
    if let Some(variation) = variation {
        let html = crate::clean::decode(&fetched.bytes, None);
        fetched.bytes = ablate(&html, variation, &page.file).into_bytes();
        // The page may still name the charset in which it was.
        fetched.content_type = Some("text/html; charset=utf-8".to_owned());
    }
    Ok(fetched)
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
fn read_finished(path: &Path) -> Result<Finished, AgentError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(AgentError::io(path)(error)),
    };
    let mut finished = HashMap::new();
    for line in std::io::BufReader::new(file).lines() {
        let line = line.map_err(AgentError::io(path))?;
        if let Ok(page) = serde_json::from_str::<FinishedPage>(&line) {
            finished.insert((page.file, page.variation), page.report);
        }
    }
    Ok(finished)
}
