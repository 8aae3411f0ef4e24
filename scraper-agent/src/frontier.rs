//! Which links of a page are read next. Pure.
//!
//! Further pages of a listing come first, then what looks like a posting, then listings of known ATSs that a hub
//! points to. Nothing leaves the site but for a known ATS (`ats.rs`), and not even that without `scraping.follow_ats`;
//! what is only chrome is not followed.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;
use url::Url;

use crate::ats;
use crate::config::ScrapingConfig;
use crate::fetch::pace::host_key;
use crate::posting::PageKind;
use crate::site::is_same_site;
use crate::store::Found;
use crate::words::{self, List, Text};

pub use crate::site::registrable as site;

/// A link as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Absolute.
    pub url: Url,
    /// What is written on it.
    pub text: String,
    /// It says that it leads to the next page.
    pub is_next: bool,
}

/// What the links are judged against.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    /// The page's address after redirects.
    pub url: &'a Url,
    /// What the page is.
    pub kind: PageKind,
    /// Its own distance from the seed.
    pub depth: u32,
    /// Further pages of one listing so far.
    pub paging: u32,
}

/// Files.
static FILE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\.(pdf|docx?|xlsx?|zip|png|jpe?g|gif|svg|webp|mp4|ics|xml|json|css|js)$")
        .expect("a constant pattern compiles")
});
/// A link's text beyond this is no job's name.
const NAME_CHARS_MAX: usize = 120;

const SCORE_NEXT: i32 = 90;
const SCORE_RECORD: i32 = 70;
const SCORE_ATS: i32 = 60;
const SCORE_JOB_WORD: i32 = 40;
/// Seeds go before everything they lead to.
pub const SCORE_SEED: i32 = 100;

/// The links worth reading. `records` are the addresses of a listing's own records; `boards` those of known systems
/// that the page links to.
pub fn next_links(
    from: From<'_>,
    links: &[Link],
    records: &[Url],
    boards: &[Url],
    config: &ScrapingConfig,
) -> Vec<Found> {
    if !matches!(from.url.scheme(), "http" | "https") {
        return Vec::new();
    }
    let is_record: HashSet<&Url> = records.iter().collect();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let here = without_fragment(from.url);
    let declared =
        records.iter().map(|url| (url, false)).chain(links.iter().map(|link| (&link.url, link.is_next)));
    for (url, is_next) in declared {
        let text = links.iter().find(|link| link.url == *url).map_or("", |link| link.text.as_str());
        let url_key = without_fragment(url);
        if url_key == here || !matches!(url.scheme(), "http" | "https") || !seen.insert(url_key.clone()) {
            continue;
        }
        let same_site = is_same_site(from.url, url);
        let is_next = is_next || is_page_of(from.url, url) && words::is(List::NextPage, text);
        let paged =
            from.kind == PageKind::Listing && same_site && (is_next || is_further_page(from.url, url));
        let depth_left = from.depth < config.depth_max;
        let (score, why, depth, paging) = if paged {
            if from.paging >= config.paging_max {
                continue;
            }
            (SCORE_NEXT, "next page", from.depth, from.paging + 1)
        } else if !depth_left || FILE.is_match(url.path()) {
            continue;
        } else if is_record.contains(url)
            && !ends_in_action(url)
            && (same_site || config.follow_ats && ats::tenant(url).is_some())
        {
            (SCORE_RECORD, "record", from.depth + 1, 0)
        } else if from.kind != PageKind::Posting && same_site && !is_chrome(url) && is_promising(url, text) {
            (SCORE_JOB_WORD, "link", from.depth + 1, 0)
        } else {
            continue;
        };
        // Nearer the seed first, so that one deep site does not starve the others.
        found.push(entry(&url_key, format!("{why} of {}", from.url), depth, paging, score - depth as i32));
    }
    if config.follow_ats && from.kind != PageKind::Posting && from.depth < config.depth_max {
        for url in boards.iter().filter_map(ats::board_page) {
            if url != here && seen.insert(url.clone()) {
                found.push(entry(&url, format!("job board of {}", from.url), from.depth + 1, 0, SCORE_ATS));
            }
        }
    }
    found
}

/// A page to be read.
pub fn entry(url: &Url, found: String, depth: u32, paging: u32, score: i32) -> Found {
    Found { source: url.to_string(), host: host_key(url), why: found, depth, paging, score }
}

