//! Grounding: every string from the model must stand on the page; what does not is dropped and reported.

use chrono::NaiveDate;
use unicode_normalization::UnicodeNormalization;
use url::Url;

use crate::clean::Cleaned;
use crate::extracted::ExtractedFields;
use crate::facts;
use crate::normalize;
use crate::posting::{Evidence, EvidenceSource, Posting, Salary, Workplace};

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
pub struct Verified {
    /// Proven fields with their evidence.
    pub posting: Posting,
    /// What was dropped.
    pub problems: Vec<Problem>,
}

/// A page's text, folded for searching, with the way back to its bytes.
pub struct Haystack {
    folded: String,
    /// For each byte of `folded`, the byte of the text it comes from.
    origin: Vec<u32>,
    len: usize,
}

impl Haystack {
    /// Folds a text: NFKC, lower case, white space and soft hyphens alike.
    pub fn new(text: &str) -> Self {
        let mut folded = String::with_capacity(text.len());
        let mut origin = Vec::with_capacity(text.len());
        let mut pending_space = false;
        for (at, c) in text.char_indices() {
            if matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '*' | '#' | '\\') {
                continue;
            }
            if c.is_whitespace() {
                pending_space = true;
                continue;
            }
            if std::mem::take(&mut pending_space) && !folded.is_empty() {
                folded.push(' ');
                origin.push(at as u32);
            }
            for c in std::iter::once(c).nfkc().flat_map(char::to_lowercase) {
                let c = unify(c);
                folded.push(c);
                origin.extend(std::iter::repeat_n(at as u32, c.len_utf8()));
            }
        }
        Self { folded, origin, len: text.len() }
    }

    /// Byte span in the text where a value stands, at word borders where it begins and ends with letters.
    pub fn find(&self, value: &str) -> Option<(usize, usize)> {
        let needle = Self::new(value).folded;
        if needle.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(found) = self.folded.get(from..)?.find(&needle) {
            let (start, end) = (from + found, from + found + needle.len());
            let before = self.folded[..start].chars().next_back();
            let after = self.folded[end..].chars().next();
            let word = |inner: Option<char>, outer: Option<char>| {
                // Scripts without spaces have no word borders.
                let latin = |c: char| c.is_alphanumeric() && (c as u32) < 0x2e80;
                inner.is_some_and(latin) && outer.is_some_and(latin)
            };
            if !word(needle.chars().next(), before) && !word(needle.chars().next_back(), after) {
                let to = self.origin.get(end).map_or(self.len, |&o| o as usize);
                return Some((self.origin[start] as usize, to));
            }
            from = start + self.folded[start..].chars().next().map_or(1, char::len_utf8);
        }
        None
    }
}

