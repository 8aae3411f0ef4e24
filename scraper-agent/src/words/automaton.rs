//! All entries of all lists in one Aho-Corasick automaton, and the rules for what counts as a match.
//!
//! One automaton, not one a list: the gate asks some forty lists about a whole page, and so the page is gone through
//! once.

use std::collections::HashMap;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::lists::List;

include!(concat!(env!("OUT_DIR"), "/words.rs"));

/// An entry of a list.
#[derive(Debug)]
pub(super) struct Entry {
    /// The list, as a number.
    list: u8,
    /// What the entry stands for: a month's number, a code's place; else zero.
    value: u16,
    /// One part, or two that stand in this order in one sentence.
    parts: &'static [Part],
}

#[derive(Debug)]
pub(super) struct Part {
    /// Folded.
    text: &'static str,
    marks: u8,
}

/// The word may go on before the part.
const OPEN_BEFORE: u8 = 1;
/// The word may go on behind it.
const OPEN_BEHIND: u8 = 2;
/// Nothing of its line may stand before it, and behind it only what a dash, bracket, slash or bar sets off.
const ALONE: u8 = 4;

/// Characters between the two parts of an entry at most.
const GAP_CHARS_MAX: usize = 60;
/// Characters that `*` stands for at most.
const OPEN_CHARS_MAX: usize = 40;

/// A match in a folded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) value: u16,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// All matches in a text, list by list; in each by start, at equal starts the longest first.
#[derive(Debug, Default)]
pub(super) struct Hits {
    lists: Vec<Vec<Hit>>,
}

/// What a pattern is an entry of, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    list: u8,
    value: u16,
    marks: u8,
    /// Entry and part, where the entry has two.
    half: Option<(u32, u8)>,
}

#[derive(Debug, Default)]
struct Pattern {
    targets: Vec<Target>,
    /// Marks that any of them has.
    marks: u8,
}

struct Automaton {
    patterns: AhoCorasick,
    /// What each pattern is.
    known: Vec<Pattern>,
}

static AUTOMATON: LazyLock<Automaton> = LazyLock::new(|| {
    let mut texts: Vec<&str> = Vec::new();
    let mut known: Vec<Pattern> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (at, entry) in (0..).zip(ENTRIES) {
        for (number, part) in (0..).zip(entry.parts) {
            let place = *places.entry(part.text).or_insert_with(|| {
                texts.push(part.text);
                known.push(Pattern::default());
                texts.len() - 1
            });
            let half = (entry.parts.len() > 1).then_some((at, number));
            let target = Target { list: entry.list, value: entry.value, marks: part.marks, half };
            let pattern = &mut known[place];
            // Languages share many words.
            if !pattern.targets.contains(&target) {
                pattern.marks |= target.marks;
                pattern.targets.push(target);
            }
        }
    }
    let patterns = AhoCorasick::new(texts).expect("the lists fit an automaton");
    Automaton { patterns, known }
});

impl Hits {
    /// Goes through a folded text.
    pub(super) fn of(text: &str) -> Self {
        let automaton = &*AUTOMATON;
        let mut lists: Vec<Vec<Hit>> = vec![Vec::new(); List::ALL.len()];
        let mut halves: Vec<(u32, u8, u32, u32)> = Vec::new();
        for found in automaton.patterns.find_overlapping_iter(text) {
            let pattern = &automaton.known[found.pattern().as_usize()];
            // Most are cut out of longer words and end here.
            let cut = cut_marks(text, found.start(), found.end());
            if cut & !pattern.marks != 0 {
                continue;
            }
            for target in pattern.targets.iter().filter(|target| cut & !target.marks == 0) {
                if target.marks & ALONE != 0 && !is_alone(&text[..found.start()], &text[found.end()..]) {
                    continue;
                }
                let (start, end) = whole_word(text, found.start(), found.end(), cut);
                let (start, end) = (start as u32, end as u32);
                match target.half {
                    Some((entry, part)) => halves.push((entry, part, start, end)),
                    None => lists[usize::from(target.list)].push(Hit { value: target.value, start, end }),
                }
            }
        }
        join(text, halves, &mut lists);
        for hits in &mut lists {
            // Nearly in order as they are found, which a stable sort makes use of.
            hits.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end), hit.value));
            hits.dedup();
        }
        Self { lists }
    }

    /// Those of a list.
    pub(super) fn in_list(&self, list: List) -> &[Hit] {
        &self.lists[list as usize]
    }
}

