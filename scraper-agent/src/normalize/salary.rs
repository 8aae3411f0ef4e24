//! Salaries out of text: ranges, thousands in every notation, currencies, periods; annualised.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;

use super::amounts::{Amount, amounts};
use super::beginning;
use crate::posting::{Salary, SalaryPeriod};
use crate::words::{List, Text};

const PERIODS: [(SalaryPeriod, List); 5] = [
    (SalaryPeriod::Hour, List::PeriodHour),
    (SalaryPeriod::Day, List::PeriodDay),
    (SalaryPeriod::Week, List::PeriodWeek),
    (SalaryPeriod::Month, List::PeriodMonth),
    (SalaryPeriod::Year, List::PeriodYear),
];

/// Bytes between a word for a bound ("from") and its amount at most.
const BOUND_BYTES_MAX: usize = 16;
/// Letters between the two sums of a range at most.
const RANGE_LETTERS_MAX: usize = 24;
/// A smaller number that names no currency is a count.
const UNNAMED_MIN: f64 = 100.0;

/// The period that a word names ("HOUR", "per-year-salary", "1 YEAR", "monatlich").
pub fn salary_period(text: &str) -> Option<SalaryPeriod> {
    periods(&Text::new(text)).first().map(|(_, period)| *period)
}

/// Every period that a text names, in order; of those that overlap the first, of those that begin together the longest
/// ("an hour" is no French year).
fn periods(text: &Text<'_>) -> Vec<(Range<usize>, SalaryPeriod)> {
    let named =
        |(period, list): (SalaryPeriod, List)| text.find_all(list).into_iter().map(move |at| (at, period));
    let mut found: Vec<(Range<usize>, SalaryPeriod)> = PERIODS.into_iter().flat_map(named).collect();
    found.sort_by_key(|(at, _)| (at.start, std::cmp::Reverse(at.end)));
    let mut end = 0;
    found.retain(|(at, _)| {
        let is_free = at.start >= end;
        end = if is_free { at.end } else { end };
        is_free
    });
    found
}

/// The period of the amount between `start` and `end`: behind it, else before it, in its own clause and not beside
/// another number ("37 hours per week"); else in a clause that holds no number.
fn period_of(text: &Text<'_>, start: usize, end: usize) -> Option<SalaryPeriod> {
    let all = text.original();
    let named = periods(text);
    let within = |range: Range<usize>| {
        named.iter().filter(move |(at, _)| range.start <= at.start && at.end <= range.end)
    };
    let stops = |c: char| is_clause_end(c) || c.is_numeric();
    let behind = end..all[end..].find(stops).map_or(all.len(), |at| end + at);
    let before = after_last(&all[..start], stops)..start;
    let elsewhere = || {
        let mut clauses = all.split(is_clause_end).filter(|clause| !clause.contains(char::is_numeric));
        clauses.find_map(|clause| {
            let from = clause.as_ptr() as usize - all.as_ptr() as usize;
            within(from..from + clause.len()).next()
        })
    };
    within(behind).next().or_else(|| within(before).next_back()).or_else(elsewhere).map(|(_, period)| *period)
}

/// Past the last character that `stops`, or zero.
fn after_last(text: &str, stops: impl Fn(char) -> bool) -> usize {
    text.char_indices().rev().find(|(_, c)| stops(*c)).map_or(0, |(at, c)| at + c.len_utf8())
}

/// A dot is in numbers and abbreviations ("p.a.") as well.
fn is_clause_end(c: char) -> bool {
    matches!(c, ',' | ';' | '(' | ')' | '|' | '•' | '·' | '\n')
}

