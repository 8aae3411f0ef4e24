//! When a value counts as right. The rules are told in the module above.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

use crate::eval::corpus::TruthPage;
use crate::posting::{Posting, Workplace};

/// Pay bounds may differ by this share.
const SALARY_TOLERANCE: f64 = 0.005;

/// NFKC, lower case, words of letters and digits.
pub fn words(text: &str) -> Vec<String> {
    let plain: String = text
        .nfkc()
        .filter(|c| *c != '\u{ad}' && *c != '\u{200b}')
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_alphanumeric() { c } else { ' ' })
        .collect();
    plain.split_whitespace().map(str::to_owned).collect()
}

/// `(m/w/d)` and its many spellings.
static GENDER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)[\(\[]\s*(?:[mwfdxgn]|all|div|gn|genders?)(?:\s*[/|,*.\-]\s*(?:[mwfdxgn]|all|div|genders?)){0,4}\s*[\)\]]")
        .expect("a constant pattern compiles")
});

/// A title's words without gender marks.
pub fn title_words(title: &str) -> Vec<String> {
    words(&GENDER.replace_all(title, " "))
}

/// Titles.
pub fn title_agrees(truth: &str, found: &str) -> bool {
    let (a, b) = (title_words(truth).join(" "), title_words(found).join(" "));
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    a == b || (!short.is_empty() && long.contains(short.as_str()) && short.len() * 5 >= long.len() * 3)
}

const LEGAL_FORMS: [&str; 30] = [
    "gmbh",
    "mbh",
    "ag",
    "se",
    "kg",
    "kgaa",
    "co",
    "ug",
    "ev",
    "inc",
    "incorporated",
    "llc",
    "ltd",
    "limited",
    "plc",
    "corp",
    "corporation",
    "company",
    "sa",
    "sas",
    "sarl",
    "srl",
    "spa",
    "bv",
    "nv",
    "ab",
    "as",
    "aps",
    "oy",
    "pty",
];

/// Companies.
pub fn company_agrees(truth: &str, found: &str) -> bool {
    let plain = |text: &str| {
        let all = words(text);
        let kept: Vec<String> = all.iter().filter(|w| !LEGAL_FORMS.contains(&w.as_str())).cloned().collect();
        if kept.is_empty() { all } else { kept }
    };
    let (a, b) = (plain(truth), plain(found));
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    !short.is_empty()
        && (long.windows(short.len()).any(|window| window == short.as_slice()) || a.concat() == b.concat())
}

/// Places: any two share a city.
pub fn places_agree(truth: &[String], found: &[String]) -> bool {
    let city = |place: &str| words(place.split([',', '(', '|', ';']).next().unwrap_or(place));
    let within = |inner: &[String], outer: &[String]| {
        !inner.is_empty() && outer.windows(inner.len()).any(|window| window == inner)
    };
    truth.iter().any(|a| found.iter().any(|b| within(&city(a), &words(b)) || within(&city(b), &words(a))))
}

/// Pay. `None` where the truth has none.
pub fn salary_agrees(truth: &TruthPage, found: &Posting) -> Option<bool> {
    if truth.salary_min.is_none() && truth.salary_max.is_none() {
        return None;
    }
    let Some(salary) = &found.salary else { return Some(false) };
    let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= a.abs().max(1.0) * SALARY_TOLERANCE,
        (None, None) => true,
        _ => false,
    };
    // One figure may be told as both bounds or as either.
    let single = |a: Option<f64>, b: Option<f64>| a.is_some() && (a == b || b.is_none());
    let bounds = (near(truth.salary_min, salary.min) && near(truth.salary_max, salary.max))
        || (truth.salary_min == truth.salary_max
            && (single(salary.min, salary.max) && near(truth.salary_min, salary.min)
                || single(salary.max, salary.min) && near(truth.salary_max, salary.max)));
    let same = |a: Option<String>, b: Option<String>| a.is_none() || b.is_none() || a == b;
    let upper = |text: &Option<String>| text.as_ref().map(|t| t.to_uppercase());
    let currency = same(upper(&truth.salary_currency), upper(&salary.currency));
    let period =
        truth.salary_period.is_none() || salary.period.is_none() || truth.salary_period == salary.period;
    Some(bounds && currency && period)
}

/// What a posting says of remote work.
pub fn remote_of(found: &Posting) -> Option<bool> {
    found.remote.or_else(|| found.workplace.map(|workplace| workplace == Workplace::Remote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posting::Salary;

    #[test]
    fn titles() {
        assert!(title_agrees("Geowissenschaftler (m/w/d)", "Geowissenschaftler"));
        assert!(title_agrees("Engineer – Storage", "engineer, STORAGE"));
        assert!(title_agrees("Senior Engineer", "Senior Engineer, Berlin"));
        assert!(!title_agrees("Senior Engineer", "Engineer"), "a word less changes the job");
        assert!(!title_agrees("Engineer", "Designer"));
        assert!(!title_agrees("Engineer", ""));
    }

    #[test]
    fn companies() {
        assert!(company_agrees("Fugro Germany GmbH", "Fugro Germany"));
        assert!(company_agrees("Work.ua", "Work ua"));
        assert!(company_agrees("Acme", "Acme Robotics Inc."));
        assert!(!company_agrees("Acme", "Acmeology"));
        assert!(!company_agrees("GmbH", ""));
    }

    #[test]
    fn places() {
        let p = |text: &str| vec![text.to_owned()];
        assert!(places_agree(&p("San Francisco"), &p("San Francisco, CA, US")));
        assert!(places_agree(&p("Lilienthal, Deutschland"), &p("Lilienthal (DE)")));
        assert!(!places_agree(&p("York"), &p("Newyork")));
        assert!(!places_agree(&p("Berlin"), &[]));
    }

    #[test]
    fn pay() {
        let truth = |min, max| TruthPage {
            salary_min: min,
            salary_max: max,
            salary_currency: Some("EUR".into()),
            ..TruthPage::default()
        };
        let found = |min, max, currency: &str| Posting {
            salary: Some(Salary { min, max, currency: Some(currency.into()), ..Salary::default() }),
            ..Posting::default()
        };
        assert_eq!(
            salary_agrees(&truth(Some(400.0), Some(400.0)), &found(Some(400.0), None, "EUR")),
            Some(true)
        );
        assert_eq!(
            salary_agrees(&truth(Some(400.0), Some(500.0)), &found(Some(400.0), None, "EUR")),
            Some(false)
        );
        assert_eq!(
            salary_agrees(&truth(Some(400.0), Some(500.0)), &found(Some(400.0), Some(501.0), "eur")),
            Some(true)
        );
        assert_eq!(
            salary_agrees(&truth(Some(400.0), Some(500.0)), &found(Some(400.0), Some(500.0), "USD")),
            Some(false)
        );
        assert_eq!(salary_agrees(&truth(None, None), &found(Some(1.0), None, "EUR")), None);
    }
}
