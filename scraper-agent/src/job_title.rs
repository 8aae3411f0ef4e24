//! Whether a text reads like the name of a job.

use crate::words::{List, Text};

/// A longer text is a sentence.
const TITLE_CHARS_MAX: usize = 160;

/// Words of titles that, alone, only say how one works.
const KINDS: [List; 7] = [
    List::FullTime,
    List::PartTime,
    List::Temporary,
    List::Contract,
    List::Remote,
    List::Hybrid,
    List::OnSite,
];

/// Whether a text reads like the name of one job: it names an occupation, or carries a mark that only titles have.
pub fn reads_like_job(text: &str) -> bool {
    if text.chars().count() > TITLE_CHARS_MAX {
        return false;
    }
    let text = Text::new(text);
    if KINDS.iter().any(|kind| text.is(*kind)) {
        return false;
    }
    text.has(List::GenderMarks) || text.has(List::Occupations) || text.has(List::TitleWords)
}

/// Whether a text speaks of jobs in general or asks to apply, so that it names neither a job nor an employer.
pub fn is_general(text: &str) -> bool {
    let text = Text::new(text);
    text.has(List::General) || text.has(List::Jobs) || text.has(List::Apply) || text.is(List::Actions)
}

/// The name of one job, not of a list of them.
pub fn names_one_job(text: &str) -> bool {
    reads_like_job(text) && !Text::new(text).has(List::Jobs)
}
