//! The question to the local model where structure leaves open what a page is: a digest of a few hundred tokens, and an
//! answer of one word.

use serde_json::{Value, json};

use crate::clean::Cleaned;
use crate::facts::lines;
use crate::listing::RecordGroup;
use crate::posting::PageKind;

/// Headings that are shown.
const HEADINGS_MAX: usize = 14;
/// Records that are shown.
const RECORDS_MAX: usize = 4;
/// First lines that are shown.
const LINES_MAX: usize = 8;
/// Characters of one line.
const LINE_CHARS_MAX: usize = 110;

/// What the model is told first, the same for every page.
pub const SYSTEM: &str = "You sort web pages. posting: the page is the advertisement of exactly one open job, with its \
tasks or requirements. listing: the page lists several open jobs by name. hub: the page is about working at a company, \
its people, benefits, events or how to apply, but names no open job itself. none: anything else. Answer with one JSON \
object.";

/// The schema of the answer.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["kind"],
        "properties": { "kind": { "enum": ["posting", "listing", "hub", "none"] } },
    })
}

/// What the model is shown of a page.
pub fn digest(cleaned: &Cleaned, groups: &[RecordGroup], address: &str) -> String {
    let mut text = format!("Address: {}\n", cut(address));
    let meta = &cleaned.meta;
    for (name, value) in [("Title", &meta.title), ("Description", &meta.description)] {
        if let Some(value) = value {
            text.push_str(&format!("{name}: {}\n", cut(value)));
        }
    }
    let lines = lines(&cleaned.markdown);
    let headings: Vec<&str> = lines.iter().filter(|line| line.level > 0).map(|line| line.text).collect();
    if !headings.is_empty() {
        text.push_str("Headings:\n");
        headings
            .iter()
            .take(HEADINGS_MAX)
            .for_each(|heading| text.push_str(&format!("- {}\n", cut(heading))));
    }
    text.push_str("First lines:\n");
    let first = lines.iter().filter(|line| line.level == 0).take(LINES_MAX);
    first.for_each(|line| text.push_str(&format!("- {}\n", cut(line.text))));
    if let Some(group) = groups.first().filter(|group| group.records.len() > 1) {
        text.push_str(&format!("{} repeated records, such as:\n", group.records.len()));
        for record in group.records.iter().take(RECORDS_MAX) {
            let fields: Vec<&str> = record.fields.iter().take(4).map(|field| field.text.as_str()).collect();
            text.push_str(&format!("- {}\n", cut(&fields.join(" | "))));
        }
    }
    text
}

fn cut(text: &str) -> String {
    text.chars().take(LINE_CHARS_MAX).collect()
}

/// The kind that the model answered.
pub fn read_answer(answer: &str) -> Option<PageKind> {
    #[derive(serde::Deserialize)]
    struct Answer {
        kind: PageKind,
    }
    serde_json::from_str::<Answer>(answer.trim()).ok().map(|answer| answer.kind)
}