/// Whether an address or what is written on the link speaks of jobs, or names one.
fn is_promising(url: &Url, text: &str) -> bool {
    let (address, written) = (path_and_query(url), Text::new(text));
    let address = Text::new(&address);
    address.has(List::Jobs)
        || address.has(List::AddressJobs)
        || written.has(List::Jobs)
        || written.has(List::Occupations) && text.chars().count() <= NAME_CHARS_MAX
}

/// Whether two addresses differ in no more than the number of a page of one list.
fn is_further_page(from: &Url, url: &Url) -> bool {
    let is_page = |name: &str, value: &str| {
        !value.is_empty()
            && value.bytes().all(|b| b.is_ascii_digit())
            && words::is(List::AddressPageQuery, name)
    };
    let numbered = url.query_pairs().any(|(name, value)| is_page(&name, &value))
        || list_path(url.path()).len() < url.path().trim_end_matches('/').len();
    numbered && is_page_of(from, url)
}

/// Whether two addresses are of one list, as far as their paths tell.
fn is_page_of(from: &Url, url: &Url) -> bool {
    list_path(url.path()) == list_path(from.path())
}

/// A list's path without the number of its page: "/jobs/page/2", "/jobs/page-2".
fn list_path(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    let (rest, last) = path.rsplit_once('/').unwrap_or(("", path));
    if last.is_empty() || !last.ends_with(|c: char| c.is_ascii_digit()) {
        return path;
    }
    if last.bytes().all(|b| b.is_ascii_digit()) {
        let (above, name) = rest.rsplit_once('/').unwrap_or(("", rest));
        return if words::is(List::AddressPage, name) { above } else { path };
    }
    if words::is(List::AddressPage, last) { rest } else { path }
}

fn segments(url: &Url) -> impl Iterator<Item = &str> {
    url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty())
}

fn ends_in_action(url: &Url) -> bool {
    segments(url).last().is_some_and(|last| words::is(List::AddressActions, last))
}

/// Whether a path leads to an action, or to what a site says of itself.
fn is_chrome(url: &Url) -> bool {
    let mut below_jobs = false;
    for segment in segments(url) {
        let segment = Text::new(segment);
        if segment.is(List::AddressActions) || !below_jobs && segment.is(List::AddressSite) {
            return true;
        }
        below_jobs |= segment.has(List::Jobs) || segment.has(List::AddressJobs);
    }
    false
}