/// Reads a stretch of text that is about pay; `None` where it holds no amount with a currency or, beside a word for
/// pay, with a period.
pub fn salary(text: &str) -> Option<Salary> {
    let plain: String = beginning(text).nfkc().collect();
    let asked = Text::new(&plain);
    let currencies = asked.currencies();
    if currencies.is_empty() && (periods(&asked).is_empty() || !asked.has(List::Pay)) {
        return None;
    }
    let (low, high) = chosen(&asked, &amounts(&asked))?;
    let (first, last) = (low.value, high.unwrap_or(low));
    if currencies.is_empty() && first < UNNAMED_MIN {
        return None;
    }
    let currency = currency_of(&asked, &currencies, low, last).map(str::to_owned);
    let period = period_of(&asked, low.start, last.digits_end);
    let mut salary = Salary { currency, period, ..Salary::default() };
    let second = high.map(|high| high.value).filter(|n| *n >= first && *n <= first * 20.0);
    match second {
        Some(second) => (salary.min, salary.max) = (Some(first), Some(second)),
        None if is_bound(&asked, low, List::AmountUpTo) => salary.max = Some(first),
        None if is_bound(&asked, low, List::AmountFrom) || is_open(&plain[low.closes..]) => {
            salary.min = Some(first)
        }
        None => (salary.min, salary.max) = (Some(first), Some(first)),
    }
    salary.text = Some(text.trim().to_owned());
    plausible_salary(salary)
}

