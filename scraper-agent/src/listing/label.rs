//! Which field of a record is what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use chrono::NaiveDate;
use regex::Regex;

use super::{Field, RecordGroup, is_job_title};
use crate::gate::fold;
use crate::normalize;
use crate::posting::Posting;

/// Field paths by what they mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelling {
    /// The job's title.
    pub title: String,
    /// The employer.
    pub company: Option<String>,
    /// The place.
    pub location: Option<String>,
    /// The day it was posted.
    pub date: Option<String>,
}

static NOISE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)^(apply( now)?|read more|learn more|view( job| role| details)?|more|save|share|details|mehr( erfahren)?|zur stelle|jetzt bewerben|bewerben|new|neu|show more|see more|weiterlesen|einblenden|close|back|next|previous|easy apply|actively recruiting|be an early applicant)\W*$").ok()
});
static DATE_LIKE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)\d+\+?\s*(d|h|w|mo|min|hour|day|week|month|tag|stunde|woche|monat)|ago|posted|\d{4}-\d\d-\d\d|\d{1,2}\.\d{1,2}\.\d{2,4}|yesterday|today|heute|gestern|vor \d").ok()
});
static PLACE_LIKE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(remote|hybrid|on-?site|germany|deutschland|united (states|kingdom)|usa|uk|india|france|spain|europe|emea|worldwide|standort|location)\b|^[\p{Lu}\p{Lo}][\p{L}.'’ -]{1,30}(, ?[\p{L}.'’ -]{2,30}){1,3}$").ok()
});

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

/// Guesses the labelling of a group from all its records; `None` where no field can be a title.
pub fn label(group: &RecordGroup) -> Option<Labelling> {
    let n = group.records.len().max(1);
    let mut by_path: BTreeMap<&str, Vec<&Field>> = BTreeMap::new();
    for field in group.records.iter().flat_map(|r| &r.fields) {
        by_path.entry(&field.path).or_default().push(field);
    }
    let order = |path: &str| {
        group.records.iter().find_map(|r| r.fields.iter().position(|f| f.path == path)).unwrap_or(usize::MAX)
    };
    let share = |fields: &[&Field], test: &dyn Fn(&Field) -> bool| {
        fields.iter().filter(|f| test(f)).count() as f32 / fields.len().max(1) as f32
    };
    let title_score = |path: &str, fields: &[&Field]| {
        let distinct: BTreeSet<&str> = fields.iter().map(|f| f.text.as_str()).collect();
        let mut score = 0.0;
        score += 3.0 * share(fields, &|f| f.heading);
        score += 2.0 * share(fields, &|f| f.link.as_ref().is_some_and(|l| !l.is_empty()));
        score += 2.0 * share(fields, &|f| is_job_title(&f.text));
        score += 2.0 * (distinct.len() as f32 / fields.len() as f32);
        score += 2.0 * (fields.len() as f32 / n as f32).min(1.0);
        score += share(fields, &|f| (6..=120).contains(&f.text.chars().count()));
        score -= 4.0 * share(fields, &|f| matches(&NOISE, &f.text));
        score -= 3.0 * share(fields, &|f| f.text.len() < 40 && matches(&DATE_LIKE, &f.text));
        score -= 1.5 * share(fields, &|f| matches(&PLACE_LIKE, &f.text));
        score -= 0.3 * order(path).min(8) as f32;
        score -= if path.contains("company") || path.contains("subtitle") { 4.0 } else { 0.0 };
        score += if path.contains("title") { 2.0 } else { 0.0 };
        score -= 3.0 * share(fields, &|f| f.link.as_ref().is_some_and(|l| l.contains("/company/")));
        score
    };
    let ranked = by_path.iter().map(|(path, fields)| (*path, title_score(path, fields)));
    let (title, score) = ranked.max_by(|a, b| a.1.total_cmp(&b.1))?;
    if score < 2.5 {
        return None;
    }
    let mut labelling = Labelling { title: title.to_owned(), ..Labelling::default() };
    let best = |test: &dyn Fn(&str, &Field) -> bool, min: f32, taken: &[Option<&String>]| {
        let free = |path: &&str| **path != *title && !taken.iter().any(|t| t.is_some_and(|t| t == *path));
        let scored = by_path
            .iter()
            .filter(|(path, _)| free(path))
            .map(|(path, fields)| (*path, share(fields, &|f| test(path, f)), fields.len()));
        let found =
            scored.filter(|(_, s, count)| *s >= min && *count * 3 >= n).max_by(|a, b| a.1.total_cmp(&b.1));
        found.map(|(path, _, _)| path.to_owned())
    };
    labelling.date = best(
        &|path, f| {
            path.starts_with("time")
                || path.contains("/time")
                || f.text.len() < 40 && matches(&DATE_LIKE, &f.text)
        },
        0.6,
        &[],
    );
    labelling.location = best(
        &|path, f| {
            path.contains("location")
                || path.contains("place")
                || f.text.len() < 90 && matches(&PLACE_LIKE, &f.text)
        },
        0.5,
        &[labelling.date.as_ref()],
    );
    labelling.company = best(
        &|path, _| path.contains("company") || path.contains("employer") || path.contains("subtitle"),
        0.9,
        &[labelling.date.as_ref(), labelling.location.as_ref()],
    );
    Some(labelling)
}