/// Puts parts of entries together: for each first one the nearest second one behind it, if it is near enough and in the
/// same sentence.
fn join(text: &str, mut halves: Vec<(u32, u8, u32, u32)>, lists: &mut [Vec<Hit>]) {
    halves.sort_unstable();
    for of_entry in halves.chunk_by(|a, b| a.0 == b.0) {
        let (firsts, seconds) = of_entry.split_at(of_entry.partition_point(|half| half.1 == 0));
        let Entry { list, value, .. } = ENTRIES[of_entry[0].0 as usize];
        for (_, _, start, end) in firsts {
            let Some((_, _, next, last)) = seconds.get(seconds.partition_point(|second| second.2 < *end))
            else {
                break;
            };
            let between = &text[*end as usize..*next as usize];
            if between.len() <= GAP_CHARS_MAX * 4
                && between.chars().count() <= GAP_CHARS_MAX
                && !ends_a_sentence(between)
            {
                lists[usize::from(list)].push(Hit { value, start: *start, end: *last });
            }
        }
    }
}

fn ends_a_sentence(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = matches!(c, '.' | '!' | '?') && chars.peek().is_none_or(|next| next.is_whitespace());
        if last || matches!(c, '\n' | '。') {
            return true;
        }
    }
    false
}

/// The marks that a match needs, because it is cut out of a longer word before or behind.
fn cut_marks(text: &str, start: usize, end: usize) -> u8 {
    let before = if is_within_word(text, start) { OPEN_BEFORE } else { 0 };
    before | if is_within_word(text, end) { OPEN_BEHIND } else { 0 }
}

/// Whether the characters before and behind a place are of one word.
fn is_within_word(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    if at == 0 || at == bytes.len() {
        return false;
    }
    let (a, b) = (bytes[at - 1], bytes[at]);
    if a.is_ascii() && b.is_ascii() {
        return a.is_ascii_alphabetic() && b.is_ascii_alphabetic()
            || a.is_ascii_digit() && b.is_ascii_digit();
    }
    let neighbours = text[..at].chars().next_back().zip(text[at..].chars().next());
    neighbours.is_some_and(|(a, b)| is_one_word(a, b))
}

/// A match with the rest of the words that it is cut out of.
fn whole_word(text: &str, start: usize, end: usize, cut: u8) -> (usize, usize) {
    let goes_on = |c: &char| is_spaced(*c) && c.is_alphanumeric();
    let before = text[..start].chars().rev().take(OPEN_CHARS_MAX).take_while(goes_on).map(char::len_utf8);
    let behind = text[end..].chars().take(OPEN_CHARS_MAX).take_while(goes_on).map(char::len_utf8);
    let start = if cut & OPEN_BEFORE != 0 { start - before.sum::<usize>() } else { start };
    (start, if cut & OPEN_BEHIND != 0 { end + behind.sum::<usize>() } else { end })
}

/// Whether two neighbours are of one word: two letters of scripts that have spaces, or two digits.
fn is_one_word(a: char, b: char) -> bool {
    (a.is_alphabetic() && b.is_alphabetic() || a.is_numeric() && b.is_numeric())
        && is_spaced(a)
        && is_spaced(b)
}

/// Chinese characters and kana stand without spaces between words; in Hebrew, particles are glued to words.
fn is_spaced(c: char) -> bool {
    !matches!(c, '\u{590}'..='\u{5ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Whether an entry marked so is what its line is about. A hyphen ("early-stage") is a space in a folded text, a dash
/// is not.
fn is_alone(before: &str, behind: &str) -> bool {
    let lead = before.chars().rev().take_while(|c| *c != '\n').take(OPEN_CHARS_MAX);
    let opens = !lead.into_iter().any(char::is_alphanumeric);
    let next = behind.trim_start_matches([' ', '.', '*']).chars().next();
    opens
        && next.is_none_or(|c| matches!(c, '\n' | '-' | '–' | '—' | '(' | '[' | '/' | '|' | '·' | '•' | ','))
}
