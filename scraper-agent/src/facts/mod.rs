//! Facts about a posting, as candidates: no step overwrites another's value.
//!
//! Every source (the page's data, a label, the heading, the head, lines beside the title, prose, the model) says what it
//! has found as [`Candidate`]s, each with its evidence and a score. [`resolve`] alone chooses, and says why. Scores are
//! points out of a hundred, roughly how often such a find is right; what speaks for or against one find is added to it.

mod answer;
mod declared;
mod digest;
mod employer;
mod heading;
mod labelled;
mod lines;
mod prose;
mod resolve;

pub use answer::{Checked, Problem, check};
pub use declared::candidates as declared;
pub use digest::digest;
pub use employer::is_board;
pub use labelled::label;
pub use lines::{Line, lines};
pub use prose::section;
pub use resolve::{CERTAIN, Choice, Resolved, resolve};

use crate::page::PageView;
use crate::posting::{EmploymentType, Evidence, EvidenceSource, Salary, Workplace};
use lines::Fact;

/// A field of a posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Field {
    Title,
    Company,
    Locations,
    Workplace,
    Remote,
    EmploymentType,
    Seniority,
    Salary,
    DatePosted,
    ValidThrough,
    ApplyUrl,
    Url,
    Description,
    Skills,
    Language,
}

impl Field {
    /// All, the order in which they are settled.
    pub const ALL: [Self; 15] = [
        Self::Title,
        Self::Company,
        Self::Locations,
        Self::Workplace,
        Self::Remote,
        Self::EmploymentType,
        Self::Seniority,
        Self::Salary,
        Self::DatePosted,
        Self::ValidThrough,
        Self::ApplyUrl,
        Self::Url,
        Self::Description,
        Self::Skills,
        Self::Language,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Company => "company",
            Self::Locations => "locations",
            Self::Workplace => "workplace",
            Self::Remote => "remote",
            Self::EmploymentType => "employment_type",
            Self::Seniority => "seniority",
            Self::Salary => "salary",
            Self::DatePosted => "date_posted",
            Self::ValidThrough => "valid_through",
            Self::ApplyUrl => "apply_url",
            Self::Url => "url",
            Self::Description => "description",
            Self::Skills => "skills",
            Self::Language => "language",
        }
    }
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An interface's answer.
    Api,
    /// JSON-LD.
    JsonLd,
    /// Embedded state.
    State,
    /// Microdata.
    Microdata,
    /// "Salary: …", or a label above its value.
    Label,
    /// The page's main heading.
    Heading,
    /// The page's title and meta tags.
    Head,
    /// A short line near the title.
    Beside,
    /// The title itself ("Werkstudent …").
    Title,
    /// A sentence.
    Prose,
    /// The model, found on the page.
    Model,
    /// The site's own name, address or text.
    Page,
}

impl Source {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "the interface's answer",
            Self::JsonLd => "JSON-LD",
            Self::State => "the page's state",
            Self::Microdata => "microdata",
            Self::Label => "a label",
            Self::Heading => "the main heading",
            Self::Head => "the page's head",
            Self::Beside => "a line beside the title",
            Self::Title => "the title",
            Self::Prose => "a sentence",
            Self::Model => "the model",
            Self::Page => "the page itself",
        }
    }

    /// Whether it is the page's data rather than its text.
    pub fn is_declared(self) -> bool {
        matches!(self, Self::Api | Self::JsonLd | Self::State | Self::Microdata)
    }
}

impl From<EvidenceSource> for Source {
    fn from(source: EvidenceSource) -> Self {
        match source {
            EvidenceSource::Text => Self::Prose,
            EvidenceSource::JsonLd => Self::JsonLd,
            EvidenceSource::Microdata => Self::Microdata,
            EvidenceSource::State => Self::State,
            EvidenceSource::Api => Self::Api,
            EvidenceSource::Meta => Self::Head,
        }
    }
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    /// Of title, company, dates (ISO), addresses, description, seniority, language.
    Text(String),
    /// Of places and skills.
    Texts(Vec<String>),
    Workplace(Workplace),
    Employment(EmploymentType),
    Salary(Box<Salary>),
    Remote(bool),
}

/// A value that somebody offers for a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Of what.
    pub field: Field,
    /// What.
    pub value: Value,
    /// By whom.
    pub source: Source,
    /// Where it stands.
    pub evidence: Vec<Evidence>,
    /// Points: what the source is worth for the field, and what speaks for or against this find.
    pub score: i32,
    /// What was added and taken away, for people.
    pub notes: Vec<&'static str>,
}

impl Candidate {
    /// A find worth what its source is worth.
    pub fn new(field: Field, value: Value, source: Source, evidence: Vec<Evidence>) -> Self {
        Self { field, value, source, evidence, score: resolve::worth(source, field), notes: Vec::new() }
    }

    /// With more or fewer points, and why, where that holds.
    #[must_use]
    pub fn adjusted(mut self, holds: bool, points: i32, why: &'static str) -> Self {
        if holds {
            self.score += points;
            self.notes.push(why);
        }
        self
    }

    /// Of a stretch of the page's text.
    fn of_fact(field: Field, value: Value, source: Source, fact: Fact<'_>) -> Self {
        Self::new(field, value, source, fact.evidence())
    }
}

/// Words of a candidate's text.
pub fn words_of(candidate: &Candidate) -> usize {
    match &candidate.value {
        Value::Text(text) => text.split_whitespace().count(),
        _ => 0,
    }
}

/// What the rules find on a page, a model aside. `title` is the job's name as far as the page's data gives it.
pub fn gather(page: &PageView<'_>, title: Option<&str>) -> Vec<Candidate> {
    let lines = lines(page.own);
    let mut found = Vec::new();
    let heading = heading::main(&lines);
    let named = title.map(crate::page::fold).unwrap_or_default();
    let at = heading
        .or_else(|| lines.iter().position(|line| !named.is_empty() && crate::page::fold(line.text) == named));
    heading::titles(page, &lines, heading, &mut found);
    labelled::candidates(page, &lines, &mut found);
    if let Some(at) = at {
        heading::beside(page, &lines, at, &mut found);
    }
    employer::candidates(page, &lines, at, &mut found);
    prose::candidates(page, &lines, &mut found);
    found
}
