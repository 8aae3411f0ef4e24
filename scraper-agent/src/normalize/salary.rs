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
    PERIODS.iter().find(|(_, words)| words.iter().any(|w| names_period(&text, w))).map(|(p, _)| *p)
}

/// Short words must stand alone ("hr" is in "Jahresgehalt"); long ones are often parts of compounds.
fn names_period(text: &str, word: &str) -> bool {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    let is_short = letters <= 3 && word.chars().all(|c| (c as u32) < 0x590);
    text.match_indices(word).any(|(at, found)| {
        let before = text[..at].chars().next_back().is_some_and(char::is_alphabetic);
        let after = text[at + found.len()..].chars().next().is_some_and(char::is_alphabetic);
        let open = |c: Option<char>| c.is_some_and(char::is_alphabetic);
        !is_short || !(before && open(word.chars().next()) || after && open(word.chars().next_back()))
    })
}

/// Reads a stretch of text that is about pay; `None` where it holds no amount with a currency or period.
pub fn salary(text: &str) -> Option<Salary> {
    let lower = text.to_lowercase();
    let currency = CURRENCIES.iter().find(|(symbol, _)| has_currency(&lower, symbol)).map(|(_, code)| *code);
    let period = salary_period(text);
    if currency.is_none() && period.is_none() {
        return None;
    }
    let amounts: Vec<(f64, usize)> = amounts(&lower);
    let (first, start) = *amounts.first()?;
    let mut salary = Salary { currency: currency.map(str::to_owned), period, ..Salary::default() };
    let second = amounts.get(1).map(|(n, _)| *n).filter(|n| *n >= first && *n <= first * 20.0);
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

/// Amounts with their offsets, thousands and 万 applied. In "80-100k" the factor is both numbers'.
fn amounts(lower: &str) -> Vec<(f64, usize)> {
    let Some(pattern) = NUMBER.as_ref() else { return Vec::new() };
    let mut out: Vec<(f64, usize, f64)> = Vec::new();
    for found in pattern.find_iter(lower) {
        let Some(value) = parse(found.as_str()) else { continue };
        let after = lower[found.end()..].trim_start_matches(' ');
        let next_letter = |text: &str| text.chars().nth(1).is_some_and(char::is_alphabetic);
        let factor = if (after.starts_with('k') || after.starts_with('к')) && !next_letter(after)
            || after.starts_with("тис")
            || after.starts_with("тыс")
        {
            1_000.0
        } else if after.starts_with('万') {
            10_000.0
        } else if after.starts_with('%') {
            continue;
        } else {
            1.0
        };
        // Years and small counts ("401(k)", "40 hours") are no pay.
        let glued_k = lower[found.end()..].starts_with("(k)");
        let hours =
            ["hours", "hrs/", "stunden", "days", "tage", "weeks"].iter().any(|w| after.starts_with(w));
        if glued_k || hours || value <= 0.0 {
            continue;
        }
        out.push((value, found.start(), factor));
    }
    for i in 1..out.len() {
        if out[i].2 > 1.0 && out[i - 1].2 == 1.0 && out[i - 1].0 < 1000.0 && out[i - 1].0 <= out[i].0 * 1.5 {
            out[i - 1].2 = out[i].2;
        }
    }
    out.into_iter().map(|(value, at, factor)| (value * factor, at)).collect()
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
