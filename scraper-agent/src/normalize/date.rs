//! Dates: ISO and other absolute forms, and relative ones against the day the page was fetched.

use std::ops::Range;
use std::sync::LazyLock;

use chrono::{Datelike, Days, Months, NaiveDate};
use regex::Regex;

use super::beginning;
use crate::words::{List, Text};

/// Years that a posting can be of.
const YEARS: std::ops::RangeInclusive<i32> = 1995..=2100;
/// Letters between a month's name and its day or year at most ("3rd of May", "3 de mayo del 2026").
const DAY_LETTERS_MAX: usize = 4;
/// Characters between them at most.
const DAY_CHARS_MAX: usize = 8;

fn regex(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

static YMD: LazyLock<Option<Regex>> =
    LazyLock::new(|| regex(r"\b(\d{4})\s?[-/.年]\s?(\d{1,2})\s?[-/.月]\s?(\d{1,2})(?:\D|$)"));
static DMY: LazyLock<Option<Regex>> =
    LazyLock::new(|| regex(r"\b(\d{1,2})\s?([./-])\s?(\d{1,2})\s?[./-]\s?(\d{4}|\d{2})\b"));

/// Spans of time by the lists of their names; hours and minutes are today.
const SPANS: [(List, Span); 6] = [
    (List::TimeMinute, Span::Days(0)),
    (List::TimeHour, Span::Days(0)),
    (List::TimeDay, Span::Days(1)),
    (List::TimeWeek, Span::Days(7)),
    (List::TimeMonth, Span::Months(1)),
    (List::TimeYear, Span::Months(12)),
];

#[derive(Clone, Copy, Debug)]
enum Span {
    Days(u64),
    Months(u32),
}

fn checked(year: i32, month: u32, day: u32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month, day).filter(|d| YEARS.contains(&d.year()))
}

/// A machine-written date (ISO with or without time, RFC 2822, milliseconds) as `YYYY-MM-DD`.
pub fn iso_date(text: &str) -> Option<String> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        let seconds = if number > 10_000_000_000 { number / 1000 } else { number };
        let date = chrono::DateTime::from_timestamp(seconds, 0)?.date_naive();
        return checked(date.year(), date.month(), date.day()).map(|d| d.to_string());
    }
    absolute(&Text::new(beginning(text)), None).map(|d| d.to_string())
}

/// Any date in a text, as `YYYY-MM-DD`: absolute forms first, then relative ones before `fetched` ("3 days ago", "3d")
/// or, where the words say so, after it ("in 3 days", "3 days left"). `month_first` tells how 03/04/2026 is meant;
/// where it is `None` and the day is ambiguous there is no answer.
pub fn date(text: &str, fetched: NaiveDate, month_first: Option<bool>) -> Option<String> {
    let text = Text::new(beginning(text));
    absolute(&text, month_first).or_else(|| relative(&text, fetched)).map(|d| d.to_string())
}

fn absolute(text: &Text<'_>, month_first: Option<bool>) -> Option<NaiveDate> {
    let all = text.original();
    let number = |c: &regex::Captures<'_>, i: usize| c.get(i).and_then(|m| m.as_str().parse::<u32>().ok());
    if let Some(c) = YMD.as_ref().and_then(|r| r.captures(all)) {
        return checked(number(&c, 1)? as i32, number(&c, 2)?, number(&c, 3)?);
    }
    if let Some(date) = text.months().into_iter().find_map(|(at, month)| beside_month(all, at, month)) {
        return Some(date);
    }
    let c = DMY.as_ref()?.captures(all)?;
    let (a, b, year) = (number(&c, 1)?, number(&c, 3)?, number(&c, 4)? as i32);
    let year = if year < 100 { 2000 + year } else { year };
    let (day, month) = match (a > 12, b > 12) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        // A dot between them is the European order everywhere it is used.
        (false, false) if &c[2] == "." || a == b => (a, b),
        (false, false) => match month_first? {
            true => (b, a),
            false => (a, b),
        },
        (true, true) => return None,
    };
    checked(year, month, day)
}

/// The day and year beside a month's name: "3 May 2026", "May 3rd, 2026", "2026 May 3".
fn beside_month(all: &str, at: Range<usize>, month: u32) -> Option<NaiveDate> {
    let before = number_before(&all[..at.start]);
    let behind = number_behind(&all[at.end..]);
    let (first, rest) = behind?;
    let rest = &all[at.end + rest..];
    let year = |n: u32| (n >= *YEARS.start() as u32).then_some(n as i32);
    if let Some(year) = year(first) {
        return checked(year, month, before?);
    }
    if let Some(year) = before.and_then(year) {
        return checked(year, month, first);
    }
    checked(year(number_behind(rest)?.0)?, month, first)
}

