//! What a whole run knows of its listings' records: one whose own page was read is confirmed, one whose page was
//! refused is not shown as open. Pure, over the run's results; the store keeps the same by job.

use std::collections::HashMap;

use url::Url;

use crate::attempt::{PageReport, Refusal};
use crate::posting::{PageKind, Posting, Standing};
use crate::store::url_key;

/// What a record's own page said.
#[derive(Clone, Copy)]
enum Own {
    Posting,
    Refused(Refusal),
}

/// Settles the records of all listings by the pages that were read.
pub fn settle(reports: &mut [PageReport]) {
    let key = |address: &str| Url::parse(address).ok().map(|url| url_key(&url));
    let mut own: HashMap<String, Own> = HashMap::new();
    for report in reports.iter() {
        let said = match (report.page.kind, report.refusal) {
            (_, Some(refusal)) => Own::Refused(refusal),
            (PageKind::Posting, None) if !report.page.postings.is_empty() => Own::Posting,
            _ => continue,
        };
        if let Some(key) = key(&report.page.source) {
            own.insert(key, said);
        }
    }
    for report in reports.iter_mut().filter(|report| report.page.kind == PageKind::Listing) {
        let page = &mut report.page;
        let before = page.postings.len();
        page.postings.retain_mut(|posting| {
            let said = posting.url.as_deref().and_then(key).and_then(|key| own.get(&key));
            said.is_none_or(|said| is_open(posting, *said))
        });
        let refused = before - page.postings.len();
        if refused > 0 {
            page.warnings
                .push(format!("{refused} records left out: their own pages are gone or no postings"));
        }
    }
}

/// Takes over what a record's own page said; false where the record is not open.
fn is_open(record: &mut Posting, own: Own) -> bool {
    match own {
        Own::Posting => {
            record.standing = Standing::Confirmed;
            true
        }
        Own::Refused(Refusal::Gone) => false,
        Own::Refused(Refusal::NoPosting) => record.standing == Standing::Confirmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str, standing: Standing) -> Posting {
        let url = Some(format!("https://a.example{path}"));
        Posting { standing, title: Some(path.to_owned()), url, ..Posting::default() }
    }

    fn page(path: &str, kind: PageKind, postings: Vec<Posting>, refusal: Option<Refusal>) -> PageReport {
        let mut report = PageReport::failed(format!("https://a.example{path}"), String::new(), String::new());
        (report.page.kind, report.page.postings, report.refusal) = (kind, postings, refusal);
        report
    }

    #[test]
    fn records_stand_as_their_own_pages_say() {
        let (candidate, confirmed) = (Standing::Candidate, Standing::Confirmed);
        let records = [
            ("/read?utm_source=x", candidate),
            ("/unread", candidate),
            ("/gone", confirmed),
            ("/none", candidate),
            ("/declared", confirmed),
            ("/failed", candidate),
        ];
        let records = records.map(|(path, standing)| record(path, standing)).to_vec();
        let mut reports = [
            page("/jobs", PageKind::Listing, records, None),
            page("/read", PageKind::Posting, vec![record("/read", confirmed)], None),
            page("/gone", PageKind::None, Vec::new(), Some(Refusal::Gone)),
            page("/none", PageKind::Hub, Vec::new(), Some(Refusal::NoPosting)),
            page("/declared", PageKind::None, Vec::new(), Some(Refusal::NoPosting)),
            page("/failed", PageKind::None, Vec::new(), None),
        ];
        settle(&mut reports);
        let page = &reports[0].page;
        let told: Vec<_> = page.postings.iter().map(|p| (p.title.as_deref().unwrap(), p.standing)).collect();
        let expected = [
            ("/read?utm_source=x", confirmed),
            ("/unread", candidate),
            ("/declared", confirmed),
            ("/failed", candidate),
        ];
        assert_eq!(told, expected);
        assert_eq!(page.warnings, ["2 records left out: their own pages are gone or no postings"]);
        assert_eq!(reports[1].page.postings.len(), 1);
    }
}
