//! What a page declares of itself: JSON-LD, microdata, embedded state. Costs no token.
//!
//! Declared is not true: placeholders are dropped here; what the text contradicts is dropped in `merge`.

mod json_ld;
mod lenient;
mod microdata;
mod schema_org;
mod state;

use serde_json::Value;

use crate::document::{Document, unescape};
use crate::posting::{EvidenceSource, Posting};

/// Postings read from one page at most.
pub const POSTINGS_MAX: usize = 2_000;

/// A posting as the page declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredPosting {
    /// The fields, each with its evidence.
    pub posting: Posting,
    /// Where they come from.
    pub source: EvidenceSource,
}

/// Everything a page declares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Structured {
    /// Full postings (with a description), richest source first.
    pub postings: Vec<DeclaredPosting>,
    /// Entries of a list of jobs (no descriptions).
    pub listing: Vec<DeclaredPosting>,
    /// An `ItemList` or a job board's state is there.
    pub is_list: bool,
    /// Jobs of the whole board, where the state says.
    pub total_on_site: Option<usize>,
    /// The state names a posting that is gone.
    pub expired: bool,
    /// What was odd.
    pub notes: Vec<String>,
}

/// Reads all sources.
pub fn read(document: &Document) -> Structured {
    let mut structured = Structured::default();
    json_ld::read(document, &mut structured);
    microdata::read(document, &mut structured);
    state::read(document, &mut structured);
    structured.postings.truncate(POSTINGS_MAX);
    structured.listing.truncate(POSTINGS_MAX);
    structured
}

/// HTML in a JSON string, perhaps escaped once more, as markdown.
pub(crate) fn html_to_markdown(html: &str, document: &Document) -> String {
    let mut text = html.to_owned();
    for _ in 0..2 {
        if text.contains('<') || !text.contains("&lt;") {
            break;
        }
        text = unescape(&text).into_owned();
    }
    if !text.contains('<') {
        return text.split('\n').map(crate::document::collapse).collect::<Vec<_>>().join("\n");
    }
    let fragment = Document::parse(&text, &document.base);
    crate::clean::clean(&fragment).markdown
}

/// Plain text of a value that may hold entities.
pub(crate) fn plain(text: &str) -> String {
    crate::document::collapse(&unescape(&unescape(text)))
}

/// A string or number of an object.
pub(crate) fn string(value: &Value, key: &str) -> Option<String> {
    match value.get(key)? {
        Value::String(s) => Some(plain(s)).filter(|s| !s.is_empty()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// A number, also where it is written as a string.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.trim().replace([',', ' ', '\u{a0}'], "").parse().ok(),
        _ => None,
    }
    .filter(|n: &f64| n.is_finite() && *n > 0.0)
}
