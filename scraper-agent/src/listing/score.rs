//! How job-like a group of records is: what its names, links and facts say; people, quotes and the site's pages count
//! against.

use std::collections::HashSet;

use url::Url;

use super::{Record, address};
use crate::job_title::reads_like_job;
use crate::words::{List, Text};

/// A field of this length between quotation marks is somebody's words.
const QUOTE_CHARS_MIN: usize = 80;

/// Points; see [`super::JOBS_SCORE_MIN`]. `heading` is the one above the group, `base` where the page is.
pub fn score(records: &[Record], heading: Option<&str>, base: &Url) -> i32 {
    // Other people's jobs beneath a posting.
    if heading.is_some_and(|heading| Text::new(heading).begins_with(List::Similar).is_some()) {
        return i32::MIN;
    }
    let n = records.len().max(1);
    let tenths =
        |test: &dyn Fn(&Record) -> bool| records.iter().filter(|record| test(record)).count() * 10 / n;
    let job_links = tenths(&|record| record.leads_to_job() || leads_below(record, base));
    let site_links = tenths(&|record| record.links().iter().all(|link| is_of_the_site(link)));
    let names = tenths(&|record| record.name().is_some_and(|name| reads_like_job(&name.text)));
    let facts = tenths(&Record::states_fact);
    let rich = tenths(&|record| record.fields.len() >= 2);
    let quotes = tenths(&|record| record.fields.iter().any(|field| is_quote(&field.text)));
    let menus = tenths(&Record::is_menu);
    let distinct: HashSet<&str> = records.iter().flat_map(Record::links).collect();
    let own_links = distinct.len() * 10 / n;
    let points = [
        (job_links >= 6, 2),
        (names >= 3, 2),
        (names >= 6, 2),
        (facts >= 5, 1),
        (rich >= 6, 1),
        (own_links >= 7, 1),
        (site_links >= 5, -5),
        (quotes >= 3, -5),
        (menus >= 5, -3),
        (records.len() < 2, -2),
        // Names of jobs that lead nowhere and say nothing else are people's roles.
        (job_links < 6 && facts < 5, -3),
    ];
    points.iter().filter(|(holds, _)| *holds).map(|(_, points)| points).sum()
}

/// Whether a link leads below the page's own address, as a list's entries often do.
fn leads_below(record: &Record, base: &Url) -> bool {
    let own = base.path().trim_end_matches('/');
    !own.is_empty()
        && record.links().iter().any(|link| {
            Url::parse(link).is_ok_and(|url| {
                let rest = url.path().strip_prefix(own);
                url.domain() == base.domain()
                    && rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
            })
        })
}

fn is_of_the_site(link: &str) -> bool {
    Url::parse(link).is_ok_and(|url| address::is_of_the_site(&url))
}

fn is_quote(text: &str) -> bool {
    let text = text.trim();
    text.chars().count() >= QUOTE_CHARS_MIN
        && text.starts_with(['"', '“', '„', '«', '»', '‘', '「'])
        && text.contains(['"', '”', '“', '»', '«', '’', '」'])
}
