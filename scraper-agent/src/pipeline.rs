//! A page's whole way, on one screen; one type per stage.
//!
//! Seed → Found → Allowed → Fetched → Cleaned → Gated → Routed → Extracted → Verified → Deduped → Stored → Announced
//!
//! `Found` is a row of the queue (`store`), made from a seed (`seed`) or a link (`frontier`). [`allow`] and [`fetch`]
//! run in the fetching pool, [`read`] in the reading pool; the store removes duplicates while it stores, in one
//! transaction, and the run's driver (`agent`) announces. A page that falls out anywhere comes to [`Done`] with the
//! reason, so every page that was found ends as exactly one result.

use std::sync::Arc;
use std::time::Instant;

use crate::agent::Agent;
use crate::attempt::{Attempt, PageReport, PageResult, Tokens};
use crate::config::ScrapingConfig;
use crate::extract::ask_kind;
use crate::extract::try_page::{Extraction, Outcome};
use crate::fetch::{FetchedPage, Fetcher, file};
use crate::frontier::{self, next_links};
use crate::posting::PageKind;
use crate::reading::Reading;
use crate::route::{Way, decide};
use crate::store::Found;

/// A page that the run's budget still holds.
pub struct Allowed(Found);

/// A page as it came.
pub struct Fetched {
    /// Its row in the queue.
    pub found: Found,
    /// Its bytes.
    pub page: FetchedPage,
}

/// A page at its end, to be stored.
pub struct Done {
    /// Its row in the queue.
    pub found: Found,
    /// What came of it.
    pub report: PageReport,
    /// What it leads to.
    pub links: Vec<Found>,
}

/// Found → Allowed. Robots and addresses are checked for every hop while fetching.
pub fn allow(found: Found, bytes: u64, config: &ScrapingConfig) -> Result<Allowed, Done> {
    if bytes >= config.bytes_max {
        let why = format!("the run has read {bytes} bytes, scraping.bytes_max is {}", config.bytes_max);
        return Err(fail(found, why));
    }
    Ok(Allowed(found))
}

/// Allowed → Fetched.
pub async fn fetch(
    Allowed(found): Allowed,
    fetcher: &Fetcher,
    config: &ScrapingConfig,
) -> Result<Fetched, Done> {
    let page = match url::Url::parse(&found.source) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => fetcher.fetch(&url).await,
        _ => file::read(std::path::Path::new(&found.source), config.body_bytes_max),
    };
    match page {
        Ok(page) => Ok(Fetched { found, page }),
        Err(error) if error.is_transient() => {
            let mut done = fail(found, format!("{error}; left for a later run"));
            done.report.left_for_later = true;
            Err(done)
        }
        Err(error) => Err(fail(found, error.to_string())),
    }
}

/// Fetched → Done, by way of all that needs no network but a model.
pub async fn read(agent: &Arc<Agent>, Fetched { found, page }: Fetched, dry_run: bool) -> Done {
    let started = Instant::now();
    // Cleaned and gated: pure, a few milliseconds to a second of one core.
    let reading = match tokio::task::spawn_blocking(move || Reading::of(&page)).await {
        Ok(reading) => reading,
        Err(error) => {
            let why =
                if error.is_panic() { "this page made the reader panic" } else { "the reader was stopped" };
            return fail(found, why.to_owned());
        }
    };
    // Where structure leaves open what the page is, one question to the local model.
    let (reading, asked) = if dry_run { (reading, None) } else { ask_kind(agent, reading).await };
    let reading = Arc::new(reading);
    // Routed, extracted, verified: again and again until one try holds or no way is left.
    let mut extraction = Extraction::new(agent, &reading, dry_run);
    let outcome = loop {
        let decision = decide(&extraction.facts().await);
        match decision.way {
            Way::Stop => break extraction.give_up(decision.reason),
            Way::Structure => break extraction.structure(decision.reason),
            Way::Digest => extraction.digest(decision.reason).await,
            Way::Local if reading.kind() == PageKind::Listing => extraction.label(decision.reason).await,
            Way::Local => extraction.local(decision.reason).await,
            Way::Cloud => extraction.cloud(decision.reason).await,
            Way::Sections => extraction.sections(decision.reason).await,
        }
        if let Some(outcome) = extraction.take_outcome() {
            break outcome;
        }
        if let Some(why) = extraction.local_server_failure().map(str::to_owned) {
            break extraction.leave(&why);
        }
    };
    let local_server_failure = extraction.local_server_failure().map(str::to_owned);
    let attempts: Vec<Attempt> = asked.into_iter().chain(extraction.into_attempts()).collect();
    let links = {
        let from = frontier::From {
            url: reading.url(),
            kind: reading.kind(),
            depth: found.depth,
            paging: found.paging,
        };
        let records: Vec<url::Url> = outcome
            .postings
            .iter()
            .filter_map(|p| p.url.as_deref())
            .filter_map(|u| url::Url::parse(u).ok())
            .collect();
        let is_saved = found.host.is_empty();
        let config = &agent.config().scraping;
        if is_saved {
            Vec::new()
        } else {
            next_links(from, reading.links(), &records, reading.ats_links(), config)
        }
    };
    let mut report = report(&found, &reading, outcome, attempts, started);
    report.left_for_later = local_server_failure.is_some();
    report.local_server_failure = local_server_failure;
    Done { found, report, links }
}

fn report(
    found: &Found,
    reading: &Reading,
    outcome: Outcome,
    attempts: Vec<Attempt>,
    started: Instant,
) -> PageReport {
    let mut tokens = Tokens::default();
    attempts.iter().for_each(|attempt| tokens += attempt.tokens);
    let page = PageResult {
        source: found.source.clone(),
        kind: reading.kind(),
        route: outcome.route,
        reason: outcome.reason,
        tokens,
        seconds: started.elapsed().as_secs_f64(),
        // Adding to zero keeps an empty sum from printing as minus zero.
        cost_usd: attempts.iter().fold(0.0, |sum, attempt| sum + attempt.cost_usd),
        postings: outcome.postings,
        warnings: outcome.warnings,
    };
    PageReport {
        page,
        attempts,
        found: found.why.clone(),
        gate_reason: reading.gate_reason().to_owned(),
        markdown_bytes: reading.markdown().len(),
        left_for_later: false,
        local_server_failure: None,
    }
}

fn fail(found: Found, why: String) -> Done {
    let report = PageReport::failed(found.source.clone(), found.why.clone(), why);
    Done { found, report, links: Vec::new() }
}