/// Every record as a posting; records without a title are left out.
pub fn apply(group: &RecordGroup, labelling: &Labelling, fetched: NaiveDate) -> Vec<Posting> {
    let mut out: Vec<Posting> = Vec::new();
    for record in &group.records {
        let field = |path: &str| record.fields.iter().find(|f| f.path == path);
        let text = |path: &Option<String>| path.as_deref().and_then(field).map(|f| f.text.clone());
        let Some(title) = field(&labelling.title).filter(|f| !matches(&NOISE, &f.text)) else { continue };
        let linked = |f: &&Field| f.link.as_ref().is_some_and(|l| !l.is_empty());
        let link = Some(title).filter(linked).or_else(|| record.fields.iter().find(linked));
        let posting = Posting {
            title: Some(title.text.clone()),
            company: text(&labelling.company),
            locations: text(&labelling.location).into_iter().collect(),
            date_posted: text(&labelling.date).and_then(|d| normalize::date(&d, fetched, None)),
            url: link.and_then(|f| f.link.clone()),
            ..Posting::default()
        };
        let twin = out
            .iter()
            .any(|p| p.title == posting.title && p.url == posting.url && p.locations == posting.locations);
        if !twin {
            out.push(posting);
        }
    }
    out
}

/// An address that several titles of one listing share is where they are applied for, not what tells them apart.
pub fn tell_apart(postings: &mut [Posting]) {
    let mut titles: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
    for posting in postings.iter() {
        if let Some(url) = &posting.url {
            titles.entry(address(url)).or_default().insert(posting.title.as_deref().map(fold));
        }
    }
    for posting in postings.iter_mut() {
        let Some(url) = posting.url.take_if(|url| titles.get(&address(url)).is_some_and(|t| t.len() > 1))
        else {
            continue;
        };
        if posting.apply_url.is_none() {
            posting.apply_url = Some(url);
            if let Some(evidence) = posting.evidence.remove("url") {
                posting.evidence.insert("apply_url".to_owned(), evidence);
            }
        }
    }
}

/// An address without what only says where on its page to look, or who sent the visitor.
fn address(text: &str) -> String {
    url::Url::parse(text).map_or_else(|_| text.to_owned(), |url| crate::store::canonical_url(&url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_titles_share_is_where_to_apply() {
        let posting = |title: &str, url: &str| Posting {
            title: Some(title.to_owned()),
            url: Some(url.to_owned()),
            ..Posting::default()
        };
        let mut postings = vec![
            posting("Welder", "https://a.example/apply"),
            posting("Diver", "https://a.example/apply#form"),
            posting("Cook", "https://a.example/jobs/cook"),
            posting("COOK", "https://a.example/jobs/cook?utm_source=x"),
        ];
        tell_apart(&mut postings);
        let of = |index: usize| (postings[index].url.as_deref(), postings[index].apply_url.as_deref());
        assert_eq!(of(0), (None, Some("https://a.example/apply")));
        assert_eq!(of(1), (None, Some("https://a.example/apply#form")));
        assert_eq!(of(2), (Some("https://a.example/jobs/cook"), None), "one job linked twice");
        assert_eq!(of(3).1, None);
    }
}
