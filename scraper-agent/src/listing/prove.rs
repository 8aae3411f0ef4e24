//! Where each record's values stand in the cleaned text: each record's own place, not the first equal string.
//!
//! Records come in the order of the text, so each is looked for behind the one before it, and the stretch that carries the
//! number of the record's own link is preferred to one that does not.

use crate::page::PageView;
use crate::posting::{Evidence, EvidenceSource, Posting};

/// Adds evidence of title, places and employer to records in the page's order.
pub fn prove(postings: &mut [Posting], page: &PageView<'_>) {
    let mut from = 0;
    for posting in postings {
        let Some(title) = posting.title.clone() else { continue };
        let number = posting.url.as_deref().or(posting.apply_url.as_deref()).and_then(|url| {
            page.cleaned.links.iter().find(|link| link.url.as_str() == url).map(|link| link.number)
        });
        let Some((start, end)) = own_place(page, &title, number, from) else {
            posting.evidence.extend(page.prove(&title).map(|evidence| ("title".to_owned(), vec![evidence])));
            continue;
        };
        put(posting, "title", start, end);
        // Other values stand beside the title, mostly behind it.
        let (line, until) = around(&page.cleaned.markdown, start);
        let near = |value: &str| page.span_from(value, line).filter(|(at, _)| *at < until);
        let places: Vec<_> = posting.locations.iter().filter_map(|place| near(place)).collect();
        if let Some((start, end)) = places.first() {
            put(posting, "locations", *start, *end);
        }
        if let Some((start, end)) = posting.company.clone().and_then(|company| near(&company)) {
            put(posting, "company", start, end);
        }
        from = end;
    }
}

fn put(posting: &mut Posting, field: &str, start: usize, end: usize) {
    let evidence =
        Evidence { source: EvidenceSource::Text, pointer: None, start: Some(start), end: Some(end) };
    posting.evidence.insert(field.to_owned(), vec![evidence]);
}

/// Places of one title that are looked at.
const PLACES_MAX: usize = 40;
/// Bytes behind a title in which its link's number stands.
const NUMBER_BYTES: usize = 400;
/// Bytes around a title in which its record's other values stand.
const BEFORE_BYTES: usize = 300;
const BEHIND_BYTES: usize = 1_500;

fn own_place(page: &PageView<'_>, title: &str, number: Option<usize>, from: usize) -> Option<(usize, usize)> {
    let markdown = &page.cleaned.markdown;
    let mut first = None;
    let mut at = from;
    for _ in 0..PLACES_MAX {
        let Some((start, end)) = page.span_from(title, at) else { break };
        first = first.or(Some((start, end)));
        let until = floor(markdown, end + NUMBER_BYTES);
        // The number stands on the title's line, or at the end of a link around the whole record; of several places
        // before it the last is the record's.
        let is_own = match (number, next_number(&markdown[end..until])) {
            (None, _) => true,
            (Some(own), Some((number, behind))) => {
                let again = page.span_from(title, end).is_some_and(|(next, _)| next < end + behind);
                own == number && !again
            }
            (Some(_), None) => false,
        };
        if is_own {
            return Some((start, end));
        }
        at = end;
    }
    first
}

/// The first link number in a text, and the byte at which it stands.
fn next_number(text: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    while let Some(open) = text[at..].find(" [") {
        at += open + 2;
        let rest = &text[at..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && rest[digits..].starts_with(']') {
            return Some((rest[..digits].parse().ok()?, at));
        }
    }
    None
}

fn around(markdown: &str, at: usize) -> (usize, usize) {
    (floor(markdown, at.saturating_sub(BEFORE_BYTES)), floor(markdown, at + BEHIND_BYTES))
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
