//! The scored fields of a single posting beside their truth.

use crate::eval::compare::{company_agrees, places_agree, remote_of, salary_agrees, title_agrees};
use crate::eval::corpus::TruthPage;
use crate::posting::Posting;

/// The scored fields, in the tables' order.
pub const FIELDS: [&str; 7] =
    ["title", "company", "locations", "employment_type", "remote", "salary", "date_posted"];

/// One field: both values for a table, and whether they agree.
pub struct Row {
    pub field: &'static str,
    pub truth: Option<String>,
    pub found: Option<String>,
    pub agrees: bool,
}

/// Every field.
pub fn rows(truth: &TruthPage, found: &Posting) -> [Row; FIELDS.len()] {
    let quoted = |text: &Option<String>| text.as_ref().map(|text| format!("{text:?}"));
    let listed = |list: &[String]| (!list.is_empty()).then(|| format!("{list:?}"));
    let truth_places = truth.locations.clone().unwrap_or_default();
    let pair = |agrees: fn(&str, &str) -> bool, a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if agrees(a, b));
    let pay = salary_agrees(truth, found);
    let (remote, found_remote) = (truth.remote, remote_of(found));
    let rows: [(&str, Option<String>, Option<String>, bool); FIELDS.len()] = [
        ("title", quoted(&truth.title), quoted(&found.title), pair(title_agrees, &truth.title, &found.title)),
        (
            "company",
            quoted(&truth.company),
            quoted(&found.company),
            pair(company_agrees, &truth.company, &found.company),
        ),
        (
            "locations",
            listed(&truth_places),
            listed(&found.locations),
            places_agree(&truth_places, &found.locations),
        ),
        (
            "employment_type",
            truth.employment_type.map(|t| format!("{t:?}")),
            found.employment_type.map(|t| format!("{t:?}")),
            truth.employment_type == found.employment_type,
        ),
        (
            "remote",
            remote.map(|r| r.to_string()),
            found_remote.map(|r| r.to_string()),
            remote == found_remote,
        ),
        (
            "salary",
            pay.map(|_| {
                format!(
                    "{:?}–{:?} {:?} {:?}",
                    truth.salary_min, truth.salary_max, truth.salary_currency, truth.salary_period
                )
            }),
            found
                .salary
                .as_ref()
                .filter(|s| s.min.is_some() || s.max.is_some())
                .map(|s| format!("{:?}–{:?} {:?} {:?}", s.min, s.max, s.currency, s.period)),
            pay == Some(true),
        ),
        (
            "date_posted",
            truth.date_posted.clone(),
            found.date_posted.clone(),
            truth.date_posted.is_some() && truth.date_posted == found.date_posted,
        ),
    ];
    rows.map(|(field, truth, found, agrees)| Row { field, truth, found, agrees })
}
