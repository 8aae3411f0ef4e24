//! The cleaned text as lines and parts of lines that may each state one fact.

use crate::posting::{Evidence, EvidenceSource};

/// A longer line is prose, and the head of a posting ends there.
pub const PROSE_CHARS: usize = 200;
/// Characters of a fact at most.
pub const FACT_CHARS: usize = 110;

/// A stretch of the markdown that may state one fact.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    pub text: &'a str,
    pub start: usize,
}

impl Fact<'_> {
    pub fn evidence(self) -> Vec<Evidence> {
        let end = Some(self.start + self.text.len());
        vec![Evidence { source: EvidenceSource::Text, pointer: None, start: Some(self.start), end }]
    }
}

/// A line without its bullet or heading marks and its link number.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What it says.
    pub text: &'a str,
    /// Where that begins in the markdown.
    pub start: usize,
    /// Heading level; 0 for other lines.
    pub level: usize,
    /// It is an entry of a list.
    pub is_item: bool,
    /// It is one link, of this number.
    pub link: Option<usize>,
}

impl Line<'_> {
    /// Whether it is too long to state one fact.
    pub fn is_prose(&self) -> bool {
        self.text.chars().count() > PROSE_CHARS
    }
}

/// All lines that say something.
pub fn lines(markdown: &str) -> Vec<Line<'_>> {
    let mut at = 0;
    let mut out = Vec::new();
    for whole in markdown.split('\n') {
        let marks = whole.len() - whole.trim_start_matches(['#', '*', '-', ' ']).len();
        let level = whole.bytes().take_while(|b| *b == b'#').count();
        let text = whole[marks..].trim_end();
        let number = text.strip_suffix(']').and_then(|t| t.rsplit_once(" ["));
        let number = number.and_then(|(text, digits)| Some((text, digits.parse().ok()?)));
        let (text, link) = number.map_or((text, None), |(text, number)| (text, Some(number)));
        if !text.is_empty() {
            out.push(Line { text, start: at + marks, level, is_item: whole.starts_with("* "), link });
        }
        at += whole.len() + 1;
    }
    out
}

/// Parts of a line between separators that pages use, those short enough for a fact.
pub fn parts<'a>(line: &Line<'a>) -> Vec<Fact<'a>> {
    const SEPARATORS: [&str; 6] = [" | ", " · ", " • ", "; ", " – ", ". "];
    let mut out = Vec::new();
    let mut start = 0;
    while start < line.text.len() {
        let rest = &line.text[start..];
        let next = SEPARATORS.iter().filter_map(|s| Some((rest.find(s)?, s.len()))).min();
        let (length, step) = next.unwrap_or((rest.len(), 1));
        let text = rest[..length].trim();
        if !text.is_empty() && text.chars().count() <= FACT_CHARS {
            let lead = rest[..length].len() - rest[..length].trim_start().len();
            out.push(Fact { text, start: line.start + start + lead });
        }
        start += length + step;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_link_numbers_are_no_text_and_offsets_hold() {
        let markdown = "# Diver [3]\n\n* Kiel | 2 days · sea\n\nItem [x]";
        let lines = lines(markdown);
        let seen: Vec<_> = lines.iter().map(|l| (l.text, l.level, l.is_item, l.link)).collect();
        assert_eq!(
            seen,
            [
                ("Diver", 1, false, Some(3)),
                ("Kiel | 2 days · sea", 0, true, None),
                ("Item [x]", 0, false, None)
            ]
        );
        let parts = parts(&lines[1]);
        assert_eq!(parts.iter().map(|p| p.text).collect::<Vec<_>>(), ["Kiel", "2 days", "sea"]);
        for fact in parts {
            assert_eq!(&markdown[fact.start..fact.start + fact.text.len()], fact.text);
        }
    }
}
