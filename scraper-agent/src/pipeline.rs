//! A page's whole way, on one screen; one type per stage.
//!
//! Seed → Found → Allowed → Fetched → Cleaned → Gated → Routed → Extracted → Verified → Deduped → Stored → Announced
//!
//! `Found` is a row of the queue (`store`), made from a seed (`seed`) or a link (`frontier`). [`allow`] and [`fetch`]
//! run in the fetching pool, [`read`] in the reading pool; the store removes duplicates while it stores, in one
//! transaction, and the run (`run.rs`) announces. A page that falls out anywhere comes to [`Done`] with the
//! reason, so every page that was found ends as exactly one result.

use std::sync::Arc;
use std::time::Instant;

use url::Url;

use crate::attempt::{Attempt, PageReport, PageResult, Refusal, Tokens};
use crate::config::ScrapingConfig;
use crate::extract::try_page::{Extraction, Outcome};
use crate::extract::{Resources, ask_kind};
use crate::fetch::{FetchError, FetchedPage, Fetcher, file};
use crate::frontier::{self, next_links};
use crate::gate::Absence;
use crate::posting::{PageKind, Posting};
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
    let page = match Url::parse(&found.source) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => fetcher.fetch(&url).await,
        _ => read_file(&found, config.body_bytes_max).await,
    };
    let error = match page {
        Ok(page) => return Ok(Fetched { found, page }),
        Err(error) => error,
    };
    let left_for_later = error.is_transient();
    let refusal = error.is_gone().then_some(Refusal::Gone);
    let later = if left_for_later { "; left for a later run" } else { "" };
    let mut done = fail(found, format!("{error}{later}"));
    (done.report.left_for_later, done.report.refusal) = (left_for_later, refusal);
    Err(done)
}

async fn read_file(found: &Found, bytes_max: usize) -> Result<FetchedPage, FetchError> {
    let path = std::path::PathBuf::from(&found.source);
    let read = tokio::task::spawn_blocking(move || file::read(&path, bytes_max)).await;
    read.unwrap_or_else(|error| Err(FetchError::File { path: found.source.clone(), why: error.to_string() }))
}

/// Fetched → Done, by way of all that needs no network but a model.
pub async fn read(resources: &Resources, Fetched { found, page }: Fetched, dry_run: bool) -> Done {
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
    let (reading, asked) = if dry_run { (reading, None) } else { ask_kind(resources, reading).await };
    let reading = Arc::new(reading);
    // Routed, extracted, verified: again and again until one try holds or no way is left.
    let mut extraction = Extraction::new(resources, &reading, dry_run);
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
    let links = links(&found, &reading, &outcome, &resources.config.scraping);
    let mut report = report(&found, &reading, outcome, attempts, started);
    report.left_for_later = local_server_failure.is_some();
    report.local_server_failure = local_server_failure;
    Done { found, report, links }
}

/// What a page leads to; a saved one leads nowhere.
fn links(found: &Found, reading: &Reading, outcome: &Outcome, config: &ScrapingConfig) -> Vec<Found> {
    if found.host.is_empty() {
        return Vec::new();
    }
    let from =
        frontier::From { url: reading.url(), kind: reading.kind(), depth: found.depth, paging: found.paging };
    let addresses = outcome.postings.iter().filter_map(|posting| posting.url.as_deref());
    let records: Vec<Url> = addresses.filter_map(|address| Url::parse(address).ok()).collect();
    next_links(from, reading.links(), &records, reading.ats_links(), config)
}

fn report(
    found: &Found,
    reading: &Reading,
    outcome: Outcome,
    attempts: Vec<Attempt>,
    started: Instant,
) -> PageReport {
    let mut outcome = outcome;
    outcome.postings.iter_mut().for_each(Posting::place);
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
        why: outcome.why,
        markdown_bytes: reading.markdown().len(),
        markdown: reading.markdown().to_owned(),
        refusal: refusal(reading),
        left_for_later: false,
        local_server_failure: None,
    }
}

/// What the gate's verdict means for the job that was to have this page.
fn refusal(reading: &Reading) -> Option<Refusal> {
    match (reading.kind(), reading.absence()) {
        (PageKind::Posting | PageKind::Listing, _) | (_, Some(Absence::Unreadable)) => None,
        (_, Some(Absence::Gone)) => Some(Refusal::Gone),
        (PageKind::None | PageKind::Hub, None) => Some(Refusal::NoPosting),
    }
}

/// A page that ends here.
pub fn fail(found: Found, why: String) -> Done {
    let report = PageReport::failed(found.source.clone(), found.why.clone(), why);
    Done { found, report, links: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal_of(html: &str) -> (PageKind, Option<Refusal>) {
        let page = FetchedPage {
            url: Url::parse("https://acme.example/jobs/pump-engineer-77").unwrap(),
            content_type: Some("text/html".into()),
            bytes: html.into(),
            fetched_at: chrono::Utc::now(),
            from_cache: false,
            redirects: 0,
        };
        let reading = Reading::of(&page);
        (reading.kind(), refusal(&reading))
    }

    #[test]
    fn what_a_page_says_of_its_job() {
        let words = "<p>We pump water out of harbours and into fields since 1950.</p>".repeat(8);
        let gone =
            format!("<title>Pump Engineer</title><h1>Pump Engineer</h1><p>This job has expired.</p>{words}");
        assert_eq!(refusal_of(&gone), (PageKind::None, Some(Refusal::Gone)));
        let other = format!("<title>Our history</title><h1>Our history</h1>{words}");
        assert_eq!(refusal_of(&other), (PageKind::None, Some(Refusal::NoPosting)));
        let hub = format!("<title>Careers</title><h1>Careers at Acme</h1>{words}");
        assert_eq!(refusal_of(&hub), (PageKind::Hub, Some(Refusal::NoPosting)));
        // These are refused as well, but it is the site that speaks, not the job.
        let blocked = "<title>Just a moment...</title><p>Enable JavaScript and cookies to continue</p>";
        assert_eq!(refusal_of(blocked), (PageKind::None, None));
        assert_eq!(refusal_of("<title>Acme</title><div id=app></div>"), (PageKind::None, None));
        let posting = include_str!("../sample-site/jobs/plain.html");
        assert_eq!(refusal_of(posting), (PageKind::Posting, None));
    }
}
