//! Salaries out of text: ranges, thousands in every notation, currencies, periods; annualised.

use std::sync::LazyLock;

use regex::Regex;

use crate::posting::{Salary, SalaryPeriod};

/// Symbols and codes, the longer spelling first where one begins another.
const CURRENCIES: [(&str, &str); 45] = [
    ("us$", "USD"),
    ("a$", "AUD"),
    ("au$", "AUD"),
    ("c$", "CAD"),
    ("ca$", "CAD"),
    ("hk$", "HKD"),
    ("s$", "SGD"),
    ("nz$", "NZD"),
    ("r$", "BRL"),
    ("€", "EUR"),
    ("£", "GBP"),
    ("¥", "JPY"),
    ("円", "JPY"),
    ("₹", "INR"),
    ("₪", "ILS"),
    ("₴", "UAH"),
    ("грн", "UAH"),
    ("₽", "RUB"),
    ("руб", "RUB"),
    ("zł", "PLN"),
    ("₫", "VND"),
    ("₩", "KRW"),
    ("usd", "USD"),
    ("eur", "EUR"),
    ("euro", "EUR"),
    ("euros", "EUR"),
    ("dollars", "USD"),
    ("pounds", "GBP"),
    ("kroner", "DKK"),
    ("gbp", "GBP"),
    ("chf", "CHF"),
    ("dkk", "DKK"),
    ("sek", "SEK"),
    ("nok", "NOK"),
    ("pln", "PLN"),
    ("aud", "AUD"),
    ("cad", "CAD"),
    ("sgd", "SGD"),
    ("hkd", "HKD"),
    ("inr", "INR"),
    ("jpy", "JPY"),
    ("ils", "ILS"),
    ("uah", "UAH"),
    ("rub", "RUB"),
    ("$", "USD"),
];

const PERIODS: [(SalaryPeriod, &[&str]); 5] = [
    (
        SalaryPeriod::Hour,
        &[
            "hour", "/hr", "/h", "hr", "stunde", "std", "heure", "hora", "час", "/год", "ora", "timen",
            "uur", "時給", "שעה",
        ],
    ),
    (SalaryPeriod::Day, &["/day", "per day", "a day", "daily", "day", "pro tag", "jour", "día", "日給"]),
    (SalaryPeriod::Week, &["week", "woche", "semaine", "semana"]),
    (
        SalaryPeriod::Month,
        &[
            "month",
            "monat",
            "/mo",
            "mois",
            "mes",
            "mês",
            "месяц",
            "місяц",
            "міс",
            "мес",
            "mese",
            "måned",
            "maand",
            "月給",
            "月額",
            "חודש",
        ],
    ),
    (
        SalaryPeriod::Year,
        &[
            "year", "annual", "annum", "p.a", "/yr", "yr", "jahr", "an", "année", "año", "ano", "anno",
            "рік", "год", "årlig", "jaar", "年収", "年俸", "שנה",
        ],
    ),
];

static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"\d{1,3}(?:[.,'’ \u{a0}\u{202f}]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?").ok()
});

/// The period that a word names ("HOUR", "per-year-salary", "1 YEAR", "monatlich").
pub fn salary_period(text: &str) -> Option<SalaryPeriod> {
    let text = text.to_lowercase();
    PERIODS
        .iter()
        .find(|(_, words)| words.iter().any(|w| names_period(&text, w).next().is_some()))
        .map(|(p, _)| *p)
}

/// Every period that a text names, in order. "an" before another one is an article ("an hour").
fn periods(lower: &str) -> Vec<SalaryPeriod> {
    let mut found: Vec<(usize, usize, SalaryPeriod)> = PERIODS
        .iter()
        .flat_map(|(period, words)| words.iter().map(move |word| (*period, *word)))
        .flat_map(|(period, word)| names_period(lower, word).map(move |at| (at, at + word.len(), period)))
        .collect();
    found.sort_by_key(|(at, end, _)| (*at, std::cmp::Reverse(*end)));
    let starts: Vec<usize> = found.iter().map(|(at, ..)| *at).collect();
    let is_article = |end: usize| lower[end..].starts_with(' ') && starts.contains(&(end + 1));
    found
        .into_iter()
        .filter(|(at, end, _)| &lower[*at..*end] != "an" || !is_article(*end))
        .map(|(.., p)| p)
        .collect()
}

/// The period of the amount between `start` and `end`: behind it, else before it, in its own clause and not beside
/// another number ("37 hours per week"); else in a clause that holds no number.
fn period_of(lower: &str, start: usize, end: usize) -> Option<SalaryPeriod> {
    let stops = |c: char| is_clause_end(c) || c.is_numeric();
    let behind = &lower[end..];
    let behind = &behind[..behind.find(stops).unwrap_or(behind.len())];
    let before = &lower[..start];
    let before = &before
        [before.rfind(stops).map_or(0, |at| at + lower[at..].chars().next().map_or(1, char::len_utf8))..];
    let elsewhere = || {
        let clauses = lower.split(is_clause_end).filter(|clause| !clause.contains(char::is_numeric));
        clauses.flat_map(periods).next()
    };
    periods(behind).first().copied().or_else(|| periods(before).last().copied()).or_else(elsewhere)
}

