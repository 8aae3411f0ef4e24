//! Numbers that may be sums of money, with their factors and currencies.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::words::{List, Text};

/// Digits in groups of three (the Indian ones of two, the last of three), else in one run; then decimals.
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let groups = r"\d{1,3}(?:[.,'’ ]\d{3})+(?:[.,]\d{1,2})?|\d{1,2}(?:,\d{2})+,\d{3}|\d+(?:[.,]\d{1,2})?";
    Regex::new(groups).ok()
});

/// Steps of a pay scale ("grade 7") are smaller; a larger number behind "scale" is what the scale pays.
const SCALE_MAX: f64 = 100.0;

/// A number that may be pay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    /// Thousands and other factors applied.
    pub value: f64,
    /// Of the number.
    pub start: usize,
    /// Past its digits.
    pub digits_end: usize,
    /// Past its factor, if it has one; else past its digits.
    pub end: usize,
    /// The currency right before it.
    pub led: Option<&'static str>,
    /// The currency right behind it.
    pub followed: Option<&'static str>,
    /// Past the currency behind it, if there is one; else `end`.
    pub closes: usize,
}

impl Amount {
    /// Whether a currency stands beside it.
    pub fn is_money(&self) -> bool {
        self.led.is_some() || self.followed.is_some()
    }
}

/// Amounts in order. In "80-100k" the factor is both numbers'. The text must be in NFKC: one kind of space and of digits.
pub(super) fn amounts(text: &Text<'_>) -> Vec<Amount> {
    let Some(pattern) = NUMBER.as_ref() else { return Vec::new() };
    let all = text.original();
    let currencies = text.currencies();
    let factors = factors(text);
    let [hours, scales] = [List::AmountHours, List::AmountScale].map(|list| text.find_all(list));
    let mut out: Vec<(Amount, f64)> = Vec::new();
    for found in pattern.find_iter(all) {
        let Some(value) = parse(found.as_str()) else { continue };
        let behind = &all[found.end()..];
        let next = found.end() + behind.len() - behind.trim_start_matches(' ').len();
        let factor = factors.iter().find(|(range, _)| range.start == found.end() || range.start == next);
        let end = factor.map_or(found.end(), |(range, _)| range.end);
        let led =
            currencies.iter().rev().find(|(sign, _)| leads(all, sign, found.start())).map(|(_, code)| *code);
        let follows = currencies.iter().find(|(sign, _)| follows(all, sign, end));
        let amount = Amount {
            value,
            start: found.start(),
            digits_end: found.end(),
            end,
            led,
            followed: follows.map(|(_, code)| *code),
            closes: follows.map_or(end, |(sign, _)| sign.end),
        };
        // A step of a scale, a count, a share and "401(k)" are no pay.
        let is_step = value < SCALE_MAX
            && scales
                .iter()
                .any(|word| word.end <= found.start() && all[word.end..found.start()].trim().is_empty());
        let is_count = hours.iter().any(|word| word.start == next);
        let is_other = is_step || is_count || all[next..].starts_with('%') || behind.starts_with("(k)");
        let is_cut = behind.starts_with(|c: char| c.is_ascii_digit());
        if value <= 0.0 || is_cut || is_other && !amount.is_money() {
            continue;
        }
        out.push((amount, factor.map_or(1.0, |(_, factor)| *factor)));
    }
    for i in 1..out.len() {
        let (before, here) = (out[i - 1], out[i]);
        if here.1 > 1.0 && before.1 == 1.0 && before.0.value < 1000.0 && before.0.value <= here.0.value * 1.5
        {
            out[i - 1].1 = here.1;
        }
    }
    out.into_iter().map(|(amount, factor)| Amount { value: amount.value * factor, ..amount }).collect()
}

/// Words for thousands and the like, with what they stand for.
fn factors(text: &Text<'_>) -> Vec<(Range<usize>, f64)> {
    let lists = [
        (List::AmountThousand, 1e3),
        (List::AmountTenThousand, 1e4),
        (List::AmountLakh, 1e5),
        (List::AmountMillion, 1e6),
    ];
    lists
        .into_iter()
        .flat_map(|(list, factor)| text.find_all(list).into_iter().map(move |at| (at, factor)))
        .collect()
}

fn leads(all: &str, sign: &Range<usize>, start: usize) -> bool {
    sign.end <= start && all[sign.end..start].chars().all(|c| c == ' ' || matches!(c, ':' | '('))
}

/// A sign that is set off from the number and glued to the next ("Band 6 £35,000") is the next one's.
fn follows(all: &str, sign: &Range<usize>, end: usize) -> bool {
    let Some(between) = all.get(end..sign.start) else { return false };
    let is_next_ones = !between.is_empty() && all[sign.end..].starts_with(|c: char| c.is_ascii_digit());
    // "50.000,- €" and "50.000.- CHF" are whole sums.
    let between = between.trim_start_matches([',', '.']).trim_start_matches(['-', '–', '—']);
    between.chars().all(|c| c == ' ') && !is_next_ones
}

/// A number with either separator: three digits after the last one are thousands, one or two are decimals.
fn parse(text: &str) -> Option<f64> {
    let last = text.rfind([',', '.']);
    let decimals = last.filter(|at| text.len() - at - 1 != 3);
    let digits = |s: &str| s.chars().filter(char::is_ascii_digit).collect::<String>();
    match decimals {
        Some(at) => format!("{}.{}", digits(&text[..at]), digits(&text[at + 1..])).parse().ok(),
        None => digits(text).parse().ok(),
    }
}
