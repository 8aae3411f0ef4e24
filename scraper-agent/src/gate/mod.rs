//! What a page is, decided before any model extracts: posting, listing, hub, or none of these.
//!
//! What the page declares decides where the page is about it. Else structure is scored ([`signals`], [`score`]); words only
//! add. Where the margin is small the decision says so ([`Gate::is_close`]), and the local model is asked one question over
//! a digest ([`question`]).

mod question;
mod score;
mod signals;

use url::Url;

use crate::ats;
use crate::clean::Cleaned;
use crate::document::Document;
use crate::job_title::{is_general, reads_like_job};
use crate::listing::RecordGroup;
use crate::page::fold;
use crate::posting::PageKind;
use crate::structured::Structured;
use crate::words::{List, Text};

pub use question::{QUESTION, SAMPLES, SYSTEM, digest, read_answer, schema};
pub use signals::{Signals, signals};

/// Under this many visible words a page without state is an empty shell.
pub const SHELL_WORDS: usize = 40;
/// Records that make a listing by their number.
pub const LISTING_RECORDS_MIN: usize = 4;
/// Share of a page's text that a few records must have to be what it is about.
const FEW_RECORDS_PERCENT: usize = 5;
/// A page of fewer characters says one thing.
const SHORT_CHARS: usize = 3_000;
/// Words of a block page at most.
const BLOCK_WORDS_MAX: usize = 150;
/// Words and characters of a line that says that a job is gone.
const CLOSED_WORDS_MAX: usize = 24;
const CLOSED_CHARS_MAX: usize = 160;
/// Lines in which a page says first what it is.
const HEAD_LINES: usize = 12;

/// Links to applicant tracking systems that are looked at.
const ATS_LINKS_MAX: usize = 50;

/// Why a page without a job is without one, where that says something of the job that was to be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The page says that the job is gone.
    Gone,
    /// The site refused this visit, or the page holds nothing to read: it says nothing of the job.
    Unreadable,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// What the page is.
    pub kind: PageKind,
    /// Why, for people.
    pub reason: String,
    /// Why there is no job, where that says something of one.
    pub absence: Option<Absence>,
    /// Another kind is nearly as likely.
    pub is_close: bool,
    /// The page is about the posting that it declares.
    pub is_declared: bool,
    /// Boards of applicant tracking systems that it links to.
    pub ats_links: Vec<Url>,
}

/// Decides.
pub fn judge(
    url: &Url,
    document: &Document,
    cleaned: &Cleaned,
    structured: &Structured,
    groups: &[RecordGroup],
) -> Gate {
    let ats_links = ats_links(document);
    let has_ats = !ats_links.is_empty();
    let Verdict { kind, reason, is_close, absence } =
        kind_of(url, document, cleaned, structured, groups, has_ats);
    let is_declared = kind == PageKind::Posting
        && (is_of_this_page(structured, cleaned) || is_headed_by_declared(structured, cleaned));
    Gate { kind, reason: reason.to_owned(), absence, is_close, is_declared, ats_links }
}

/// What a page is, and how sure that is.
struct Verdict {
    kind: PageKind,
    reason: &'static str,
    is_close: bool,
    absence: Option<Absence>,
}

fn kind_of(
    url: &Url,
    document: &Document,
    cleaned: &Cleaned,
    structured: &Structured,
    groups: &[RecordGroup],
    has_ats: bool,
) -> Verdict {
    const GONE: &str = "expired: the page says that the job is gone";
    const FEW: &str = "a few records, each of which names a job and leads to it or states a fact of it";
    let close = |kind, reason, is_close| Verdict { kind, reason, is_close, absence: None };
    let sure = |kind, reason| close(kind, reason, false);
    let without = |reason, absence| Verdict { absence: Some(absence), ..sure(PageKind::None, reason) };
    if is_blocked(cleaned) {
        return without("a block page: the site refused this visit", Absence::Unreadable);
    }
    if structured.expired && structured.postings.is_empty() && structured.listing.is_empty() {
        return without("expired: the page's state names no posting any more", Absence::Gone);
    }
    // Two readings of one posting are one posting.
    let declared = distinct_titles(structured);
    let is_own = declared == 1 && !structured.is_list && is_of_this_page(structured, cleaned);
    if says_gone(cleaned, signals::can_apply(document)) && structured.listing.is_empty() && declared <= 1 {
        return without(GONE, Absence::Gone);
    }
    if is_own {
        return sure(PageKind::Posting, "declares one job posting that the page is about");
    }
    if structured.listing.len() >= LISTING_RECORDS_MIN || declared > 1 {
        return sure(PageKind::Listing, "the page's state lists jobs");
    }
    if cleaned.visible_words < SHELL_WORDS && structured.listing.is_empty() {
        if signals::are_evident(groups) {
            return sure(PageKind::Listing, FEW);
        }
        return if has_ats {
            sure(PageKind::Hub, "a shell that only links to a job board")
        } else {
            without("an empty shell: no text and no state to read", Absence::Unreadable)
        };
    }
    if !structured.listing.is_empty() {
        return sure(PageKind::Listing, "the page's state lists jobs");
    }
    let signals = signals(url, document, cleaned, groups);
    if signals.records < LISTING_RECORDS_MIN
        && is_short(cleaned)
        && Text::new(&cleaned.markdown).has(List::Empty)
    {
        return sure(PageKind::None, "an empty search");
    }
    let scores = score::scores(&signals);
    match scores.kind() {
        score::Likely::Posting => {
            close(PageKind::Posting, "one heading with the marks of a posting", scores.is_close())
        }
        score::Likely::Listing => {
            close(PageKind::Listing, "repeated records that lead to jobs", scores.is_close())
        }
        score::Likely::Neither
            if signals.records > 0
                && signals.records_percent >= FEW_RECORDS_PERCENT
                && signals::are_evident(groups) =>
        {
            close(PageKind::Listing, FEW, scores.is_close())
        }
        score::Likely::Neither if has_ats || signals.is_about_jobs => {
            close(PageKind::Hub, "about jobs, but holds none itself", scores.is_close())
        }
        score::Likely::Neither => close(PageKind::None, "not about jobs", scores.is_close()),
    }
}