/// A dot is in numbers and abbreviations ("p.a.") as well.
fn is_clause_end(c: char) -> bool {
    matches!(c, ',' | ';' | '(' | ')' | '|' | '•' | '·' | '\n')
}

/// Short words must stand alone ("hr" is in "Jahresgehalt"); long ones are often parts of compounds.
fn names_period<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    let is_short = letters <= 3 && word.chars().all(|c| (c as u32) < 0x590);
    let places = text.match_indices(word).filter(move |(at, found)| {
        let before = text[..*at].chars().next_back().is_some_and(char::is_alphabetic);
        let after = text[at + found.len()..].chars().next().is_some_and(char::is_alphabetic);
        let open = |c: Option<char>| c.is_some_and(char::is_alphabetic);
        !is_short || !(before && open(word.chars().next()) || after && open(word.chars().next_back()))
    });
    places.map(|(at, _)| at)
}

/// Reads a stretch of text that is about pay; `None` where it holds no amount with a currency or period.
pub fn salary(text: &str) -> Option<Salary> {
    let lower = text.to_lowercase();
    let currency = CURRENCIES.iter().find(|(symbol, _)| has_currency(&lower, symbol)).map(|(_, code)| *code);
    if currency.is_none() && salary_period(text).is_none() {
        return None;
    }
    let (low, high) = chosen(&lower, &amounts(&lower))?;
    let (first, start) = (low.value, low.start);
    let period = period_of(&lower, start, high.unwrap_or(low).end);
    let mut salary = Salary { currency: currency.map(str::to_owned), period, ..Salary::default() };
    let second = high.map(|high| high.value).filter(|n| *n >= first && *n <= first * 20.0);
    let before = lower.get(..start).unwrap_or("");
    let says = |words: &[&str]| words.iter().any(|w| before.contains(w));
    match second {
        Some(second) => (salary.min, salary.max) = (Some(first), Some(second)),
        None if says(&[
            "up to", "upto", "bis zu", "до ", "jusqu", "hasta", "até", "fino a", "op til", "max",
        ]) =>
        {
            salary.max = Some(first);
        }
        None if says(&[
            "from",
            "ab ",
            "от ",
            "від ",
            "à partir",
            "desde",
            "a partir",
            "fra ",
            "vanaf",
            "min",
            "at least",
        ]) || lower[start..]
            .trim_start_matches(|c: char| c.is_numeric() || ".,k ".contains(c))
            .starts_with('+') =>
        {
            salary.min = Some(first);
        }
        None => (salary.min, salary.max) = (Some(first), Some(first)),
    }
    salary.text = Some(text.trim().to_owned());
    plausible_salary(salary)
}

/// Whether a text names a currency.
pub fn names_currency(text: &str) -> bool {
    let lower = text.to_lowercase();
    CURRENCIES.iter().any(|(symbol, _)| has_currency(&lower, symbol))
}

/// A code stands alone; a symbol may stand anywhere.
fn has_currency(text: &str, symbol: &str) -> bool {
    if !symbol.chars().all(|c| c.is_ascii_alphabetic()) {
        return text.contains(symbol);
    }
    text.split(|c: char| !c.is_alphabetic()).any(|word| word == symbol)
}

/// A number that may be pay.
#[derive(Clone, Copy, Debug)]
struct Amount {
    /// Thousands and 万 applied.
    value: f64,
    start: usize,
    /// Past the number and its factor.
    end: usize,
    /// A currency stands right before it.
    led: bool,
    /// A currency stands right behind it.
    followed: bool,
}

/// The amount that is the pay, and the upper one of a range. Where a currency stands beside a number, a number without
/// one ("Grade 7", "37 hours") counts only as the other end of a range.
fn chosen(lower: &str, all: &[Amount]) -> Option<(Amount, Option<Amount>)> {
    let has_money = all.iter().any(|amount| amount.led || amount.followed);
    let is_pay = |amount: &Amount| {
        (!has_money || amount.led || amount.followed)
            && !is_benefit(&lower[..amount.start], &lower[amount.end..])
    };
    let at = all.iter().position(is_pay)?;
    let first = all[at];
    // In "80-100k EUR" the currency behind is both numbers'; one before ("Grade 7 - £35,000") is its own number's.
    let before = at.checked_sub(1).map(|before| all[before]);
    if let Some(before) = before.filter(|_| first.followed && !first.led)
        && is_range(&lower[before.end..first.start], false)
    {
        return Some((before, Some(first)));
    }
    let next = all.get(at + 1).copied();
    let ends = |next: &Amount| is_range(&lower[first.end..next.start], next.led || next.followed);
    Some((first, next.filter(ends)))
}