/// The number that a text ends with, but for a few marks and letters.
fn number_before(text: &str) -> Option<u32> {
    let kept = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    is_near(&text[kept.len()..]).then_some(())?;
    let digits = kept.len() - kept.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 4 { None } else { kept[kept.len() - digits..].parse().ok() }
}

/// The number that a text begins with, but for a few marks and letters, and where it ends.
fn number_behind(text: &str) -> Option<(u32, usize)> {
    let kept = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    is_near(&text[..text.len() - kept.len()]).then_some(())?;
    let digits = kept.len() - kept.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let end = text.len() - kept.len() + digits;
    if digits > 4 { None } else { Some((kept[..digits].parse().ok()?, end)) }
}

fn is_near(between: &str) -> bool {
    between.chars().count() <= DAY_CHARS_MAX
        && !between.contains(['\n', '|', ';'])
        && between.chars().filter(|c| c.is_alphabetic()).count() <= DAY_LETTERS_MAX
}

/// A span of time before `fetched`, or after it where the words beside it say so.
fn relative(text: &Text<'_>, fetched: NaiveDate) -> Option<NaiveDate> {
    if text.has(List::Today) {
        return Some(fetched);
    }
    if text.has(List::Yesterday) {
        return fetched.checked_sub_days(Days::new(1));
    }
    let (count, at, span) = counted(text)?;
    match (span, is_ahead(text, &at)) {
        (Span::Days(days), false) => fetched.checked_sub_days(Days::new(days * count)),
        (Span::Days(days), true) => fetched.checked_add_days(Days::new(days * count)),
        (Span::Months(months), false) => fetched.checked_sub_months(Months::new(months * count as u32)),
        (Span::Months(months), true) => fetched.checked_add_months(Months::new(months * count as u32)),
    }
}

/// The first span that the text counts: how many, where number and name stand, and of what.
fn counted(text: &Text<'_>) -> Option<(u64, Range<usize>, Span)> {
    let all = text.original();
    let ago = text.find_all(List::Ago);
    let ones = text.find_all(List::TimeOne);
    let posted = text.find_all(List::Posted);
    let named = |(list, span): (List, Span)| text.find_all(list).into_iter().map(move |at| (at, span));
    let mut names: Vec<(Range<usize>, Span)> = SPANS.into_iter().flat_map(named).collect();
    names.sort_by_key(|(at, _)| (at.start, std::cmp::Reverse(at.end)));
    names.into_iter().find_map(|(at, span)| {
        let before = all[..at.start].trim_end_matches([' ', '\u{a0}', '+', '-']);
        let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let start = before.len() - digits;
        if (1..=3).contains(&digits) && !before[..start].ends_with(['.', ',', '/', '-', ':', '€', '$', '£'])
        {
            return Some((before[start..].parse().ok()?, start..at.end, span));
        }
        if digits > 0 || ago.is_empty() {
            return None;
        }
        if let Some(one) = ones.iter().find(|one| one.end == before.len()) {
            return Some((1, one.start..at.end, span));
        }
        // "неделю назад", "לפני שבוע": the name alone is one of it.
        let is_blank =
            |from: usize, to: usize| all.get(from..to).is_some_and(|between| between.trim().is_empty());
        let start = ago.iter().find(|word| is_blank(word.end, at.start)).map(|word| word.start);
        let start =
            start.or_else(|| ago.iter().any(|word| is_blank(at.end, word.start)).then_some(at.start))?;
        let lead = all[..start].trim_end_matches(|c: char| !c.is_alphanumeric());
        let is_first =
            lead.is_empty() || posted.iter().any(|word| word.end >= lead.len() && word.start < start);
        is_first.then_some((1, start..at.end, span))
    })
}

/// Whether a span lies ahead: a word for it right before or right behind it, and none for the past behind it.
fn is_ahead(text: &Text<'_>, span: &Range<usize>) -> bool {
    let all = text.original();
    let is_blank =
        |from: usize, to: usize| all.get(from..to).is_some_and(|between| between.trim().is_empty());
    let is_before = |list: List| text.find_all(list).iter().any(|word| is_blank(word.end, span.start));
    let is_behind = |list: List| text.find_all(list).iter().any(|word| is_blank(span.end, word.start));
    !is_behind(List::Ago)
        && !is_before(List::Ago)
        && (is_before(List::AheadBefore) || is_behind(List::AheadBehind))
}
