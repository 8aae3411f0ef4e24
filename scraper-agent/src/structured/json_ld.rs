//! `<script type="application/ld+json">`: every JobPosting, wherever it is nested.

use scraper::Selector;
use serde_json::Value;

use super::{POSTINGS_MAX, Structured, lenient, schema_org};
use crate::document::Document;
use crate::posting::EvidenceSource;

pub fn read(document: &Document, out: &mut Structured) {
    let Ok(selector) = Selector::parse("script[type*='ld+json']") else { return };
    for (index, script) in document.html.select(&selector).enumerate() {
        let text: String = script.text().collect();
        let Some(value) = lenient::parse(&text) else {
            out.notes.push(format!("JSON-LD script {index} is no JSON"));
            continue;
        };
        // (value, pointer); own stack, so that depth costs nothing.
        let mut stack = vec![(&value, format!("/{index}"))];
        while let Some((value, pointer)) = stack.pop() {
            match value {
                Value::Array(items) => {
                    stack.extend(items.iter().enumerate().rev().map(|(i, v)| (v, format!("{pointer}/{i}"))));
                }
                Value::Object(fields) => {
                    if schema_org::is(value, "ItemList") {
                        out.is_list = true;
                    }
                    if schema_org::is(value, "JobPosting") && out.postings.len() < POSTINGS_MAX {
                        let read = schema_org::posting(value, &pointer, EvidenceSource::JsonLd, document);
                        out.postings.extend(read);
                        continue;
                    }
                    stack.extend(fields.iter().map(|(key, v)| (v, format!("{pointer}/{key}"))));
                }
                _ => {}
            }
        }
    }
}
