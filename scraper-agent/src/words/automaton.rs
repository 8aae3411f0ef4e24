//! All entries of all lists in one Aho-Corasick automaton, and the rules for what counts as a match.
//!
//! One automaton, not one a list: the gate asks some forty lists about a whole page, and so the page is gone through once.

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
    pub(super) list: u8,
    pub(super) value: u16,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// All matches in a text: list by list, in each by start, at equal starts the longest first.
#[derive(Debug, Default)]
pub(super) struct Hits {
    all: Vec<Hit>,
    /// Where each list's begin; one more for the end.
    begins: Vec<u32>,
}

struct Automaton {
    patterns: AhoCorasick,
    /// For each pattern, the entries and their parts that it is.
    targets: Vec<Vec<(u32, u8)>>,
}

static AUTOMATON: LazyLock<Automaton> = LazyLock::new(|| {
    let mut patterns: Vec<&str> = Vec::new();
    let mut targets: Vec<Vec<(u32, u8)>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (entry, part, text) in ENTRIES
        .iter()
        .zip(0..)
        .flat_map(|(entry, at)| (0..).zip(entry.parts).map(move |(n, part)| (at, n, part.text)))
    {
        let pattern = *known.entry(text).or_insert_with(|| {
            patterns.push(text);
            targets.push(Vec::new());
            patterns.len() - 1
        });
        targets[pattern].push((entry, part));
    }
    let patterns = AhoCorasick::new(patterns).expect("the lists fit an automaton");
    Automaton { patterns, targets }
});

impl Hits {
    /// Goes through a folded text.
    pub(super) fn of(text: &str) -> Self {
        let automaton = &*AUTOMATON;
        let mut all = Vec::new();
        let mut halves: Vec<(u32, u8, u32, u32)> = Vec::new();
        for found in automaton.patterns.find_overlapping_iter(text) {
            for (entry, part) in &automaton.targets[found.pattern().as_usize()] {
                let Entry { list, value, parts } = &ENTRIES[*entry as usize];
                let marks = parts[usize::from(*part)].marks;
                let Some((start, end)) = accepted(text, found.start(), found.end(), marks) else { continue };
                let (start, end) = (start as u32, end as u32);
                match parts.len() {
                    1 => all.push(Hit { list: *list, value: *value, start, end }),
                    _ => halves.push((*entry, *part, start, end)),
                }
            }
        }
        join(text, halves, &mut all);
        all.sort_unstable_by_key(|hit| (hit.list, hit.start, std::cmp::Reverse(hit.end), hit.value));
        all.dedup();
        let before = |list: usize| all.partition_point(|hit| usize::from(hit.list) < list) as u32;
        let begins = (0..=List::ALL.len()).map(before).collect();
        Self { all, begins }
    }

    /// Those of a list.
    pub(super) fn in_list(&self, list: List) -> &[Hit] {
        let at = list as usize;
        &self.all[self.begins[at] as usize..self.begins[at + 1] as usize]
    }
}

/// Puts parts of entries together: for each first one the nearest second one behind it, if it is near enough and in the
/// same sentence.
fn join(text: &str, mut halves: Vec<(u32, u8, u32, u32)>, all: &mut Vec<Hit>) {
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
                all.push(Hit { list, value, start: *start, end: *last });
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

/// The match with the rest of its words where these may go on, or `None` where it cuts a word.
fn accepted(text: &str, start: usize, end: usize, marks: u8) -> Option<(usize, usize)> {
    let (before, behind) = (&text[..start], &text[end..]);
    let found = &text[start..end];
    let goes_on = |a: Option<char>, b: Option<char>| a.zip(b).is_some_and(|(a, b)| is_one_word(a, b));
    let mut range = (start, end);
    if goes_on(before.chars().next_back(), found.chars().next()) {
        if marks & OPEN_BEFORE == 0 {
            return None;
        }
        let rest =
            before.chars().rev().take(OPEN_CHARS_MAX).take_while(|c| is_spaced(*c) && c.is_alphanumeric());
        range.0 -= rest.map(char::len_utf8).sum::<usize>();
    }
    if goes_on(found.chars().next_back(), behind.chars().next()) {
        if marks & OPEN_BEHIND == 0 {
            return None;
        }
        let rest = behind.chars().take(OPEN_CHARS_MAX).take_while(|c| is_spaced(*c) && c.is_alphanumeric());
        range.1 += rest.map(char::len_utf8).sum::<usize>();
    }
    (marks & ALONE == 0 || is_alone(before, behind)).then_some(range)
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

/// Whether an entry marked so is what its line is about. A hyphen ("early-stage") is a space in a folded text, a dash is not.
fn is_alone(before: &str, behind: &str) -> bool {
    let lead = before.chars().rev().take_while(|c| *c != '\n').take(OPEN_CHARS_MAX);
    let opens = !lead.into_iter().any(char::is_alphanumeric);
    let next = behind.trim_start_matches([' ', '.', '*']).chars().next();
    opens
        && next.is_none_or(|c| matches!(c, '\n' | '-' | '–' | '—' | '(' | '[' | '/' | '|' | '·' | '•' | ','))
}
