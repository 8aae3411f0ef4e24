//! Lists of words in thirteen languages, asked of texts.
//!
//! The lists are data (`words/*.toml`), checked at build; this module is all that reads them. A `Text` is folded once
//! and gone through once, whatever number of lists is asked. Languages are asked at once: pages mix them.
//!
//! Cost, optimised: the first text of a process builds the automaton (some 60 ms); after that 100 KB of English take
//! about 2.5 ms for all lists together, of Russian or Japanese 5 to 7 ms, a line of 70 characters 2.5 µs. Make one
//! `Text` of a text and keep it while asking.

mod automaton;
mod fold;
mod lists;

use std::ops::Range;
use std::sync::OnceLock;

pub use lists::List;

use automaton::{CITIES, COUNTRIES, CURRENCIES, Hit, Hits, REGIONS};
use fold::Folded;

/// A text folded once (NFKC, lower case, zero-width characters and soft hyphens gone), to ask many lists. Places in
/// it are bytes of the original.
#[derive(Debug)]
pub struct Text<'a> {
    original: &'a str,
    folded: Folded,
    hits: OnceLock<Hits>,
}

impl<'a> Text<'a> {
    /// Folds a text.
    pub fn new(text: &'a str) -> Self {
        Self { original: text, folded: fold::fold(text), hits: OnceLock::new() }
    }

    /// The text as it was.
    pub fn original(&self) -> &'a str {
        self.original
    }

    /// The text as lists see it: see `words/README.md`.
    pub fn folded(&self) -> &str {
        &self.folded.text
    }

    /// Whether an entry of the list stands in the text.
    pub fn has(&self, list: List) -> bool {
        !self.hits(list).is_empty()
    }

    /// The first entry; of several at one place the longest.
    pub fn find(&self, list: List) -> Option<Range<usize>> {
        self.hits(list).first().map(|hit| self.range(*hit))
    }

    /// All entries in order; of those that overlap the first, of those that begin together the longest.
    pub fn find_all(&self, list: List) -> Vec<Range<usize>> {
        self.valued(list).into_iter().map(|(range, _)| range).collect()
    }

    /// The end of the longest entry that the text begins with, punctuation aside.
    pub fn begins_with(&self, list: List) -> Option<usize> {
        let first = self.folded.text.find(char::is_alphanumeric)?;
        let hits = self.hits(list).iter().take_while(|hit| hit.start as usize <= first);
        let longest = hits.filter(|hit| hit.end as usize > first).max_by_key(|hit| hit.end)?;
        Some(self.range(*longest).end)
    }

    /// Whether the whole text is an entry, punctuation and digits around it aside.
    pub fn is(&self, list: List) -> bool {
        let text = &self.folded.text;
        let (Some(first), Some(last)) = (text.find(char::is_alphabetic), text.rfind(char::is_alphabetic))
        else {
            return false;
        };
        let mut hits = self.hits(list).iter().take_while(|hit| hit.start as usize <= first);
        hits.any(|hit| hit.end as usize > last)
    }

    /// Names of months in order, with their numbers from 1.
    pub fn months(&self) -> Vec<(Range<usize>, u32)> {
        self.valued(List::Months).into_iter().map(|(range, month)| (range, u32::from(month))).collect()
    }

    /// Signs and names of currencies in order, with their ISO 4217 codes.
    pub fn currencies(&self) -> Vec<(Range<usize>, &'static str)> {
        // "Job-idR1349" names no rupiah: nobody writes a code so.
        let is_odd = |range: &Range<usize>| {
            let text = &self.original[range.clone()];
            text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.contains(|c: char| c.is_ascii_uppercase())
        };
        let mut found = self.coded(List::Currencies, CURRENCIES);
        found.retain(|(range, _)| !is_odd(range));
        found
    }

    /// Names of countries in order, with their ISO 3166-1 codes of two letters.
    pub fn countries(&self) -> Vec<(Range<usize>, &'static str)> {
        self.coded(List::Countries, COUNTRIES)
    }

    /// Names of regions in order, with their ISO 3166-2 codes.
    pub fn regions(&self) -> Vec<(Range<usize>, &'static str)> {
        self.coded(List::Regions, REGIONS)
    }

    /// Names of cities in order, with the codes of their countries.
    pub fn cities(&self) -> Vec<(Range<usize>, &'static str)> {
        self.coded(List::Cities, CITIES)
    }

    fn coded(&self, list: List, codes: &[&'static str]) -> Vec<(Range<usize>, &'static str)> {
        let coded = |(range, place)| Some((range, *codes.get(usize::from(place))?));
        self.valued(list).into_iter().filter_map(coded).collect()
    }

    fn valued(&self, list: List) -> Vec<(Range<usize>, u16)> {
        let mut end = 0;
        let mut out = Vec::new();
        for hit in self.hits(list) {
            if hit.start >= end {
                end = hit.end;
                out.push((self.range(*hit), hit.value));
            }
        }
        out
    }

    fn hits(&self, list: List) -> &[Hit] {
        self.hits.get_or_init(|| Hits::of(&self.folded.text)).in_list(list)
    }

    /// A match as bytes of the original.
    fn range(&self, hit: Hit) -> Range<usize> {
        let origin = |at: usize| self.folded.origin.get(at).map_or(self.original.len(), |at| *at as usize);
        origin(hit.start as usize)..end_of_character(self.original, origin(hit.end as usize - 1))
    }
}

/// The end of the original character, with the marks that belong to it, that begins at `start`.
fn end_of_character(original: &str, start: usize) -> usize {
    let mut chars = original[start..].chars();
    let first = chars.next().map_or(0, char::len_utf8);
    start + first + chars.take_while(|c| fold::joins_previous(*c)).map(char::len_utf8).sum::<usize>()
}

/// Whether an entry of the list stands in a text that is asked nothing else.
pub fn has(list: List, text: &str) -> bool {
    Text::new(text).has(list)
}

/// Whether a text is an entry; see [`Text::is`].
pub fn is(list: List, text: &str) -> bool {
    Text::new(text).is(list)
}

/// Whether a text begins with an entry, and its end; see [`Text::begins_with`].
pub fn begins_with(list: List, text: &str) -> Option<usize> {
    Text::new(text).begins_with(list)
}
