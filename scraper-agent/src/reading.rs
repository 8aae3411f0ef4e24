//! A page understood, before and beside any model: Cleaned and Gated in one value that owns all it needs.
//!
//! The parsed tree is large and stays on the thread that parsed it; what later stages ask for is taken out here.

use std::collections::HashSet;

use chrono::NaiveDate;
use scraper::Selector;
use url::Url;

use crate::clean::{self, Cleaned};
use crate::document::{Document, collapse, visible_text};
use crate::extracted::ExtractedFields;
use crate::facts::{self, CERTAIN, Candidate, Field, Problem, Resolved};
use crate::fetch::FetchedPage;
use crate::frontier::Link;
use crate::gate::{self, Absence, Gate};
use crate::listing::{self, Labelling, RecordGroup};
use crate::page::{self, PageView, fold};
use crate::posting::{PageKind, Posting};
use crate::structured::{self, DeclaredPosting, Structured};

/// Links of one page that are looked at.
const LINKS_MAX: usize = 5_000;
/// Characters of a meta description that go into a prompt.
const DESCRIPTION_CHARS_MAX: usize = 300;
/// Characters of a record's field that the model is shown.
const FIELD_CHARS_MAX: usize = 160;
/// Fields of a record that the model is shown.
const FIELDS_MAX: usize = 24;

/// A page understood.
pub struct Reading {
    url: Url,
    fetched: NaiveDate,
    cleaned: Cleaned,
    structured: Structured,
    groups: Vec<RecordGroup>,
    gate: Gate,
    links: Vec<Link>,
    /// What data and rules say of a posting; none for other kinds of pages.
    candidates: Vec<Candidate>,
    /// What they make.
    resolved: Resolved,
}

/// A model's answer after verification.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What holds, with the reasons.
    pub resolved: Resolved,
    /// Why the answer is refused; empty where it is not.
    pub problems: Vec<String>,
    /// What was dropped without refusing the answer.
    pub notes: Vec<String>,
}

/// What the model is shown to label a listing's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelQuestion {
    /// The numbered fields.
    pub text: String,
    /// How many.
    pub fields: usize,
    paths: Vec<String>,
}

impl Reading {
    /// Fetched → Cleaned → Gated. Pure.
    pub fn of(page: &FetchedPage) -> Self {
        let html = clean::decode(&page.bytes, page.content_type.as_deref());
        let document = Document::parse(&html, &page.url);
        let cleaned = clean::clean(&document);
        let structured = structured::read(&document);
        let groups = listing::records(&document);
        let gate = gate::judge(&page.url, &document, &cleaned, &structured, &groups);
        Self {
            url: page.url.clone(),
            fetched: page.fetched_at.date_naive(),
            links: links(&document),
            cleaned,
            structured,
            groups,
            gate,
            candidates: Vec::new(),
            resolved: Resolved::default(),
        }
        .with_candidates()
    }

    /// The same page, told to be of another kind than structure alone made it.
    #[must_use]
    pub fn as_kind(mut self, kind: PageKind, reason: String) -> Self {
        self.gate.kind = kind;
        self.gate.reason = reason;
        self.gate.is_close = false;
        self.gate.absence = None;
        self.with_candidates()
    }

    fn with_candidates(mut self) -> Self {
        let (candidates, resolved) = match self.kind() {
            PageKind::Posting => {
                let candidates = self.gather();
                let resolved = facts::resolve(&candidates);
                (candidates, resolved)
            }
            _ => (Vec::new(), Resolved::default()),
        };
        (self.candidates, self.resolved) = (candidates, resolved);
        self
    }

    /// What the page's data and the rules say. A declared posting that the gate did not find this page to be about is a
    /// decoy and says nothing.
    fn gather(&self) -> Vec<Candidate> {
        let view = self.view();
        let declared: Vec<&DeclaredPosting> = match self.structured.postings.first() {
            Some(first) if self.gate.is_declared => {
                let title =
                    |declared: &DeclaredPosting| fold(declared.posting.title.as_deref().unwrap_or(""));
                self.structured.postings.iter().filter(|other| title(other) == title(first)).collect()
            }
            _ => Vec::new(),
        };
        let title = declared.first().and_then(|declared| declared.posting.title.as_deref());
        let mut candidates = facts::gather(&view, title);
        let named = title.map(str::to_owned).or_else(|| facts::resolve(&candidates).posting.title);
        let section = facts::section(&view, named.as_deref());
        let words = section.as_ref().map_or(0, facts::words_of);
        for declared in declared {
            candidates.extend(facts::declared(declared, &view, words));
        }
        candidates.extend(section);
        candidates
    }

    /// Where the page was in the end.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What it is.
    pub fn kind(&self) -> PageKind {
        self.gate.kind
    }

