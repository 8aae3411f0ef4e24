//! Lists of jobs, found as repeated records in the page's structure.
//!
//! Siblings whose subtrees have the same shape and hold a link are a group; in it, each field is the text at one
//! path. A [`Labelling`] says which path is the title, the place, the date; it is guessed from the fields
//! themselves ([`label`]) or chosen by the model for one record, and applied to all: nothing can be invented.

pub mod address;
mod label;
mod prove;
mod records;
mod score;

pub use label::{Labelling, apply, label, tell_apart};
pub use prove::prove;
pub use records::records;

use std::collections::HashSet;

use url::Url;

use crate::normalize;
use crate::words::{List, Text};

/// Text at one path of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Element names and classes from the record's root, and the place among equals.
    pub path: String,
    /// Collapsed text.
    pub text: String,
    /// The link it stands in.
    pub link: Option<String>,
    /// It stands in a heading.
    pub heading: bool,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// In document order.
    pub fields: Vec<Field>,
}

/// Records of one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordGroup {
    /// In document order.
    pub records: Vec<Record>,
    /// How job-like its links and texts are; compared between groups of a page.
    pub score: i32,
}

/// Different links of a menu at least.
const MENU_LINKS_MIN: usize = 3;
/// Characters of a field that states one fact.
const FACT_CHARS_MAX: usize = 90;

impl Record {
    /// What names it: its heading, else its first linked text that does not only say what a click does, else its first text.
    pub fn name(&self) -> Option<&Field> {
        let linked = |field: &&Field| {
            let text = Text::new(&field.text);
            field.link.as_ref().is_some_and(|link| !link.is_empty())
                && !text.is(List::Actions)
                && !text.is(List::Apply)
        };
        let heading = self.fields.iter().find(|field| field.heading);
        heading.or_else(|| self.fields.iter().find(linked)).or_else(|| self.fields.first())
    }

    /// Its links, each once.
    pub fn links(&self) -> Vec<&str> {
        let mut links: Vec<&str> = self
            .fields
            .iter()
            .filter_map(|field| field.link.as_deref())
            .filter(|link| !link.is_empty())
            .collect();
        links.dedup();
        links
    }

    /// Whether it is mostly links to different pages, as menus are.
    pub fn is_menu(&self) -> bool {
        let linked =
            self.fields.iter().filter(|field| field.link.as_ref().is_some_and(|link| !link.is_empty()));
        self.links().len() >= MENU_LINKS_MIN && linked.count() * 3 >= self.fields.len() * 2
    }

    /// Its links as addresses; a saved page's may be relative, and then only their paths count.
    fn addresses(&self) -> impl Iterator<Item = Url> {
        self.links().into_iter().filter_map(parse)
    }

    /// Whether a link's address has to do with jobs and is none of the site's own pages.
    pub fn leads_to_job(&self) -> bool {
        self.addresses().any(|url| address::is_about_jobs(&url) && !address::is_of_the_site(&url))
    }

    /// Whether a link's address is one job's own.
    pub fn leads_to_one_job(&self) -> bool {
        self.links().into_iter().any(is_one_job)
    }

    /// Whether it holds several jobs, as a department's part of a list does.
    pub fn holds_several(&self) -> bool {
        let is_one = |url: &Url| address::names_one_job(url) || address::is_made_of_a_title(url);
        self.addresses().filter(is_one).map(|url| url.path().to_owned()).collect::<HashSet<_>>().len() > 1
    }

    /// Whether it says that one can apply.
    pub fn can_be_applied_for(&self) -> bool {
        self.fields
            .iter()
            .any(|field| field.link.is_some() && Text::new(&field.text).begins_with(List::Apply).is_some())
    }

    /// Whether a short field beside its name states a fact that jobs have: contract, workplace, day, department, place.
    pub fn states_fact(&self) -> bool {
        let name = self.name().map(|field| &field.path);
        self.fields.iter().filter(|field| Some(&field.path) != name).any(|field| is_fact(&field.text))
    }
}

fn parse(link: &str) -> Option<Url> {
    let saved = || Url::parse("https://saved.invalid/").and_then(|base| base.join(link));
    Url::parse(link).or_else(|_| saved()).ok()
}

/// Whether a link's address is one job's own.
pub fn is_one_job(link: &str) -> bool {
    parse(link).is_some_and(|url| address::names_one_job(&url) || address::is_made_of_a_title(&url))
}

fn is_fact(text: &str) -> bool {
    if text.chars().count() > FACT_CHARS_MAX {
        return false;
    }
    let words = Text::new(text);
    normalize::employment(text).is_some()
        || normalize::workplace(text).is_some()
        || normalize::names_currency(text) && normalize::salary(text).is_some()
        || words.has(List::Ago)
        || words.begins_with(List::Posted).is_some()
        || words.begins_with(List::LabelLocation).is_some()
        || words.begins_with(List::LabelDepartment).is_some()
        || is_place_like(text)
}

/// Characters of a text that names places.
const PLACE_CHARS_MAX: usize = 80;

/// Whether a text has the form of places ("Kiel, Germany"), or names one that is known.
pub fn is_place_like(text: &str) -> bool {
    if text.chars().count() > PLACE_CHARS_MAX || text.ends_with(['.', '!', '?', ':']) {
        return false;
    }
    if Text::new(text).has(List::Jobs) {
        return false;
    }
    if normalize::place(text).is_some_and(|place| place.country.is_some()) {
        return true;
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_name = |part: &str| {
        part.chars().next().is_some_and(|c| c.is_uppercase() || !c.is_lowercase() && c.is_alphabetic())
            && part.chars().count() <= 30
            && part.chars().all(|c| c.is_alphabetic() || matches!(c, '.' | '\'' | '’' | ' ' | '-'))
            && part.split(' ').count() <= 4
    };
    (2..=4).contains(&parts.len()) && parts.iter().all(|part| is_name(part))
}

impl RecordGroup {
    /// Characters of all its records.
    pub fn chars(&self) -> usize {
        self.records.iter().flat_map(|record| &record.fields).map(|field| field.text.chars().count()).sum()
    }

    /// Whether its records are taken for jobs.
    pub fn is_jobs(&self) -> bool {
        self.score >= JOBS_SCORE_MIN
    }
}

/// Score from which a group is taken for jobs.
pub const JOBS_SCORE_MIN: i32 = 4;
