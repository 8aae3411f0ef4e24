//! Declared and extracted values as one posting: what the page declares wins, unless its text says otherwise.

use crate::facts::is_board;
use crate::gate::fold;
use crate::normalize;
use crate::posting::{Evidence, EvidenceSource, Posting};
use crate::structured::{DeclaredPosting, Structured};
use crate::verify::{PageView, Verified};

/// A field that a declared posting lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No title.
    Title,
    /// No employer.
    Company,
    /// No place, and not remote.
    Locations,
    /// The declared value and the text differ.
    Contradicted(&'static str),
}

/// Whether a declared posting needs no model: it says who, what and where, and the text does not disagree.
///
/// # Errors
/// What is missing or contradicted.
pub fn sufficient(declared: &DeclaredPosting, page: &PageView<'_>) -> Result<(), Vec<Missing>> {
    let posting = &declared.posting;
    let mut missing = Vec::new();
    if posting.title.is_none() {
        missing.push(Missing::Title);
    }
    if posting.company.is_none() {
        missing.push(Missing::Company);
    }
    if posting.locations.is_empty() && posting.remote != Some(true) {
        missing.push(Missing::Locations);
    }
    let readable = page.cleaned.visible_words >= 150;
    if readable && posting.company.as_deref().is_some_and(|c| is_slug(c) && page.prove(c).is_none()) {
        missing.push(Missing::Contradicted("company"));
    }
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// One token of lower-case letters and digits: an account's name rather than an employer's.
fn is_slug(name: &str) -> bool {
    name.len() > 3
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

/// The readings of one posting (JSON-LD, state, microdata) as one: the first with a value wins, but for places,
/// where the state is what the page shows.
pub fn combine(structured: &Structured) -> Option<DeclaredPosting> {
    let mut all = structured.postings.iter();
    let mut combined = all.next()?.clone();
    for other in all {
        if fold(other.posting.title.as_deref().unwrap_or(""))
            != fold(combined.posting.title.as_deref().unwrap_or(""))
        {
            continue;
        }
        let state = other.source == EvidenceSource::State;
        fill(&mut combined.posting, &other.posting, state);
    }
    Some(combined)
}

/// Fills what is empty; `better_places` replaces places and workplace.
fn fill(into: &mut Posting, from: &Posting, better_places: bool) {
    macro_rules! take {
        ($($field:ident),*) => {$(
            if into.$field.is_none() && from.$field.is_some() {
                into.$field.clone_from(&from.$field);
                if let Some(evidence) = from.evidence.get(stringify!($field)) {
                    into.evidence.insert(stringify!($field).to_owned(), evidence.clone());
                }
            }
        )*};
    }
    take!(
        title,
        company,
        workplace,
        remote,
        employment_type,
        seniority,
        salary,
        date_posted,
        valid_through,
        apply_url,
        url,
        description,
        language
    );
    if !from.locations.is_empty() && (into.locations.is_empty() || better_places) {
        into.locations.clone_from(&from.locations);
        if let Some(evidence) = from.evidence.get("locations") {
            into.evidence.insert("locations".into(), evidence.clone());
        }
    }
    if into.skills.is_empty() && !from.skills.is_empty() {
        into.skills.clone_from(&from.skills);
        if let Some(evidence) = from.evidence.get("skills") {
            into.evidence.insert("skills".into(), evidence.clone());
        }
    }
}

/// The final posting. Either part may be absent, not both.
pub fn merge(
    declared: Option<&DeclaredPosting>,
    verified: Option<&Verified>,
    page: &PageView<'_>,
) -> Posting {
    let mut posting = declared.map(|d| d.posting.clone()).unwrap_or_default();
    let slug = posting.company.as_deref().is_some_and(is_slug);
    if let Some(verified) = verified {
        if slug && verified.posting.company.is_some() {
            posting.company = None;
            posting.evidence.remove("company");
        }
        fill(&mut posting, &verified.posting, false);
    }
    if posting.company.is_none()
        && let Some(site) =
            page.cleaned.meta.site_name.clone().filter(|s| s.chars().count() < 60 && !is_board(s))
        && declared.is_none()
        && page.text.find(&site).is_some()
    {
        posting.evidence.insert("company".into(), page.prove(&site).into_iter().collect());
        posting.company = Some(site);
    }
    if posting.description.is_none() {
        posting.description = section(page, posting.title.as_deref());
    }
    if posting.language.is_none() {
        posting.language = normalize::language(&page.cleaned.markdown);
    }
    posting
}

/// The page's own section: from the title on.
fn section(page: &PageView<'_>, title: Option<&str>) -> Option<String> {
    let text = &page.cleaned.markdown;
    let start = title.and_then(|t| page.text.find(t)).map_or(0, |(start, _)| start);
    let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let body = text[from..].trim();
    (body.split_whitespace().count() >= 20).then(|| body.to_owned())
}

/// Evidence for a value of a listing: its text on the page.
pub fn prove_listing(posting: &mut Posting, page: &PageView<'_>) {
    let title = posting.title.as_deref().and_then(|t| page.prove(t));
    let place = posting.locations.first().and_then(|l| page.prove(l));
    let mut put = |field: &str, evidence: Option<Evidence>| {
        if let Some(evidence) = evidence {
            posting.evidence.insert(field.to_owned(), vec![evidence]);
        }
    };
    put("title", title);
    put("locations", place);
}
