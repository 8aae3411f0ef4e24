//! A page as facts are looked for on it: its text folded for searching, its head, the day it was fetched.

use chrono::NaiveDate;
use unicode_normalization::UnicodeNormalization;
use url::Url;

use crate::clean::Cleaned;
use crate::posting::{Evidence, EvidenceSource};
use crate::words::{List, Text};

/// Letters and digits only, NFKC, lower case: for comparing titles and names.
pub fn fold(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect()
}

/// A page's text, folded for searching, with the way back to its bytes.
pub struct Haystack {
    folded: String,
    /// For each byte of `folded`, the byte of the text it comes from.
    origin: Vec<u32>,
    len: usize,
}

impl Haystack {
    /// Folds a text: NFKC, lower case, white space and soft hyphens alike.
    pub fn new(text: &str) -> Self {
        let mut folded = String::with_capacity(text.len());
        let mut origin = Vec::with_capacity(text.len());
        let mut pending_space = false;
        for (at, c) in text.char_indices() {
            if matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '*' | '#' | '\\') {
                continue;
            }
            if c.is_whitespace() {
                pending_space = true;
                continue;
            }
            if std::mem::take(&mut pending_space) && !folded.is_empty() {
                folded.push(' ');
                origin.push(at as u32);
            }
            for c in std::iter::once(c).nfkc().flat_map(char::to_lowercase) {
                let c = unify(c);
                folded.push(c);
                origin.extend(std::iter::repeat_n(at as u32, c.len_utf8()));
            }
        }
        Self { folded, origin, len: text.len() }
    }

    /// Byte span in the text where a value stands, at word borders where it begins and ends with letters.
    pub fn find(&self, value: &str) -> Option<(usize, usize)> {
        self.find_from(value, 0)
    }

    /// As [`Self::find`], not before byte `after` of the text.
    pub fn find_from(&self, value: &str, after: usize) -> Option<(usize, usize)> {
        let needle = Self::new(value).folded;
        if needle.is_empty() {
            return None;
        }
        let mut from = self.origin.partition_point(|at| (*at as usize) < after);
        while !self.folded.is_char_boundary(from) {
            from += 1;
        }
        while let Some(found) = self.folded.get(from..)?.find(&needle) {
            let (start, end) = (from + found, from + found + needle.len());
            let before = self.folded[..start].chars().next_back();
            let after = self.folded[end..].chars().next();
            let word = |inner: Option<char>, outer: Option<char>| {
                // Scripts without spaces have no word borders.
                let latin = |c: char| c.is_alphanumeric() && (c as u32) < 0x2e80;
                inner.is_some_and(latin) && outer.is_some_and(latin)
            };
            if !word(needle.chars().next(), before) && !word(needle.chars().next_back(), after) {
                let to = self.origin.get(end).map_or(self.len, |&o| o as usize);
                return Some((self.origin[start] as usize, to));
            }
            from = start + self.folded[start..].chars().next().map_or(1, char::len_utf8);
        }
        None
    }
}

/// Quotes and dashes have many spellings.
fn unify(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{2032}' | '`' | '´' => '\'',
        '\u{201c}'..='\u{201f}' | '«' | '»' => '"',
        c => c,
    }
}

/// Characters of a line that heads a part.
const HEADING_CHARS_MAX: usize = 80;

/// Where a page that is about one job begins to list other jobs: at the first heading that says so behind the page's own
/// first heading, or, without one, in its second half.
pub fn own_end(markdown: &str) -> usize {
    let first = markdown.lines().position(|line| line.starts_with("# "));
    let mut at = 0;
    for (number, line) in markdown.split_inclusive('\n').enumerate() {
        let is_behind = first.map_or(at > markdown.len() / 2, |first| number > first);
        let text = line.trim_matches(['#', '*', ' ', '\n']);
        if is_behind && text.chars().count() <= HEADING_CHARS_MAX {
            let words = Text::new(text);
            if words.is(List::Similar) || line.starts_with('#') && words.begins_with(List::Similar).is_some()
            {
                return at;
            }
        }
        at += line.len();
    }
    markdown.len()
}

/// What a page gives to check against.
pub struct PageView<'a> {
    /// The cleaned page.
    pub cleaned: &'a Cleaned,
    /// Its markdown up to where other people's jobs begin.
    pub own: &'a str,
    /// That, folded.
    pub text: Haystack,
    /// Title and meta tags, folded.
    pub meta: Haystack,
    /// When the page was fetched.
    pub fetched: NaiveDate,
    /// Where the page is from; a file's for a saved page that does not say.
    pub url: &'a Url,
}

impl<'a> PageView<'a> {
    /// Folds a page once for all its fields.
    pub fn new(cleaned: &'a Cleaned, fetched: NaiveDate, url: &'a Url) -> Self {
        let meta = &cleaned.meta;
        let own = &cleaned.markdown[..own_end(&cleaned.markdown)];
        let parts = [&meta.title, &meta.og_title, &meta.site_name, &meta.description];
        let head: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        Self { cleaned, own, text: Haystack::new(own), meta: Haystack::new(&head.join("\n")), fetched, url }
    }

    /// Byte span of the markdown where a value stands, without the white space and marks after it.
    pub fn span(&self, value: &str) -> Option<(usize, usize)> {
        self.span_from(value, 0)
    }

    /// As [`Self::span`], not before byte `after`.
    pub fn span_from(&self, value: &str, after: usize) -> Option<(usize, usize)> {
        let (start, end) = self.text.find_from(value, after)?;
        let next = |c: char| c.is_whitespace() || matches!(c, '*' | '#');
        let found = self.cleaned.markdown.get(start..end)?.trim_end_matches(next);
        Some((start, if found.is_empty() { end } else { start + found.len() }))
    }

    /// Where a value stands: in the text, else in the head.
    pub fn prove(&self, value: &str) -> Option<Evidence> {
        if let Some((start, end)) = self.span(value) {
            return Some(Evidence {
                source: EvidenceSource::Text,
                pointer: None,
                start: Some(start),
                end: Some(end),
            });
        }
        self.meta.find(value).map(|_| Evidence {
            source: EvidenceSource::Meta,
            pointer: Some("head".into()),
            start: None,
            end: None,
        })
    }

    /// Whether the page reads dates with the month first: American English spellings decide.
    pub fn month_first(&self) -> Option<bool> {
        let url = self.cleaned.meta.canonical.as_deref().unwrap_or("");
        match self.cleaned.meta.language.as_deref() {
            Some("en") if url.contains(".com/") && self.text.find("united states").is_some() => Some(true),
            Some("en") | None => None,
            Some(_) => Some(false),
        }
    }
}
