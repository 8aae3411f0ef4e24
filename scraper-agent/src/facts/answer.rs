//! A model's answer as candidates: every string must stand on the page; what does not is dropped and reported.

use super::lines::lines;
use super::{Candidate, Field, Source, Value, employer, labelled};
use crate::ats;
use crate::extracted::ExtractedFields;
use crate::job_title::{is_general, reads_like_job};
use crate::listing::is_place_like;
use crate::normalize;
use crate::page::{PageView, fold};
use crate::posting::{Evidence, EvidenceSource, Salary, Workplace};
use crate::words::{self, List};

/// Why a value was dropped; goes into the prompt of the second try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub field: &'static str,
    /// What the model said.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// What is left of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Proven values with their evidence.
    pub candidates: Vec<Candidate>,
    /// What was dropped.
    pub problems: Vec<Problem>,
}

const ABSENT: &str = "does not stand on the page";

impl Checked {
    fn drop(&mut self, field: &'static str, value: &str, why: &'static str) {
        self.problems.push(Problem { field, value: value.to_owned(), why });
    }

    /// The value with its evidence, where it says something and stands on the page.
    fn prove(
        &mut self,
        page: &PageView<'_>,
        field: &'static str,
        value: &Option<String>,
    ) -> Option<(String, Evidence)> {
        let value = value.as_ref().map(|v| v.trim()).filter(|v| !v.is_empty() && !is_nothing(v))?;
        match page.prove(value) {
            Some(evidence) => Some((value.to_owned(), evidence)),
            None => {
                self.drop(field, value, ABSENT);
                None
            }
        }
    }

    fn add(&mut self, field: Field, value: Value, evidence: Vec<Evidence>) {
        self.candidates.push(Candidate::new(field, value, Source::Model, evidence));
    }
}

/// Checks an answer field by field.
pub fn check(raw: &ExtractedFields, page: &PageView<'_>) -> Checked {
    let mut out = Checked::default();
    title(raw, page, &mut out);
    if let Some((name, evidence)) = out.prove(page, "company", &raw.company) {
        let is_title = raw.title.as_deref().is_some_and(|title| fold(title) == fold(&name));
        let value = Value::Text(name.clone());
        out.candidates.push(
            Candidate::new(Field::Company, value, Source::Model, vec![evidence])
                .adjusted(employer::is_host(&name, page), -60, "it is where the page is")
                .adjusted(raw.locations.contains(&name), -25, "it is said to be a place, too")
                .adjusted(is_title || reads_like_job(&name), -15, "it reads like a job's name")
                .adjusted(is_general(&name), -25, "it names no employer"),
        );
    }
    if let Some((text, evidence)) = out.prove(page, "seniority", &raw.seniority) {
        out.add(Field::Seniority, Value::Text(text), vec![evidence]);
    }
    places(raw, page, &mut out);
    let skills: Vec<_> = raw
        .skills
        .iter()
        .filter(|skill| is_skill(skill))
        .filter_map(|skill| out.prove(page, "skills", &Some(skill.clone())))
        .collect();
    if !skills.is_empty() {
        let (mut values, evidence): (Vec<String>, Vec<Evidence>) = skills.into_iter().unzip();
        values.dedup();
        out.add(Field::Skills, Value::Texts(values), evidence);
    }
    if let Some((text, evidence)) = out.prove(page, "salary", &raw.salary) {
        match read_salary(&text, page, &evidence).filter(Salary::is_pay) {
            Some(mut salary) => {
                salary.text = Some(text);
                out.add(Field::Salary, Value::Salary(Box::new(salary)), vec![evidence]);
            }
            None => out.drop("salary", &text, "states no amount of money that is pay"),
        }
    }
    let dates = [
        ("date_posted", Field::DatePosted, &raw.date_posted),
        ("valid_through", Field::ValidThrough, &raw.valid_through),
    ];
    for (name, field, value) in dates {
        let Some((text, evidence)) = out.prove(page, name, value) else { continue };
        match normalize::date(&text, page.fetched, page.month_first()) {
            Some(day) => out.add(field, Value::Text(day), vec![evidence]),
            None => out.drop(name, &text, "is no date that can be read"),
        }
    }
    closed_words(raw, page, &mut out);
    apply_link(raw, page, &mut out);
    out
}