fn path_and_query(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

fn without_fragment(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(url: &str, text: &str) -> Link {
        Link { url: Url::parse(url).unwrap(), text: text.into(), is_next: false }
    }

    fn names(found: &[Found]) -> Vec<&str> {
        found.iter().map(|e| e.source.as_str()).collect()
    }

    #[test]
    fn records_and_next_pages_are_followed_and_chrome_is_not() {
        let url = Url::parse("https://www.acme.example/jobs/").unwrap();
        let from = From { url: &url, kind: PageKind::Listing, depth: 0, paging: 0 };
        let record = Url::parse("https://jobs.acme.example/r/77").unwrap();
        let mut next = link("https://www.acme.example/jobs/weiter", "»");
        next.is_next = true;
        let links = [
            link("https://www.acme.example/jobs/#top", "Top"),
            link("https://www.acme.example/privacy", "Privacy of jobs"),
            link("https://www.acme.example/jobs/?page=2", "2"),
            link("https://www.acme.example/blog", "Blog"),
            link("https://other.example/jobs", "Jobs"),
            link("https://www.acme.example/jobs/brochure.pdf", "Jobs"),
            next,
        ];
        let config = ScrapingConfig { follow_ats: false, depth_max: 1, ..ScrapingConfig::default() };
        let found = next_links(from, &links, std::slice::from_ref(&record), &[], &config);
        assert_eq!(
            names(&found),
            [
                record.as_str(),
                "https://www.acme.example/jobs/?page=2",
                "https://www.acme.example/jobs/weiter"
            ]
        );
        assert_eq!(found[1].depth, 0, "a further page is as near as the first");
        let deep = From { depth: 1, paging: 20, ..from };
        assert!(next_links(deep, &links, &[record], &[], &config).is_empty(), "both bounds hold");
    }

    #[test]
    fn numbered_pages_of_the_same_list_are_further_pages() {
        for (from, to, expected) in [
            ("/jobs/", "/jobs/page/2/", true),
            ("/jobs", "/jobs/page/2", true),
            ("/jobs/page/2/", "/jobs/page/3/", true),
            ("/jobs/page-2", "/jobs/page-3", true),
            ("/jobs/page/2/", "/jobs/?page=1", true),
            ("/jobs/?team=a", "/jobs/?team=a&page=2", true),
            ("/jobs/", "/blog/page/2/", false),
            ("/jobs/", "/jobs/page/two", false),
            ("/jobs/", "/jobs/4711", false),
            ("/jobs/", "/jobs/homepage/2x", false),
        ] {
            let url = |path: &str| Url::parse(&format!("https://acme.example{path}")).unwrap();
            let (here, to_url) = (url(from), url(to));
            let from = From { url: &here, kind: PageKind::Listing, depth: 0, paging: 0 };
            let config = ScrapingConfig { depth_max: 0, ..ScrapingConfig::default() };
            let found = next_links(from, &[link(to_url.as_str(), "2")], &[], &[], &config);
            assert_eq!(!found.is_empty(), expected, "{here} {to}");
            assert!(found.iter().all(|entry| entry.paging == 1 && entry.depth == 0));
        }
    }

    #[test]
    fn a_word_in_a_path_drops_no_record_and_no_opening_below_a_list() {
        // Path, followed as a record, followed as a mere link.
        for (path, as_record, as_link) in [
            ("/jobs/legal/counsel-12", true, true),
            ("/teams/legal/counsel-12", true, false),
            ("/jobs/application/engineer-7", true, false),
            ("/jobs/feed/miller-3", true, false),
            ("/jobs/12/apply", false, false),
            ("/jobs/legal.pdf", false, false),
            ("/legal/jobs", true, false),
            ("/login/jobs", true, false),
        ] {
            let here = Url::parse("https://acme.example/openings").unwrap();
            let url = here.join(path).unwrap();
            let from = From { url: &here, kind: PageKind::Listing, depth: 0, paging: 0 };
            let links = [link(url.as_str(), "Openings")];
            let config = ScrapingConfig::default();
            let record = next_links(from, &links, std::slice::from_ref(&url), &[], &config);
            let plain = next_links(from, &links, &[], &[], &config);
            assert_eq!((!record.is_empty(), !plain.is_empty()), (as_record, as_link), "{path}");
        }
    }

    #[test]
    fn a_hub_leads_to_its_board_if_that_is_allowed() {
        let url = Url::parse("https://acme.example/careers").unwrap();
        let from = From { url: &url, kind: PageKind::Hub, depth: 0, paging: 0 };
        let board = [Url::parse("https://jobs.lever.co/acme").unwrap()];
        let on = ScrapingConfig::default();
        assert_eq!(names(&next_links(from, &[], &[], &board, &on)), ["https://jobs.lever.co/acme"]);
        // An address that only mentions a system is none of it.
        let mention = [Url::parse("https://tracker.example/?to=jobs.lever.co/acme").unwrap()];
        assert!(next_links(from, &[], &[], &mention, &on).is_empty());
        let off = ScrapingConfig { follow_ats: false, ..on };
        assert!(next_links(from, &[], &[], &board, &off).is_empty());
    }

    #[test]
    fn records_lead_to_the_site_and_to_known_systems_only() {
        let here = Url::parse("https://www.acme.example/jobs/").unwrap();
        let from = From { url: &here, kind: PageKind::Listing, depth: 0, paging: 0 };
        let own = Url::parse("https://jobs.acme.example/r/77").unwrap();
        let system = Url::parse("https://jobs.lever.co/acme/0a1b2c3d-0000-4000-8000-000000000000").unwrap();
        let stranger = Url::parse("https://tracker.example/jobs/77").unwrap();
        let records = [own.clone(), system.clone(), stranger];
        let on = ScrapingConfig::default();
        let found = next_links(from, &[], &records, &[], &on);
        assert_eq!(names(&found), [own.as_str(), system.as_str()]);
        let off = ScrapingConfig { follow_ats: false, ..on };
        let found = next_links(from, &[], &records, std::slice::from_ref(&system), &off);
        assert_eq!(names(&found), [own.as_str()]);
    }
}