/// The currency of an amount: beside it, else the first that is named. A code or word beside a sign is the surer ("CAD
/// $100k", "$100k CAD"): several currencies share a sign.
fn currency_of(
    text: &Text<'_>,
    named: &[(Range<usize>, &'static str)],
    low: Amount,
    high: Amount,
) -> Option<&'static str> {
    let beside = [low.followed, low.led, high.followed, high.led].into_iter().flatten().next();
    let is_word =
        |(at, _): &&(Range<usize>, &str)| text.original()[at.clone()].chars().all(char::is_alphabetic);
    let mut words = named.iter().filter(is_word).map(|(_, code)| *code);
    match (words.next(), words.next()) {
        (Some(code), None) if beside.is_some_and(|sign| shares_sign(code, sign)) => Some(code),
        (first, _) => beside.or(first).or_else(|| named.first().map(|(_, code)| *code)),
    }
}

/// Whether two currencies are written by one sign: dollars, and yen and yuan.
fn shares_sign(a: &str, b: &str) -> bool {
    a.ends_with('D') && b.ends_with('D') || a.ends_with('Y') && b.ends_with('Y')
}

/// Whether a word of the list stands right before an amount, or right behind it and before no other number.
fn is_bound(text: &Text<'_>, amount: Amount, list: List) -> bool {
    let all = text.original();
    let start = all[..amount.start].char_indices().rev();
    let clause = start.take_while(|(_, c)| !is_clause_end(*c)).last().map_or(amount.start, |(at, _)| at);
    text.find_all(list).into_iter().any(|word| {
        let leads =
            word.start >= clause && word.end <= amount.start && amount.start - word.end <= BOUND_BYTES_MAX;
        let between = all.get(amount.closes..word.start);
        let follows = between.is_some_and(|between| between.trim().is_empty())
            && !all[word.end..].trim_start().starts_with(|c: char| c.is_numeric() || c.is_alphabetic());
        leads && !all[word.end..amount.start].contains(char::is_numeric) || follows
    })
}

/// Whether what is behind an amount leaves its top open: "£40,000+", "26万円〜".
fn is_open(behind: &str) -> bool {
    behind.trim_start().starts_with(['+', '〜', '~'])
}

/// Whether a text names a currency.
pub fn names_currency(text: &str) -> bool {
    !Text::new(text).currencies().is_empty()
}

/// The amount that is the pay, and the upper one of a range. Where a currency stands beside a number, a number without
/// one ("Grade 7", "37 hours") counts only as the other end of a range.
fn chosen(text: &Text<'_>, all: &[Amount]) -> Option<(Amount, Option<Amount>)> {
    let has_money = all.iter().any(Amount::is_money);
    let is_pay = |amount: &Amount| {
        (!has_money || amount.is_money()) && !is_beside_benefit(text, amount.start, amount.end)
    };
    let at = all.iter().position(is_pay)?;
    let first = all[at];
    // In "80-100k EUR" the currency behind is both numbers'; one before ("Grade 7 - £35,000") is its own number's.
    let before = at.checked_sub(1).map(|before| all[before]);
    if let Some(before) = before.filter(|_| first.followed.is_some() && first.led.is_none())
        && is_range(text, before.end..first.start, false)
    {
        return Some((before, Some(first)));
    }
    let next = all.get(at + 1).copied();
    let ends = |next: &Amount| is_range(text, first.end..next.start, next.is_money());
    Some((first, next.filter(ends)))
}

/// Whether what stands between two numbers joins them as a range: a dash or one word for it ("to", "bis", "до");
/// between two sums of money any few words of one clause.
fn is_range(text: &Text<'_>, between: Range<usize>, is_money: bool) -> bool {
    let words = &text.original()[between.clone()];
    let letters = words.chars().filter(|c| c.is_alphabetic()).count();
    let has_dash = words.contains(['-', '–', '—', '―', '−', '~', '〜', '/']);
    let has_word = || {
        text.find_all(List::AmountRange).iter().any(|at| between.start <= at.start && at.end <= between.end)
    };
    let longest = if is_money { RANGE_LETTERS_MAX } else { RANGE_LETTERS_MAX / 2 };
    !words.contains(is_clause_end)
        && letters <= longest
        && (is_money && !words.trim().is_empty() || has_dash && letters <= 4 || has_word())
}

/// Whether an amount is an allowance or the like, by the words beside it in its clause: "a learning budget of …",
/// "… a year training budget". What is only added ("… plus bonus") says nothing about it.
pub fn is_benefit(before: &str, behind: &str) -> bool {
    let joined = format!("{before} {behind}");
    is_beside_benefit(&Text::new(&joined), before.len(), before.len() + 1)
}

fn is_beside_benefit(text: &Text<'_>, start: usize, end: usize) -> bool {
    let benefits = text.find_all(List::Benefits);
    if benefits.is_empty() {
        return false;
    }
    let all = text.original();
    let stops = |c: char| is_clause_end(c) || c.is_numeric() || matches!(c, '+' | '&' | '!' | '?');
    let joins = text.find_all(List::AmountPlus);
    let sentence = all[..start].rfind(". ").map_or(0, |at| at + 1);
    let joined = joins.iter().map(|at| at.end).filter(|at| *at <= start).max().unwrap_or(0);
    let from = after_last(&all[..start], stops).max(sentence).max(joined);
    let clause = all[end..].find(stops).map_or(all.len(), |at| end + at);
    let sentence = all[end..].find(". ").map_or(all.len(), |at| end + at);
    let joined = joins.iter().map(|at| at.start).find(|at| *at >= end).unwrap_or(all.len());
    let to = clause.min(sentence).min(joined);
    let within =
        |range: Range<usize>| benefits.iter().any(|at| range.start <= at.start && at.end <= range.end);
    // "Salary of £40,000 with a yearly bonus" is a salary.
    let is_named_pay = || text.find_all(List::Pay).iter().any(|at| from <= at.start && at.end <= start);
    within(from..start) || within(end..to) && !is_named_pay()
}

/// Drops placeholders (zero, 1 to a million, an upper bound below the lower) and annualises what is left.
pub fn plausible_salary(mut salary: Salary) -> Option<Salary> {
    let (min, max) = (salary.min.filter(|n| *n > 0.0), salary.max.filter(|n| *n > 0.0));
    (salary.min, salary.max) = (min, max);
    match (min, max) {
        (None, None) => return None,
        (Some(a), Some(b)) if b < a || b / a > 100.0 => return None,
        _ => {}
    }
    let largest = max.or(min).unwrap_or(0.0);
    if largest <= 1.0 || !largest.is_finite() || largest > 1e12 {
        return None;
    }
    let factor = match salary.period {
        Some(SalaryPeriod::Hour) => Some(2080.0),
        Some(SalaryPeriod::Day) => Some(260.0),
        Some(SalaryPeriod::Week) => Some(52.0),
        Some(SalaryPeriod::Month) => Some(12.0),
        Some(SalaryPeriod::Year) => Some(1.0),
        None => None,
    };
    salary.annual_min = min.zip(factor).map(|(n, f)| n * f);
    salary.annual_max = max.zip(factor).map(|(n, f)| n * f);
    Some(salary)
}