fn is_short(cleaned: &Cleaned) -> bool {
    cleaned.markdown.chars().count() < SHORT_CHARS
}

fn is_blocked(cleaned: &Cleaned) -> bool {
    let title = cleaned.meta.title.as_deref().unwrap_or("");
    Text::new(title).has(List::Blocked)
        || cleaned.visible_words < BLOCK_WORDS_MAX && Text::new(&cleaned.markdown).has(List::Blocked)
}

/// Whether the page says of its own job that it is gone: in its title or a heading, or, where nothing can be applied for,
/// in a short line of its head. The same words elsewhere are about something else ("applications for 2025 are closed").
fn says_gone(cleaned: &Cleaned, can_apply: bool) -> bool {
    let title = cleaned.meta.title.as_deref().unwrap_or("");
    if Text::new(title).has(List::Closed) {
        return true;
    }
    let lines = crate::facts::lines(&cleaned.markdown);
    let is_short_page = is_short(cleaned) && cleaned.visible_words < BLOCK_WORDS_MAX;
    let heads = lines.iter().enumerate().filter(|(at, line)| {
        let is_statement = line.text.split_whitespace().count() <= CLOSED_WORDS_MAX
            && line.text.chars().count() <= CLOSED_CHARS_MAX;
        let is_heading = (1..3).contains(&line.level);
        is_statement && (is_heading || !can_apply && (*at < HEAD_LINES || is_short_page))
    });
    heads.map(|(_, line)| Text::new(line.text)).any(|text| text.has(List::Closed))
}

/// A declared description of this length is a posting's own.
const FULL_DESCRIPTION_BYTES: usize = 300;
/// A declared description shorter than this says nothing.
const DESCRIPTION_BYTES_MIN: usize = 80;

/// A declared posting can be a decoy: its title must stand on the page, or the page must be a shell.
fn is_of_this_page(structured: &Structured, cleaned: &Cleaned) -> bool {
    let Some(declared) = structured.postings.first() else { return false };
    let posting = &declared.posting;
    let description = posting.description.as_deref().map_or(0, str::len);
    if description < DESCRIPTION_BYTES_MIN && posting.locations.is_empty() {
        return false;
    }
    let title = posting.title.as_deref().unwrap_or("");
    let folded = fold(title);
    // "Join our mission" is declared to be found by search engines; nobody can do that job.
    if folded.is_empty() || is_general(title) && !reads_like_job(title) {
        return false;
    }
    // A page that names the job nowhere in its head still is about it, if it says so in the text and at length.
    let page_title = cleaned.meta.title.as_deref().unwrap_or("");
    let about_jobs = Text::new(page_title).has(List::Jobs);
    // What a careers page declares, and neither its title nor any word for a job bears out, is there for search engines.
    if about_jobs && !reads_like_job(title) && !fold(page_title).contains(&folded) {
        return false;
    }
    if description >= FULL_DESCRIPTION_BYTES && !about_jobs && fold(&cleaned.markdown).contains(&folded) {
        return true;
    }
    // Some sites head a posting by a lower heading.
    let heads_a_part = |line: &str| line.starts_with('#') && fold(line) == folded;
    if !about_jobs && cleaned.markdown.lines().any(heads_a_part) {
        return true;
    }
    let heads = cleaned.headings.iter().chain(&cleaned.meta.title).chain(&cleaned.meta.og_title);
    cleaned.visible_words < SHELL_WORDS * 4
        || heads.into_iter().any(|head| {
            let head = fold(head);
            head.contains(&folded) || head.len() > 8 && folded.contains(&head)
        })
}

/// Whether a first-level heading is the declared title: however little is declared, it is of this job.
fn is_headed_by_declared(structured: &Structured, cleaned: &Cleaned) -> bool {
    let title = structured.postings.first().and_then(|declared| declared.posting.title.as_deref());
    let title = title.map(fold).filter(|title| !title.is_empty());
    title.is_some_and(|title| cleaned.headings.iter().any(|heading| fold(heading) == title))
}

fn distinct_titles(structured: &Structured) -> usize {
    let titles =
        structured.postings.iter().map(|declared| fold(declared.posting.title.as_deref().unwrap_or("")));
    titles.collect::<std::collections::HashSet<_>>().len()
}
/// Boards of known systems that links, frames and scripts lead to.
fn ats_links(document: &Document) -> Vec<Url> {
    let Ok(selector) = scraper::Selector::parse("a[href], iframe[src], script[src]") else {
        return Vec::new();
    };
    let mut found: Vec<Url> = Vec::new();
    for element in document.html.select(&selector) {
        let address = element.value().attr("href").or_else(|| element.value().attr("src")).unwrap_or("");
        let Some(url) = document.resolve(address).filter(|url| ats::tenant(url).is_some()) else { continue };
        if found.len() < ATS_LINKS_MAX && !found.contains(&url) {
            found.push(url);
        }
    }
    found
}