/// Whether what stands between two numbers joins them as a range: a dash or a short word ("to", "bis", "до"); between
/// two sums of money any few words of one clause.
fn is_range(between: &str, is_money: bool) -> bool {
    let letters = between.chars().filter(|c| c.is_alphabetic()).count();
    let has_sign = between.trim().chars().any(|c| !c.is_whitespace());
    let longest = if is_money { RANGE_LETTERS_MAX } else { 4 };
    has_sign && letters <= longest && !between.contains(is_clause_end)
}

/// Letters between the two sums of a range at most.
const RANGE_LETTERS_MAX: usize = 24;

/// What an employer gives beside pay.
const BENEFITS: [&str; 18] = [
    "budget",
    "allowance",
    "bonus",
    "voucher",
    "reimburse",
    "relocation",
    "contribution",
    "fund ",
    "funding",
    "revenue",
    "turnover",
    "zuschuss",
    "zulage",
    "prämie",
    "umsatz",
    "bono",
    "бюджет",
    "премі",
];

/// Whether an amount is an allowance or the like, by the words beside it in its clause: "a learning budget of …",
/// "… a year training budget". What is only added ("… plus bonus") says nothing about it.
pub fn is_benefit(before: &str, behind: &str) -> bool {
    let (before, behind) = (before.to_lowercase(), behind.to_lowercase());
    let stops = |c: char| is_clause_end(c) || c.is_numeric() || matches!(c, '+' | '&' | '!' | '?');
    let joins = [" plus ", " and ", " und ", " et ", " y ", " e ", " та ", " и ", ". "];
    let start =
        before.rfind(stops).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let own = joins.iter().filter_map(|j| before[start..].rfind(j).map(|at| start + at + j.len())).max();
    let before = format!("{} ", &before[own.unwrap_or(start)..]);
    let end = behind.find(stops).unwrap_or(behind.len());
    let own = joins.iter().filter_map(|j| behind[..end].find(j)).min();
    let behind = format!("{} ", &behind[..own.unwrap_or(end)]);
    let names = |text: &str| BENEFITS.iter().any(|word| text.contains(word));
    names(&before) || names(&behind)
}

/// Amounts in order, thousands and 万 applied. In "80-100k" the factor is both numbers'.
fn amounts(lower: &str) -> Vec<Amount> {
    let Some(pattern) = NUMBER.as_ref() else { return Vec::new() };
    let mut out: Vec<(Amount, f64)> = Vec::new();
    for found in pattern.find_iter(lower) {
        let Some(value) = parse(found.as_str()) else { continue };
        let rest = &lower[found.end()..];
        let after = rest.trim_start_matches(' ');
        let next_letter = |text: &str| text.chars().nth(1).is_some_and(char::is_alphabetic);
        let (factor, mark) = if (after.starts_with('k') || after.starts_with('к')) && !next_letter(after) {
            (1_000.0, after.chars().next().map_or(0, char::len_utf8))
        } else if after.starts_with("тис") || after.starts_with("тыс") {
            (1_000.0, "тис".len() + usize::from(after["тис".len()..].starts_with('.')))
        } else if after.starts_with('万') {
            (10_000.0, '万'.len_utf8())
        } else if after.starts_with('%') {
            continue;
        } else {
            (1.0, 0)
        };
        // Years and small counts ("401(k)", "40 hours") are no pay.
        let glued_k = rest.starts_with("(k)");
        let hours =
            ["hours", "hrs/", "stunden", "days", "tage", "weeks"].iter().any(|w| after.starts_with(w));
        if glued_k || hours || value <= 0.0 {
            continue;
        }
        let end = if mark == 0 { found.end() } else { lower.len() - after.len() + mark };
        let (led, followed) =
            (ends_in_currency(&lower[..found.start()]), begins_with_currency(&lower[end..]));
        out.push((Amount { value, start: found.start(), end, led, followed }, factor));
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

fn ends_in_currency(text: &str) -> bool {
    let text = text.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '('));
    CURRENCIES.iter().any(|(symbol, _)| {
        let Some(rest) = text.strip_suffix(symbol) else { return false };
        !symbol.starts_with(char::is_alphabetic) || !rest.ends_with(char::is_alphabetic)
    })
}

/// A sign that is set off from the number and glued to the next ("Band 6 £35,000") is the next one's.
fn begins_with_currency(whole: &str) -> bool {
    let text = whole.trim_start();
    let is_apart = text.len() < whole.len();
    CURRENCIES.iter().any(|(symbol, _)| {
        let Some(rest) = text.strip_prefix(symbol) else { return false };
        let is_next_ones = is_apart && rest.starts_with(|c: char| c.is_ascii_digit());
        let is_word = symbol.chars().all(|c| c.is_ascii_alphabetic());
        !(is_next_ones || is_word && rest.starts_with(char::is_alphabetic))
    })
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