fn title(raw: &ExtractedFields, page: &PageView<'_>, out: &mut Checked) {
    let Some((title, evidence)) = out.prove(page, "title", &raw.title) else { return };
    let folded = fold(&title);
    let meta = &page.cleaned.meta;
    let heads = [&meta.title, &meta.og_title];
    let in_head = heads.into_iter().flatten().any(|head| fold(head).contains(&folded));
    let heads_a_part = lines(page.own).iter().any(|line| line.level > 0 && fold(line.text) == folded);
    let names_other = [&raw.company, &meta.site_name].into_iter().flatten().any(|name| fold(name) == folded);
    let names = reads_like_job(&title);
    let is_of_head = evidence.source == EvidenceSource::Meta;
    let is_employer = employer::has_legal_form(&title);
    let value = Value::Text(title.clone());
    out.candidates.push(
        Candidate::new(Field::Title, value, Source::Model, vec![evidence])
            .adjusted(names, 14, "it reads like a job's name")
            .adjusted(in_head || heads_a_part, 12, "a heading or the head has it too")
            .adjusted(is_of_head, -25, "it stands in the head alone")
            .adjusted(is_employer, -30, "it has an employer's legal form")
            .adjusted(names_other, -40, "it is the employer's or the site's name")
            .adjusted(!names && is_general(&title), -50, "it speaks of jobs in general"),
    );
}

/// Small models list what they see; amounts, days, places of work and jobs are no skills.
fn is_skill(text: &str) -> bool {
    !normalize::names_currency(text)
        && normalize::workplace(text).is_none()
        && normalize::employment(text).is_none()
        && !reads_like_job(text)
        && !words::has(List::Ago, text)
}

fn places(raw: &ExtractedFields, page: &PageView<'_>, out: &mut Checked) {
    let mut places: Vec<String> = Vec::new();
    let mut evidence = Vec::new();
    for place in &raw.locations {
        if is_amount(page, place) {
            out.drop("locations", place, "stands only where the page speaks of pay");
            continue;
        }
        if is_of_the_title(raw, page, place) {
            out.drop("locations", place, "stands only in the title");
            continue;
        }
        if let Some((place, at)) = out.prove(page, "locations", &Some(place.clone()))
            && !places.contains(&place)
        {
            places.push(place);
            evidence.push(at);
        }
    }
    if !places.is_empty() {
        out.add(Field::Locations, Value::Texts(places), evidence);
    }
}

/// Whether a place is in the title's brackets and nowhere else: what a title adds is more often a team or a level.
fn is_of_the_title(raw: &ExtractedFields, page: &PageView<'_>, place: &str) -> bool {
    let Some((start, end)) = raw.title.as_deref().and_then(|title| page.span(title)) else { return false };
    let is_within = |span: (usize, usize)| (start..end).contains(&span.0);
    let mut spans = std::iter::successors(page.span(place), |(_, end)| page.span_from(place, *end));
    !is_place_like(place) && page.span(place).is_some() && spans.all(is_within)
}

/// A link is where to apply if it says so, by its text or its address, or leads to a system for that.
fn apply_link(raw: &ExtractedFields, page: &PageView<'_>, out: &mut Checked) {
    let Some(number) = raw.apply_link else { return };
    let Some(link) = page.cleaned.links.iter().find(|link| link.number == number as usize) else {
        return out.drop("apply_link", &number.to_string(), "is no link of the page");
    };
    let path = link.url.path().replace(['/', '-', '_', '.'], " ");
    if !words::has(List::Apply, &link.text)
        && !words::has(List::Apply, &path)
        && ats::tenant(&link.url).is_none()
    {
        return out.drop("apply_link", &link.text, "is a link that does not lead to an application");
    }
    let evidence = page.prove(&link.text).into_iter().collect();
    out.add(Field::ApplyUrl, Value::Text(link.url.to_string()), evidence);
}

/// Employment type and workplace come from closed lists: the page must hold words that mean them.
fn closed_words(raw: &ExtractedFields, page: &PageView<'_>, out: &mut Checked) {
    const UNSAID: &str = "is said nowhere on the page";
    if let Some(value) = raw.employment_type.as_deref().filter(|v| !is_nothing(v)) {
        let wanted = normalize::employment(&value.replace('_', " "));
        let line = find_line(page, |line| normalize::employment(line) == wanted);
        match (wanted, line) {
            (Some(kind), Some(evidence)) => {
                out.add(Field::EmploymentType, Value::Employment(kind), vec![evidence]);
            }
            _ => out.drop("employment_type", value, UNSAID),
        }
    }
    if let Some(value) = raw.workplace.as_deref().filter(|v| !is_nothing(v)) {
        let said = normalize::workplace(&value.replace('_', "-"));
        // Who offers both says "remote" too; the page's own "hybrid" is the exacter word.
        let is_hybrid = said == Some(Workplace::Remote)
            && find_line(page, |line| normalize::workplace(line) == Some(Workplace::Hybrid)).is_some();
        let wanted = if is_hybrid { Some(Workplace::Hybrid) } else { said };
        let line = find_line(page, |line| normalize::workplace(line) == wanted);
        match (wanted, line) {
            (Some(kind), Some(evidence)) => {
                out.add(Field::Workplace, Value::Workplace(kind), vec![evidence.clone()]);
                if let Some(remote) = labelled::remote(kind) {
                    out.add(Field::Remote, Value::Remote(remote), vec![evidence]);
                }
            }
            _ => out.drop("workplace", value, UNSAID),
        }
    }
}

