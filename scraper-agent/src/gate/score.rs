//! Points for a posting and for a listing. Pure.

use super::{LISTING_RECORDS_MIN, Signals};

/// Points from which a page is taken for a posting.
const POSTING_MIN: i32 = 7;
/// Points from which records are taken for a listing.
const LISTING_MIN: i32 = 4;
/// A decision within so many points of another one is close.
const CLOSE: i32 = 2;
/// More first-level headings than a page about one thing has.
const MANY_HEADINGS: usize = 4;
/// Share of the text from which records are the page, and up to which they stand beside something else.
const MOST_PERCENT: usize = 45;
const BESIDE_PERCENT: usize = 20;

/// What the points say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likely {
    /// One job.
    Posting,
    /// A list of jobs.
    Listing,
    /// No job.
    Neither,
}

/// Points for either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scores {
    pub posting: i32,
    pub listing: i32,
    /// Something on the page names the one job.
    names_one: bool,
}

impl Scores {
    /// The likelier kind.
    pub fn kind(self) -> Likely {
        if self.listing >= LISTING_MIN && self.listing >= self.posting {
            Likely::Listing
        } else if self.posting >= POSTING_MIN && self.names_one {
            Likely::Posting
        } else {
            Likely::Neither
        }
    }

    /// Whether another kind is nearly as likely.
    pub fn is_close(self) -> bool {
        let near = |a: i32, b: i32| (a - b).abs() < CLOSE;
        match self.kind() {
            Likely::Posting => self.posting < POSTING_MIN + CLOSE || near(self.posting, self.listing),
            Likely::Listing => self.listing < LISTING_MIN + CLOSE || near(self.posting, self.listing),
            Likely::Neither => self.posting >= POSTING_MIN - CLOSE,
        }
    }
}

/// Adds up.
pub fn scores(signals: &Signals) -> Scores {
    Scores {
        posting: posting(signals),
        listing: listing(signals),
        names_one: signals.job_title
            || signals.posting_url
            || signals.headings == 1
            || signals.job_line
            || signals.tasks && signals.profile && signals.labels >= 2,
    }
}

fn points(parts: &[(bool, i32)]) -> i32 {
    parts.iter().filter(|(holds, _)| *holds).map(|(_, points)| points).sum()
}

fn posting(s: &Signals) -> i32 {
    // The one heading is the page's title and a job's name, above something that a posting has.
    let is_own_title = s.job_title && !s.is_general_title;
    let is_headed = is_own_title
        && s.is_titled
        && s.headings == 1
        && (s.tasks || s.profile || s.offer || s.apply || s.speaks_to_reader);
    points(&[
        (s.tasks, 2),
        (s.profile, 2),
        (s.offer, 1),
        (s.lists >= 2, 1),
        (s.posting_url, 3),
        (s.title_url && !s.posting_url, 1),
        (s.apply, 2),
        (s.takes_files, 2),
        (s.speaks_to_reader, 1),
        (s.headings == 1, 1),
        (s.labels >= 2, 1),
        (s.labels >= 3, 1),
        (s.pay, 2),
        (s.contract, 2),
        (s.dated, 1),
        (is_own_title, 3),
        (s.job_title && s.is_general_title, 1),
        (is_headed, 2),
        (s.listing_url, -3),
        (s.headings > MANY_HEADINGS, -3),
        (s.is_about_jobs && !s.job_title, -3),
        (s.is_about_people && !s.job_title, -3),
        // What is mostly made of records that are alike is no single job.
        (s.records >= 2 && s.records_percent >= MOST_PERCENT, -4),
    ])
}

fn listing(s: &Signals) -> i32 {
    if s.records < LISTING_RECORDS_MIN {
        return 0;
    }
    let many = (s.records.min(24) / 3) as i32;
    points(&[
        (true, 3 + many),
        (s.listing_url, 2),
        (s.is_about_jobs, 3),
        (s.records_percent >= MOST_PERCENT, 2),
        (s.records_percent <= BESIDE_PERCENT && s.job_title && !s.is_general_title, -5),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting_page() -> Signals {
        Signals {
            tasks: true,
            profile: true,
            apply: true,
            headings: 1,
            job_title: true,
            ..Signals::default()
        }
    }

    #[test]
    fn kinds_by_table() {
        let list = |records, percent| Signals { records, records_percent: percent, ..Signals::default() };
        let careers = Signals { is_about_jobs: true, headings: 1, offer: true, ..Signals::default() };
        let beside = Signals { records: 12, records_percent: 15, ..posting_page() };
        let above = Signals { records: 20, records_percent: 80, is_about_jobs: true, ..list(20, 80) };
        let people = Signals { is_about_people: true, headings: 1, lists: 2, ..Signals::default() };
        for (signals, expected) in [
            (posting_page(), Likely::Posting),
            (list(4, 60), Likely::Listing),
            (list(3, 90), Likely::Neither),
            (careers, Likely::Neither),
            (beside, Likely::Posting),
            (above, Likely::Listing),
            (people, Likely::Neither),
            (Signals::default(), Likely::Neither),
        ] {
            assert_eq!(scores(&signals).kind(), expected, "{signals:?}");
        }
    }

    #[test]
    fn words_alone_make_no_posting() {
        let words =
            Signals { is_about_jobs: true, apply: true, contract: true, offer: true, ..Signals::default() };
        assert_eq!(scores(&words).kind(), Likely::Neither);
    }

    #[test]
    fn a_small_margin_is_close() {
        assert!(!scores(&posting_page()).is_close());
        let weak = Signals { tasks: true, apply: true, headings: 1, job_title: true, ..Signals::default() };
        assert!(scores(&weak).is_close());
        assert!(!scores(&Signals::default()).is_close());
    }
}
