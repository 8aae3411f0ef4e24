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
use crate::facts;
use crate::fetch::FetchedPage;
use crate::frontier::Link;
use crate::gate::{self, Gate};
use crate::listing::{self, Labelling, RecordGroup};
use crate::merge::{self, Missing};
use crate::posting::{EvidenceSource, PageKind, Posting};
use crate::structured::{self, DeclaredPosting, Structured};
use crate::verify::{PageView, Problem, verify};

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
    ats_links: Vec<Url>,
    combined: Option<DeclaredPosting>,
}

/// A model's answer after verification.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What holds, joined with what the page declares.
    pub posting: Posting,
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
        let gate = gate::judge_with(&page.url, &document, &cleaned, &structured, &groups);
        Self {
            url: page.url.clone(),
            fetched: page.fetched_at.date_naive(),
            links: links(&document),
            ats_links: gate.ats_links.iter().map(|tenant| tenant.url.clone()).collect(),
            combined: merge::combine(&structured),
            cleaned,
            structured,
            groups,
            gate,
        }
    }

    /// Where the page was in the end.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What it is.
    pub fn kind(&self) -> PageKind {
        self.gate.kind
    }

    /// Why it is that.
    pub fn gate_reason(&self) -> &str {
        &self.gate.reason
    }

    /// Its main text.
    pub fn markdown(&self) -> &str {
        &self.cleaned.markdown
    }

    /// All its links, chrome included.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Job boards of known systems that it links to.
    pub fn ats_links(&self) -> &[Url] {
        &self.ats_links
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
        let Some(declared) = &self.combined else { return Err("no structured data".to_owned()) };
        match merge::sufficient(declared, &self.view()) {
            Ok(()) => {
                let source = source_name(declared.source);
                Ok(format!("{source} says who, what and where, and the text does not disagree"))
            }
            Err(missing) => {
                let names: Vec<String> = missing.iter().map(missing_name).collect();
                Err(format!("{} lacks {}", source_name(declared.source), names.join(", ")))
            }
        }
    }

    /// What the structure gives without a model, with warnings.
    pub fn declared(&self) -> (Vec<Posting>, Vec<String>) {
        let mut warnings = self.warnings();
        let view = self.view();
        if self.kind() == PageKind::Listing {
            let entries = self.declared_entries();
            if !entries.is_empty() {
                if let Some(total) = self.structured.total_on_site.filter(|total| *total > entries.len()) {
                    warnings.push(format!("the site says {total} jobs, this page holds {}", entries.len()));
                }
                let mut postings: Vec<Posting> =
                    entries.into_iter().map(|entry| entry.posting.clone()).collect();
                listing::tell_apart(&mut postings);
                return (postings, warnings);
            }
            let group = self.jobs_group();
            let postings = group.and_then(|group| Some(self.label_all(group, &listing::label(group)?)));
            return (postings.unwrap_or_default(), warnings);
        }
        let posting = self.combined.as_ref().map(|declared| {
            let mut posting = merge::merge(Some(declared), None, &view);
            facts::fill(&mut posting, &view);
            self.with_url(posting)
        });
        (posting.into_iter().collect(), warnings)
    }

    fn warnings(&self) -> Vec<String> {
        self.cleaned.warnings.iter().chain(&self.structured.notes).cloned().collect()
    }

    fn label_all(&self, group: &RecordGroup, labelling: &Labelling) -> Vec<Posting> {
        let view = self.view();
        let mut postings = listing::apply(group, labelling, self.fetched);
        listing::tell_apart(&mut postings);
        postings.iter_mut().for_each(|posting| merge::prove_listing(posting, &view));
        postings
    }

    /// A single posting's address is its page's, where the page does not say another.
    fn with_url(&self, mut posting: Posting) -> Posting {
        if posting.url.is_none() && matches!(self.url.scheme(), "http" | "https") {
            posting.url = Some(self.url.to_string());
        }
        posting
    }

    /// Verified: what of a model's answer stands on the page, joined with what the page declares.
    ///
    /// # Errors
    /// The answer is no object of the schema.
    pub fn check(&self, answer: &str) -> Result<Checked, String> {
        let raw: ExtractedFields = serde_json::from_str(answer.trim())
            .map_err(|error| format!("the answer is not the asked object: {error}"))?;
        let view = self.view();
        let verified = verify(&raw, &view);
        let mut posting = merge::merge(self.combined.as_ref(), Some(&verified), &view);
        facts::fill(&mut posting, &view);
        if self.combined.is_none() {
            facts::settle_title(&mut posting, &view);
        }
        let posting = self.with_url(posting);
        let mut problems = Vec::new();
        let mut notes = self.warnings();
        for problem in &verified.problems {
            if is_still_missing(problem, &posting) { &mut problems } else { &mut notes }
                .push(sentence(problem));
        }
        if posting.title.is_none() && !verified.problems.iter().any(|problem| problem.field == "title") {
            problems.push("title: every posting has one".to_owned());
        }
        Ok(Checked { posting, problems, notes })
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

fn source_name(source: EvidenceSource) -> &'static str {
    match source {
        EvidenceSource::Text => "the text",
        EvidenceSource::JsonLd => "JSON-LD",
        EvidenceSource::Microdata => "microdata",
        EvidenceSource::State => "the page's state",
        EvidenceSource::Api => "the interface's answer",
        EvidenceSource::Meta => "the page's head",
    }
}

fn missing_name(missing: &Missing) -> String {
    match missing {
        Missing::Title => "a title".to_owned(),
        Missing::Company => "an employer".to_owned(),
        Missing::Locations => "a place".to_owned(),
        Missing::Contradicted(field) => format!("a {field} that the text bears out"),
    }
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