    /// Whether another kind is nearly as likely.
    pub fn is_close(&self) -> bool {
        self.gate.is_close
    }

    /// What the model is shown to say what the page is.
    pub fn gate_digest(&self) -> String {
        gate::digest(&self.cleaned, &self.groups, self.url.as_str())
    }

    /// Why it is that.
    pub fn gate_reason(&self) -> &str {
        &self.gate.reason
    }

    /// What it says of the job that was to have this page, where it holds none.
    pub fn absence(&self) -> Option<Absence> {
        self.gate.absence
    }

    /// Its main text.
    pub fn markdown(&self) -> &str {
        &self.cleaned.markdown
    }

    /// The few hundred tokens of it that most likely hold the facts.
    pub fn digest(&self) -> String {
        facts::digest(&self.cleaned.markdown[..page::own_end(&self.cleaned.markdown)])
    }

    /// All its links, chrome included.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Job boards of known systems that it links to.
    pub fn ats_links(&self) -> &[Url] {
        &self.gate.ats_links
    }

    /// What its head says, for the prompt.
    pub fn heads(&self) -> Vec<(&'static str, String)> {
        let meta = &self.cleaned.meta;
        let short = |text: &String| text.chars().take(DESCRIPTION_CHARS_MAX).collect::<String>();
        let og_title = meta.og_title.as_ref().filter(|title| Some(*title) != meta.title.as_ref());
        [
            ("Page title", meta.title.as_ref()),
            ("Shared as", og_title),
            ("Site", meta.site_name.as_ref()),
            ("Description", meta.description.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, short(value?))))
        .collect()
    }

    fn view(&self) -> PageView<'_> {
        PageView::new(&self.cleaned, self.fetched, &self.url)
    }

    fn jobs_group(&self) -> Option<&RecordGroup> {
        self.groups.iter().find(|group| group.is_jobs())
    }

    /// The entries that the page's data lists; full postings count where there are several.
    fn declared_entries(&self) -> Vec<&DeclaredPosting> {
        let several =
            if self.structured.postings.len() > 1 { self.structured.postings.as_slice() } else { &[] };
        if self.structured.listing.len() >= several.len() {
            self.structured.listing.iter().collect()
        } else {
            several.iter().collect()
        }
    }

    /// Whether structure alone is enough, and why, or what it lacks.
    ///
    /// # Errors
    /// What it lacks.
    pub fn structure(&self) -> Result<String, String> {
        if self.kind() == PageKind::Listing {
            let entries = self.declared_entries().len();
            if entries > 0 {
                return Ok(format!("the page's data lists {entries} jobs"));
            }
            return match self.jobs_group() {
                Some(group) if listing::label(group).is_some() => {
                    Ok(format!("{} repeated records whose fields name themselves", group.records.len()))
                }
                Some(group) => Err(format!("{} repeated records with unclear fields", group.records.len())),
                None => Err("no repeated records".to_owned()),
            };
        }
        match self.resolved.certain() {
            Ok(sources) => {
                let names: Vec<&str> = sources.iter().map(|source| source.name()).collect();
                Ok(format!("{} say who, what and where", names.join(", ")))
            }
            Err(fields) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
                Err(format!("the page's structure leaves {} open", names.join(", ")))
            }
        }
    }

    /// The fields that a model may still settle.
    pub fn open_fields(&self) -> Vec<Field> {
        Field::ALL.into_iter().filter(|field| self.resolved.score(*field) < CERTAIN).collect()
    }

    /// What the structure gives without a model, with warnings.
    pub fn declared(&self) -> (Vec<Posting>, Vec<String>) {
        let mut warnings = self.warnings();
        match self.kind() {
            PageKind::Listing => {
                let entries = self.declared_entries();
                if entries.is_empty() {
                    let group = self.jobs_group();
                    let postings =
                        group.and_then(|group| Some(self.label_all(group, &listing::label(group)?)));
                    return (postings.unwrap_or_default(), warnings);
                }
                if let Some(total) = self.structured.total_on_site.filter(|total| *total > entries.len()) {
                    warnings.push(format!("the site says {total} jobs, this page holds {}", entries.len()));
                }
                let mut postings: Vec<Posting> =
                    entries.into_iter().map(|entry| entry.posting.clone()).collect();
                listing::tell_apart(&mut postings);
                (postings, warnings)
            }
            PageKind::Posting if self.resolved.posting.title.is_some() => {
                (vec![self.resolved.posting.clone()], warnings)
            }
            PageKind::Posting | PageKind::Hub | PageKind::None => (Vec::new(), warnings),
        }
    }

    /// Why the values are what they are, one line each, a model aside.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    fn warnings(&self) -> Vec<String> {
        self.cleaned.warnings.iter().chain(&self.structured.notes).cloned().collect()
    }

    fn label_all(&self, group: &RecordGroup, labelling: &Labelling) -> Vec<Posting> {
        let mut postings = listing::apply(group, labelling, self.fetched);
        listing::tell_apart(&mut postings);
        listing::prove(&mut postings, &self.view());
        postings
    }

    /// Verified and resolved: what of a model's answer stands on the page, beside what data and rules say.
    ///
    /// # Errors
    /// The answer is no object of the schema.
    pub fn check(&self, answer: &str) -> Result<Checked, String> {
        let raw: ExtractedFields = serde_json::from_str(answer.trim())
            .map_err(|error| format!("the answer is not the asked object: {error}"))?;
        let checked = facts::check(&raw, &self.view());
        let mut candidates = self.candidates.clone();
        candidates.extend(checked.candidates);
        let resolved = facts::resolve(&candidates);
        let mut problems = Vec::new();
        let mut notes = self.warnings();
        for problem in &checked.problems {
            if is_still_missing(problem, &resolved.posting) { &mut problems } else { &mut notes }
                .push(sentence(problem));
        }
        if resolved.posting.title.is_none()
            && !checked.problems.iter().any(|problem| problem.field == "title")
        {
            problems.push("title: every posting has one".to_owned());
        }
        Ok(Checked { resolved, problems, notes })
    }

    /// The question to the model where a listing's fields are unclear.
    pub fn label_question(&self) -> Option<LabelQuestion> {
        if self.kind() != PageKind::Listing {
            return None;
        }
        let group = self.jobs_group()?;
        // The longest records show the most kinds of fields.
        let mut records: Vec<_> = group.records.iter().collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.fields.len()));
        let mut paths: Vec<String> = Vec::new();
        let mut text = String::new();
        for (index, record) in records.iter().take(2).enumerate() {
            text.push_str(&format!("Record {}:\n", index + 1));
            for field in &record.fields {
                let known = paths.iter().position(|path| *path == field.path);
                let number = match known {
                    Some(at) => at + 1,
                    None if paths.len() < FIELDS_MAX => {
                        paths.push(field.path.clone());
                        paths.len()
                    }
                    None => continue,
                };
                let shown: String = field.text.chars().take(FIELD_CHARS_MAX).collect();
                text.push_str(&format!("{number}: {shown}\n"));
            }
        }
        Some(LabelQuestion { text, fields: paths.len(), paths })
    }

    /// Every record by the model's labels.
    ///
    /// # Errors
    /// The answer names no title that the records have.
    pub fn apply_labels(&self, answer: &str) -> Result<Vec<Posting>, String> {
        #[derive(serde::Deserialize)]
        struct Labels {
            title: Option<usize>,
            location: Option<usize>,
            company: Option<usize>,
            date: Option<usize>,
        }
        let (Some(group), Some(question)) = (self.jobs_group(), self.label_question()) else {
            return Err("no repeated records".to_owned());
        };
        let labels: Labels = serde_json::from_str(answer.trim())
            .map_err(|error| format!("the answer is not the asked object: {error}"))?;
        let path = |number: Option<usize>| question.paths.get(number?.checked_sub(1)?).cloned();
        let title = path(labels.title).ok_or("the answer names no title")?;
        // One field cannot be two things; the title has it.
        let other = |number| path(number).filter(|path| *path != title);
        let labelling = Labelling {
            company: other(labels.company),
            location: other(labels.location),
            date: other(labels.date),
            title,
        };
        let postings = self.label_all(group, &labelling);
        if postings.is_empty() {
            Err("no record has the field named as title".to_owned())
        } else {
            Ok(postings)
        }
    }
}

/// A dropped value matters where the posting is left without one.
fn is_still_missing(problem: &Problem, posting: &Posting) -> bool {
    match problem.field {
        "title" => posting.title.is_none(),
        "company" => posting.company.is_none(),
        "locations" => posting.locations.is_empty(),
        _ => false,
    }
}

fn sentence(problem: &Problem) -> String {
    format!("{}: {:?} {}", problem.field, problem.value, problem.why)
}

/// Links of the whole page; the cleaned text has lost pagers and navigation.
fn links(document: &Document) -> Vec<Link> {
    let Ok(selector) = Selector::parse("a[href], link[rel~=next][href]") else { return Vec::new() };
    let mut seen = HashSet::new();
    let mut links = Vec::new();
    for element in document.html.select(&selector).take(LINKS_MAX) {
        let Some(url) = element.value().attr("href").and_then(|href| document.resolve(href)) else {
            continue;
        };
        let is_next =
            element.value().attr("rel").is_some_and(|rel| rel.split_whitespace().any(|word| word == "next"));
        if seen.insert((url.clone(), is_next)) {
            links.push(Link { url, text: collapse(&visible_text(*element)), is_next });
        }
    }
    links
}