/// Quotes and dashes have many spellings.
fn unify(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{2032}' | '`' | '´' => '\'',
        '\u{201c}'..='\u{201f}' | '«' | '»' => '"',
        c => c,
    }
}

/// What a page gives to check against.
pub struct PageView<'a> {
    /// The cleaned page.
    pub cleaned: &'a Cleaned,
    /// Its markdown, folded.
    pub text: Haystack,
    /// Title and meta tags, folded.
    pub meta: Haystack,
    /// When the page was fetched.
    pub fetched: NaiveDate,
    /// Where the page is from; a file's for a saved page that does not say.
    pub url: &'a Url,
}

impl<'a> PageView<'a> {
    /// Folds a page once for all its fields.
    pub fn new(cleaned: &'a Cleaned, fetched: NaiveDate, url: &'a Url) -> Self {
        let meta = &cleaned.meta;
        let parts = [&meta.title, &meta.og_title, &meta.site_name, &meta.description];
        let head: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        Self {
            cleaned,
            text: Haystack::new(&cleaned.markdown),
            meta: Haystack::new(&head.join("\n")),
            fetched,
            url,
        }
    }

    /// Byte span of the markdown where a value stands, without the white space and marks after it.
    pub fn span(&self, value: &str) -> Option<(usize, usize)> {
        let (start, end) = self.text.find(value)?;
        let next = |c: char| c.is_whitespace() || matches!(c, '*' | '#');
        let found = self.cleaned.markdown.get(start..end)?.trim_end_matches(next);
        Some((start, if found.is_empty() { end } else { start + found.len() }))
    }

    /// Where a value stands: in the text, else in the head.
    pub fn prove(&self, value: &str) -> Option<Evidence> {
        if let Some((start, end)) = self.span(value) {
            return Some(Evidence {
                source: EvidenceSource::Text,
                pointer: None,
                start: Some(start),
                end: Some(end),
            });
        }
        self.meta.find(value).map(|_| Evidence {
            source: EvidenceSource::Meta,
            pointer: Some("head".into()),
            start: None,
            end: None,
        })
    }

    /// Whether the page reads dates with the month first: American English spellings decide.
    pub fn month_first(&self) -> Option<bool> {
        let url = self.cleaned.meta.canonical.as_deref().unwrap_or("");
        match self.cleaned.meta.language.as_deref() {
            Some("en") if url.contains(".com/") && self.text.find("united states").is_some() => Some(true),
            Some("en") | None => None,
            Some(_) => Some(false),
        }
    }
}

/// Checks an answer field by field.
pub fn verify(raw: &ExtractedFields, page: &PageView<'_>) -> Verified {
    let mut out = Verified::default();
    const ABSENT: &str = "does not stand on the page";
    let grounded = |out: &mut Verified, field: &'static str, value: &Option<String>| -> Option<String> {
        let value = value.as_ref().map(|v| v.trim()).filter(|v| !v.is_empty() && !is_nothing(v))?;
        match page.prove(value) {
            Some(evidence) => {
                out.posting.evidence.entry(field.to_owned()).or_default().push(evidence);
                Some(value.to_owned())
            }
            None => {
                out.problems.push(Problem { field, value: value.to_owned(), why: ABSENT });
                None
            }
        }
    };
    out.posting.title = grounded(&mut out, "title", &raw.title);
    out.posting.company = grounded(&mut out, "company", &raw.company);
    out.posting.seniority = grounded(&mut out, "seniority", &raw.seniority);
    let mut places = raw.locations.clone();
    places.dedup();
    for place in &places {
        if is_amount(page, place) {
            let why = "stands only where the page speaks of pay";
            out.problems.push(Problem { field: "locations", value: place.clone(), why });
            continue;
        }
        if let Some(place) = grounded(&mut out, "locations", &Some(place.clone()))
            && !out.posting.locations.contains(&place)
        {
            out.posting.locations.push(place);
        }
    }
    for skill in &raw.skills {
        if let Some(skill) = grounded(&mut out, "skills", &Some(skill.clone()))
            && !out.posting.skills.contains(&skill)
        {
            out.posting.skills.push(skill);
        }
    }
    if let Some(text) = grounded(&mut out, "salary", &raw.salary) {
        let read = read_salary(&text, page, out.posting.evidence.get("salary"));
        match read.filter(facts::is_pay) {
            Some(mut salary) => {
                salary.text = Some(text);
                out.posting.salary = Some(salary);
            }
            None => {
                out.posting.evidence.remove("salary");
                out.problems.push(Problem { field: "salary", value: text, why: "states no amount of money" });
            }
        }
    }
    let month_first = page.month_first();
    for (field, value) in [("date_posted", &raw.date_posted), ("valid_through", &raw.valid_through)] {
        let Some(text) = grounded(&mut out, field, value) else { continue };
        let date = normalize::date(&text, page.fetched, month_first);
        if date.is_none() {
            out.posting.evidence.remove(field);
            out.problems.push(Problem { field, value: text, why: "is no date that can be read" });
        }
        match field {
            "date_posted" => out.posting.date_posted = date,
            _ => out.posting.valid_through = date,
        }
    }
    closed_words(raw, page, &mut out);
    if let Some(number) = raw.apply_link {
        match page.cleaned.links.iter().find(|link| link.number == number as usize) {
            Some(link) => {
                out.posting.apply_url = Some(link.url.to_string());
                if let Some(evidence) = page.prove(&link.text) {
                    out.posting.evidence.insert("apply_url".into(), vec![evidence]);
                }
            }
            None => out.problems.push(Problem {
                field: "apply_link",
                value: number.to_string(),
                why: "is no link of the page",
            }),
        }
    }
    out.posting.language = normalize::language(&page.cleaned.markdown);
    out
}

/// Employment type and workplace come from closed lists: the page must hold words that mean them.
fn closed_words(raw: &ExtractedFields, page: &PageView<'_>, out: &mut Verified) {
    if let Some(value) = raw.employment_type.as_deref().filter(|v| !is_nothing(v)) {
        let wanted = normalize::employment(&value.replace('_', " "));
        let line = find_line(page, |line| normalize::employment(line) == wanted);
        match (wanted, line) {
            (Some(kind), Some(evidence)) => {
                out.posting.employment_type = Some(kind);
                out.posting.evidence.insert("employment_type".into(), vec![evidence]);
            }
            _ => out.problems.push(Problem {
                field: "employment_type",
                value: value.to_owned(),
                why: "is said nowhere on the page",
            }),
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
                out.posting.workplace = Some(kind);
                out.posting.remote = match kind {
                    Workplace::Remote => Some(true),
                    Workplace::OnSite => Some(false),
                    Workplace::Hybrid => None,
                };
                out.posting.evidence.insert("workplace".into(), vec![evidence]);
            }
            _ => out.problems.push(Problem {
                field: "workplace",
                value: value.to_owned(),
                why: "is said nowhere on the page",
            }),
        }
    }
}

fn find_line(page: &PageView<'_>, test: impl Fn(&str) -> bool) -> Option<Evidence> {
    let mut at = 0;
    for line in page.cleaned.markdown.split_inclusive('\n') {
        if test(line) {
            let end = at + line.trim_end().len();
            return Some(Evidence {
                source: EvidenceSource::Text,
                pointer: None,
                start: Some(at),
                end: Some(end),
            });
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
fn read_salary(text: &str, page: &PageView<'_>, evidence: Option<&Vec<Evidence>>) -> Option<Salary> {
    let alone = normalize::salary(text);
    let found = evidence.and_then(|all| all.last());
    let Some((start, end)) = found.and_then(|found| found.start.zip(found.end)) else { return alone };
    let markdown = &page.cleaned.markdown;
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
    let markdown = &page.cleaned.markdown;
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