fn find_line(page: &PageView<'_>, test: impl Fn(&str) -> bool) -> Option<Evidence> {
    let mut at = 0;
    for line in page.own.split_inclusive('\n') {
        if test(line) {
            let (start, end) = (at + line.len() - line.trim_start().len(), at + line.trim_end().len());
            let (start, end) = (Some(start), Some(end));
            return Some(Evidence { source: EvidenceSource::Text, pointer: None, start, end });
        }
        at += line.len();
    }
    let meta = &page.cleaned.meta;
    let heads = [&meta.title, &meta.description];
    heads.into_iter().flatten().any(|h| test(h)).then(|| Evidence {
        source: EvidenceSource::Meta,
        pointer: Some("head".into()),
        start: None,
        end: None,
    })
}

/// The pay that a copied text states. The words beside it on its line ("up to", "per month") and, where it lacks
/// them, the whole line hold what the model left out, as long as the amounts are the same.
fn read_salary(text: &str, page: &PageView<'_>, evidence: &Evidence) -> Option<Salary> {
    let alone = normalize::salary(text);
    let Some((start, end)) = evidence.start.zip(evidence.end) else { return alone };
    let markdown = page.own;
    let from = markdown[..start].rfind('\n').map_or(0, |at| at + 1);
    let to = markdown[end..].find('\n').map_or(markdown.len(), |at| end + at);
    if normalize::is_benefit(&markdown[from..start], &markdown[end..to]) {
        return None;
    }
    let before: String = last_chars(&markdown[from..start], BESIDE_CHARS).to_owned();
    let after: String = markdown[end..to].chars().take(BESIDE_CHARS).collect();
    let line: String = markdown[from..to].chars().take(LINE_CHARS).collect();
    let wider = [format!("{before}{text}{after}"), format!("{before}{text}"), format!("{text}{after}"), line];
    let Some(alone) = alone else { return wider.iter().find_map(|text| normalize::salary(text)) };
    let amount = |salary: &Salary| salary.max.or(salary.min);
    let same = wider.iter().filter_map(|text| normalize::salary(text)).filter(|w| {
        let bounds = [w.min, w.max].into_iter().flatten().all(|n| [alone.min, alone.max].contains(&Some(n)));
        bounds && amount(w) == amount(&alone)
    });
    // The reading that says most: currency and period first, then a bound that is only an upper or a lower one.
    let says = |s: &Salary| {
        let known = usize::from(s.currency.is_some()) + usize::from(s.period.is_some());
        (known, usize::from(s.min.is_none() || s.max.is_none()))
    };
    std::iter::once(alone.clone())
        .chain(same)
        .reduce(|best, next| if says(&next) > says(&best) { next } else { best })
}

/// Whether a value stands in a part of a line that states pay.
fn is_amount(page: &PageView<'_>, value: &str) -> bool {
    let Some((start, end)) = page.span(value) else { return false };
    let markdown = page.own;
    let from = markdown[..start].rfind('\n').map_or(0, |at| at + 1);
    let to = markdown[end..].find('\n').map_or(markdown.len(), |at| end + at);
    let line = &markdown[from..to];
    line.chars().count() <= BESIDE_CHARS * 3
        && normalize::names_currency(line)
        && normalize::salary(line).is_some()
}

/// Characters beside a copied salary that may belong to it.
const BESIDE_CHARS: usize = 28;
/// Characters of a line that is read for pay.
const LINE_CHARS: usize = 300;

fn last_chars(text: &str, count: usize) -> &str {
    let start = text.char_indices().rev().nth(count.saturating_sub(1)).map_or(0, |(at, _)| at);
    &text[start..]
}

/// What models write where they should write null.
fn is_nothing(value: &str) -> bool {
    matches!(
        value.trim().to_lowercase().as_str(),
        "null"
            | "none"
            | "n/a"
            | "na"
            | "not specified"
            | "not stated"
            | "unknown"
            | "-"
            | "not mentioned"
            | "undefined"
    )
}
