//! What an address says of the page behind it, by the words in its path and by shape.

use url::Url;

use crate::ats;
use crate::words::{List, Text};

/// Digits of a number that tells one page from others.
const ID_DIGITS_MIN: usize = 3;
/// Hyphens in a segment that is made of a title.
const TITLE_HYPHENS_MIN: usize = 2;

fn spaced(text: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    decoded.replace(['-', '_', '.', '+'], " ")
}

fn segments(url: &Url) -> Vec<&str> {
    url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).collect()
}

fn speaks_of_jobs(text: &str) -> bool {
    Text::new(&spaced(text)).has(List::Jobs)
}

/// Whether the path, a label of the host, or the system behind it has to do with jobs.
pub fn is_about_jobs(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let own = host.split('.').rev().skip(2);
    ats::tenant(url).is_some() || own.chain(segments(url)).any(speaks_of_jobs)
}

/// Whether an address looks like one job's own: below something about jobs, and with a number or a UUID in one of its last
/// two parts, or such an id of a job in its query.
pub fn names_one_job(url: &Url) -> bool {
    // A known system's address says it exactly.
    if ats::tenant(url).is_some() {
        return ats::requisition(url).is_some();
    }
    let has_id = |text: &str| text.chars().filter(char::is_ascii_digit).count() >= ID_DIGITS_MIN;
    let by_query = url.query_pairs().any(|(key, value)| {
        let key = key.to_lowercase();
        let is_id = key.ends_with("id") || key == "jk";
        is_id
            && value.len() >= ID_DIGITS_MIN
            && (key.contains("job")
                || key.contains("jid")
                || key == "jk"
                || speaks_of_jobs(key.trim_end_matches("id")))
    });
    by_query || segments(url).iter().rev().take(2).any(|segment| has_id(segment)) && is_about_jobs(url)
}

/// Whether the last part of an address below something about jobs is made of a title's words.
pub fn is_made_of_a_title(url: &Url) -> bool {
    let last = segments(url).last().is_some_and(|last| last.matches(['-', '_']).count() >= TITLE_HYPHENS_MIN);
    last && ats::tenant(url).is_none() && is_about_jobs(url)
}

/// Whether an address looks like a list's: its last part is a word for jobs and names none.
pub fn names_a_list(url: &Url) -> bool {
    !names_one_job(url) && segments(url).last().is_some_and(|last| speaks_of_jobs(last))
}

/// Whether an address leads to one of a site's own pages ("/about", "/blog/…") rather than to a job.
pub fn is_of_the_site(url: &Url) -> bool {
    let segments = segments(url);
    let Some((last, before)) = segments.split_last() else { return false };
    // "team-lead" is a job's name, "blog-about-careers/…" a blog's.
    Text::new(&spaced(last)).is(List::Site)
        || before.iter().any(|segment| Text::new(&spaced(segment)).begins_with(List::Site).is_some())
}
