//! The part of a page that most likely holds the facts: what the first local try sees.
//!
//! Lines around the main heading, labelled lines with their values, short lines with pay, contract, workplace or dates, the
//! first paragraphs and the first entries of the profile, in the page's order, within a bound.

use super::lines::{FACT_CHARS, Line, lines};
use super::{heading, label};
use crate::normalize;
use crate::words::{List, Text};

/// Tokens of a digest at most, by [`tokens`].
const TOKENS_MAX: usize = 420;
/// Lines before and behind the heading.
const BEFORE: usize = 6;
const BEHIND: usize = 14;
/// Paragraphs that are shown, and characters of each.
const PARAGRAPHS: usize = 2;
const PARAGRAPH_CHARS: usize = 320;
/// Entries of the profile that are shown.
const PROFILE_ENTRIES: usize = 4;
/// A page without a main heading is looked at from its beginning.
const FIRST_LINES: usize = 20;

/// About as many tokens as a text has: four ASCII characters one, any other character one.
fn tokens(text: &str) -> usize {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    ascii / 4 + (text.chars().count() - ascii) + 1
}

/// What is shown of a page, line by line in its order.
pub fn digest(markdown: &str) -> String {
    let lines = lines(markdown);
    let mut ranks: Vec<(usize, usize)> = Vec::new();
    let mut add = |rank: usize, at: usize| {
        if at < lines.len() && !ranks.iter().any(|(_, other)| *other == at) {
            ranks.push((rank, at));
        }
    };
    let at = heading::main(&lines);
    let (from, until) = at.map_or((0, FIRST_LINES), |at| (at.saturating_sub(BEFORE), at + BEHIND));
    at.into_iter().for_each(|at| add(0, at));
    for (index, line) in lines.iter().enumerate() {
        if line.is_prose() {
            continue;
        }
        if let Some((_, value)) = label(line) {
            add(1, index);
            if value.is_none() {
                add(1, index + 1);
            }
        } else if line.text.chars().count() <= FACT_CHARS && states_fact(line.text) {
            add(2, index);
        }
    }
    (from..until.min(lines.len())).filter(|at| !lines[*at].is_prose()).for_each(|at| add(3, at));
    let start = at.unwrap_or(0);
    let prose = (start..lines.len()).filter(|at| lines[*at].is_prose()).take(PARAGRAPHS);
    prose.for_each(|at| add(4, at));
    let profile = (start..lines.len()).find(|at| heads_profile(&lines[*at]));
    profile.into_iter().for_each(|at| (at..=at + PROFILE_ENTRIES).for_each(|at| add(5, at)));
    ranks.sort_unstable();
    let mut left = TOKENS_MAX;
    let mut kept: Vec<usize> = Vec::new();
    for (_, at) in ranks {
        let cost = tokens(&shown(markdown, &lines[at]));
        if cost <= left {
            left -= cost;
            kept.push(at);
        }
    }
    kept.sort_unstable();
    kept.into_iter().map(|at| shown(markdown, &lines[at]) + "\n").collect()
}

/// A line as it stands in the page, link number included, cut to a paragraph's beginning.
fn shown(markdown: &str, line: &Line<'_>) -> String {
    let start = markdown[..line.start].rfind('\n').map_or(0, |at| at + 1);
    let end = markdown[line.start..].find('\n').map_or(markdown.len(), |at| line.start + at);
    markdown[start..end].chars().take(PARAGRAPH_CHARS).collect()
}

fn states_fact(text: &str) -> bool {
    let words = Text::new(text);
    normalize::names_currency(text) && normalize::salary(text).is_some()
        || normalize::employment(text).is_some()
        || normalize::workplace(text).is_some()
        || words.begins_with(List::Posted).is_some()
        || words.begins_with(List::Until).is_some()
        || words.begins_with(List::Apply).is_some()
}

fn heads_profile(line: &Line<'_>) -> bool {
    !line.is_prose() && !line.is_item && Text::new(line.text).has(List::SectionProfile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_first_in_the_pages_order_and_the_bound_holds() {
        let filler = format!("{}\n", "We like the sea and cold water and long days. ".repeat(12)).repeat(60);
        let page = format!("Home\n# Diver\nKiel\n{filler}Salary: 40,000 EUR per year\n{filler}");
        let digest = digest(&page);
        let order: Vec<_> = ["# Diver", "Kiel", "We like", "Salary"].map(|part| digest.find(part)).into();
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{digest}");
        assert!(tokens(&digest) <= TOKENS_MAX + digest.lines().count(), "{}", tokens(&digest));
    }

    #[test]
    fn a_short_page_is_shown_whole() {
        let page = "# Diver\n\nKiel\nFull-time\nYou dive.\n";
        assert_eq!(digest(page), "# Diver\nKiel\nFull-time\nYou dive.\n");
    }
}
