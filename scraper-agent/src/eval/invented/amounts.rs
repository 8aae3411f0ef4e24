//! Numbers as sums of money: every notation of thousands and decimals, and the words that multiply.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

/// Words and letters behind a number that multiply it.
const FACTORS: [(&str, f64); 24] = [
    ("k", 1e3),
    ("к", 1e3),
    ("tsd", 1e3),
    ("thousand", 1e3),
    ("mil", 1e3),
    ("tys", 1e3),
    ("тис", 1e3),
    ("тыс", 1e3),
    ("천", 1e3),
    ("m", 1e6),
    ("mio", 1e6),
    ("mln", 1e6),
    ("млн", 1e6),
    ("million", 1e6),
    ("lakh", 1e5),
    ("lakhs", 1e5),
    ("lac", 1e5),
    ("lacs", 1e5),
    ("lpa", 1e5),
    ("l", 1e5),
    ("crore", 1e7),
    ("cr", 1e7),
    ("万", 1e4),
    ("만", 1e4),
];
/// Characters between the numbers of a range, the first of which takes the second's factor ("80–100k").
const RANGE_CHARS_MAX: usize = 12;

static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\d{1,3}(?:[.,'’ \u{a0}\u{202f}]\d{2,3})*[.,'’ \u{a0}\u{202f}]\d{3}(?:[.,]\d{1,2})?\b|\d+(?:[.,]\d+)?")
        .expect("a constant pattern compiles")
});

/// Whether a sum can be read from one of the numbers.
pub fn derivable(sum: f64, readings: &[f64]) -> bool {
    readings.iter().any(|reading| (reading - sum).abs() <= sum.abs() * 1e-6)
}

/// What each number of a text may mean.
pub fn readings(text: &str) -> Vec<f64> {
    let lower: String = text.nfkc().flat_map(char::to_lowercase).collect();
    let mut out = Vec::new();
    // Plain readings of the number before, and where it ended.
    let mut before: Option<(Vec<f64>, usize)> = None;
    for found in NUMBER.find_iter(&lower) {
        let plain = plain_readings(found.as_str());
        let factor = factor(&lower[found.end()..]);
        out.extend(&plain);
        if let Some(factor) = factor {
            out.extend(plain.iter().map(|value| value * factor));
            if let Some((values, end)) = &before
                && found.start() - end <= RANGE_CHARS_MAX
            {
                out.extend(values.iter().map(|value| value * factor));
            }
        }
        before = Some((plain, found.end()));
    }
    out
}

fn plain_readings(text: &str) -> Vec<f64> {
    let digits = |part: &str| part.chars().filter(char::is_ascii_digit).collect::<String>();
    let mut all = vec![digits(text)];
    if let Some(at) = text.rfind([',', '.']) {
        all.push(format!("{}.{}", digits(&text[..at]), digits(&text[at + 1..])));
    }
    // A space may as well stand between two numbers.
    if text.contains(' ') {
        all.extend(text.split(' ').map(digits));
    }
    all.iter().filter_map(|text| text.parse().ok()).collect()
}

fn factor(behind: &str) -> Option<f64> {
    let behind = behind.strip_prefix([' ', '\u{a0}', '\u{202f}', '-']).unwrap_or(behind);
    let word: String = behind.chars().take_while(|c| c.is_alphabetic()).collect();
    let exact = FACTORS.iter().find(|(name, _)| *name == word);
    // "26万円" has the currency behind the factor, "60тис" a case ending.
    let begins =
        || FACTORS.iter().find(|(name, _)| !name.is_ascii() && name.len() > 2 && word.starts_with(name));
    exact.or_else(begins).map(|(_, factor)| *factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_in_every_notation() {
        for (text, sum) in [
            ("€52,000 to €61,000", 61_000.0),
            ("DKK 440.935", 440_935.0),
            ("от 150 000 ₽", 150_000.0),
            ("月給26万円", 260_000.0),
            ("$211.4K - $290.6K", 211_400.0),
            ("80-100k EUR", 80_000.0),
            ("₹12,00,000 a year", 1_200_000.0),
            ("₹ 6.5 lakh", 650_000.0),
            ("CHF 9'800", 9_800.0),
            ("$31.50 an hour", 31.5),
            ("45 тис. грн", 45_000.0),
            ("1.234,56 €", 1_234.56),
            ("\"minValue\": \"55000.00\"", 55_000.0),
            ("2 500 or 3 500", 3_500.0),
        ] {
            assert!(derivable(sum, &readings(text)), "{sum} from {text:?}: {:?}", readings(text));
        }
        for (text, sum) in
            [("52 people", 52_000.0), ("€5,000", 50_000.0), ("call 80 or 100", 100_000.0), ("", 1.0)]
        {
            assert!(!derivable(sum, &readings(text)), "{sum} from {text:?}");
        }
    }
}
