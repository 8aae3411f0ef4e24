//! Kinds of contract and workplaces, by the lists of words.

use std::collections::HashSet;
use std::ops::Range;

use crate::posting::{EmploymentType, Workplace};
use crate::words::{List, Text};

/// Kinds of contract, the most telling first: who looks for a trainee in full time looks for a trainee.
const EMPLOYMENT: [(EmploymentType, List); 5] = [
    (EmploymentType::Internship, List::Internship),
    (EmploymentType::PartTime, List::PartTime),
    (EmploymentType::FullTime, List::FullTime),
    (EmploymentType::Temporary, List::Temporary),
    (EmploymentType::Contract, List::Contract),
];

/// The employment type that a text names; `None` where it names none. A text that names full and part time is
/// read as full time, the commoner offer.
pub fn employment(text: &str) -> Option<EmploymentType> {
    let text = Text::new(text);
    let is_named = |list: List| text.has(list);
    if is_named(List::FullTime) && !is_named(List::Internship) {
        return Some(EmploymentType::FullTime);
    }
    EMPLOYMENT.iter().find(|(_, list)| is_named(*list)).map(|(kind, _)| *kind)
}

/// The workplace that a text names. "Remote or hybrid" is hybrid: it can be either.
pub fn workplace(text: &str) -> Option<Workplace> {
    let text = Text::new(text);
    let starts =
        |list: List| -> HashSet<usize> { text.find_all(list).into_iter().map(|at| at.start).collect() };
    let ambiguous: HashSet<Range<usize>> = text.find_all(List::Ambiguous).into_iter().collect();
    let work = starts(List::WorkWords);
    let at_the_office = text.find_all(List::OnSite);
    let is_said = |list: List, before_names: bool| {
        text.find_all(list).into_iter().any(|found| {
            // "No remote work" names what is not.
            let office =
                &at_the_office[..at_the_office.partition_point(|office| office.start <= found.start)];
            let is_denied = office.last().is_some_and(|office| found.end <= office.end);
            !is_denied && (!ambiguous.contains(&found) || is_of_work(&text, found.end, &work, before_names))
        })
    };
    if is_said(List::Hybrid, false) {
        return Some(Workplace::Hybrid);
    }
    if is_said(List::Remote, true) {
        return Some(Workplace::Remote);
    }
    (!at_the_office.is_empty()).then_some(Workplace::OnSite)
}

/// Whether an adjective that ends at `end` says how one works: it ends its phrase, or a word of work follows ("hybrid
/// working", not "hybrid cloud"). With `before_names`, a capitalised word may follow too, as a place does ("Remote
/// Germany").
fn is_of_work(text: &Text<'_>, end: usize, work: &HashSet<usize>, before_names: bool) -> bool {
    let behind = &text.original()[end..];
    let next = behind.trim_start_matches([' ', '\u{a0}']);
    let next = if next.len() == behind.len() { next.strip_prefix('-').unwrap_or(next) } else { next };
    // A mark, a dash or a number ends the phrase as well.
    if !next.starts_with(char::is_alphabetic) {
        return true;
    }
    work.contains(&(end + behind.len() - next.len())) || before_names && next.starts_with(char::is_uppercase)
}
