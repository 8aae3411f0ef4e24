//! Two readings of one job as one.

use crate::posting::Posting;

/// What `best` lacks, `rest` gives, with its evidence.
pub(crate) fn fill(mut best: Posting, rest: &Posting) -> Posting {
    macro_rules! take {
        ($($field:ident),*) => { $(
            if best.$field.is_none() && rest.$field.is_some() {
                best.$field = rest.$field.clone();
                take_evidence(&mut best, rest, stringify!($field));
            }
        )* };
    }
    take!(title, company, workplace, remote, employment_type, seniority, salary, date_posted, valid_through);
    take!(apply_url, url, description, language);
    if best.locations.is_empty() {
        best.locations.clone_from(&rest.locations);
        take_evidence(&mut best, rest, "locations");
    }
    if best.skills.is_empty() {
        best.skills.clone_from(&rest.skills);
        take_evidence(&mut best, rest, "skills");
    }
    best
}

fn take_evidence(best: &mut Posting, rest: &Posting, field: &str) {
    if let Some(evidence) = rest.evidence.get(field) {
        best.evidence.insert(field.to_owned(), evidence.clone());
    }
}
