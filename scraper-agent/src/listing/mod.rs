//! Lists of jobs, found as repeated records in the page's structure.
//!
//! Siblings whose subtrees have the same shape and hold a link are a group; in it, each field is the text at one
//! path. A [`Labelling`] says which path is the title, the place, the date; it is guessed from the fields
//! themselves ([`label`]) or chosen by the model for one record, and applied to all: nothing can be invented.

mod label;
mod records;

pub use label::{Labelling, apply, label, tell_apart};
pub use records::{is_job_title, records};

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

impl RecordGroup {
    /// Whether its records are taken for jobs.
    pub fn is_jobs(&self) -> bool {
        self.score >= JOBS_SCORE_MIN
    }
}

/// Score from which a group is taken for jobs.
pub const JOBS_SCORE_MIN: i32 = 4;
