//! Which field of a record is what.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::{Field, RecordGroup, is_place_like};
use crate::job_title::{is_general, names_one_job, reads_like_job};
use crate::normalize;
use crate::page::fold;
use crate::posting::{Posting, Standing};
use crate::words::{List, Text};

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

/// Characters of a field that may be a date, or a place.
const DATE_CHARS_MAX: usize = 40;
const PLACE_CHARS_MAX: usize = 90;

fn is_action(text: &str) -> bool {
    let text = Text::new(text);
    text.is(List::Actions) || text.is(List::Apply)
}

/// Width of a title at most, in Latin letters; characters of scripts that are written without spaces count for two.
const TITLE_WIDTH_MAX: usize = 180;
/// From this width on a text that states pay is a record's whole text rather than its title.
const PAY_WIDTH_MIN: usize = 80;

fn is_title(text: &str) -> bool {
    let width = unicode_width::UnicodeWidthStr::width(text);
    !is_action(text)
        && width <= TITLE_WIDTH_MAX
        && !(width >= PAY_WIDTH_MIN && normalize::names_currency(text) && normalize::salary(text).is_some())
}

/// Whether a short text is a date, absolute or relative; any day will do to read the latter against.
fn is_date_like(text: &str) -> bool {
    text.chars().count() <= DATE_CHARS_MAX
        && (normalize::date(text, NaiveDate::default(), Some(false)).is_some()
            || Text::new(text).begins_with(List::Posted).is_some())
}

fn is_place(text: &str) -> bool {
    text.chars().count() <= PLACE_CHARS_MAX
        && (is_place_like(text)
            || normalize::workplace(text).is_some()
            || Text::new(text).begins_with(List::LabelLocation).is_some())
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
        score += 2.0 * share(fields, &|f| reads_like_job(&f.text));
        score += 2.0 * (distinct.len() as f32 / fields.len() as f32);
        score += 2.0 * (fields.len() as f32 / n as f32).min(1.0);
        score += share(fields, &|f| (6..=120).contains(&f.text.chars().count()));
        score -= 4.0 * share(fields, &|f| is_action(&f.text));
        score -= 3.0 * share(fields, &|f| is_date_like(&f.text));
        score -= 1.5 * share(fields, &|f| is_place(&f.text));
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
        &|path, f| path.starts_with("time") || path.contains("/time") || is_date_like(&f.text),
        0.6,
        &[],
    );
    labelling.location = best(
        &|path, f| {
            path.contains("location")
                || path.contains("place") && !path.contains("placeholder")
                || is_place(&f.text)
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
        let Some(title) = field(&labelling.title).filter(|f| is_title(&f.text)) else { continue };
        // "More jobs" leads to jobs and is none; an open application has an address of its own.
        let has_own = match title.link.as_deref().filter(|link| !link.is_empty()) {
            Some(link) => super::is_one_job(link),
            None => record.links().len() == 1 && record.leads_to_one_job(),
        };
        if is_general(&title.text) && !names_one_job(&title.text) && !has_own {
            continue;
        }
        let linked = |f: &&Field| f.link.as_ref().is_some_and(|l| !l.is_empty());
        let link = Some(title).filter(linked).or_else(|| record.fields.iter().find(linked));
        let posting = Posting {
            standing: Standing::Candidate,
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
