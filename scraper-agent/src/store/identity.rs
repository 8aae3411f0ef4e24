//! When two postings are the same job.
//!
//! By tenant and requisition id, where the address is of a known ATS; else by the address without what only tracks;
//! else by title, company and place, or title, place and where to apply. A key names how it was made, so that keys of
//! different kinds never meet.

use unicode_normalization::UnicodeNormalization as _;
use url::Url;

use crate::ats;
use crate::posting::Posting;

/// The job's key; `None` where nothing tells it from another.
pub fn identity_key(posting: &Posting) -> Option<String> {
    if let Some(url) = posting.url.as_deref().and_then(|u| Url::parse(u).ok())
        && matches!(url.scheme(), "http" | "https")
    {
        return Some(url_key(&url));
    }
    let title = posting.title.as_deref().map(normal).filter(|t| !t.is_empty())?;
    let company = posting.company.as_deref().map(normal).unwrap_or_default();
    let place = posting.locations.first().map(|l| normal(l)).unwrap_or_default();
    // Without an employer a title, with a place or not, would make one job of all "Software Engineers"; where they are
    // applied for tells them apart, or at least their sites.
    if company.is_empty() {
        let apply = Url::parse(posting.apply_url.as_deref()?).ok()?;
        return Some(format!("apply:{}|{title}|{place}", canonical_url(&apply)));
    }
    Some(format!("text:{title}|{company}|{place}"))
}

/// The key of the job that has this page.
pub fn url_key(url: &Url) -> String {
    match ats::requisition(url) {
        Some(found) => {
            format!(
                "{}:{}:{}",
                found.tenant.ats,
                found.tenant.account.to_lowercase(),
                found.id.to_lowercase()
            )
        }
        None => format!("url:{}", canonical_url(url)),
    }
}

/// The address without fragment and what only tracks.
pub fn canonical_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !is_tracking(name))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    if kept.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    let text = String::from(url);
    text.strip_suffix('/').unwrap_or(&text).to_owned()
}

fn is_tracking(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("utm_")
        || matches!(
            name.as_str(),
            "gclid" | "fbclid" | "msclkid" | "trackingid" | "refid" | "gh_src" | "lever-source"
        )
}

/// NFKC, lower case, letters and digits, single spaces.
fn normal(text: &str) -> String {
    let plain: String =
        text.nfkc().flat_map(char::to_lowercase).map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> String {
        identity_key(&Posting { url: Some(url.into()), ..Posting::default() }).unwrap()
    }

    #[test]
    fn the_same_job_has_the_same_key() {
        assert_eq!(
            at("https://boards.greenhouse.io/Acme/jobs/12?gh_src=x"),
            at("https://job-boards.greenhouse.io/acme/jobs/12#app")
        );
        assert_eq!(at("https://a.example/jobs/1/?utm_source=x#top"), at("https://a.example/jobs/1"));
        assert_ne!(at("https://a.example/jobs?id=1"), at("https://a.example/jobs?id=2"));
        let text = |title: &str, place: &str| {
            identity_key(&Posting {
                title: Some(title.into()),
                company: Some("Acme GmbH".into()),
                locations: vec![place.into()],
                ..Posting::default()
            })
        };
        assert_eq!(text("Engineer (m/w/d)", "Köln"), text("ENGINEER  m/w/d", "KÖLN "));
        assert_ne!(text("Engineer", "Köln"), text("Engineer", "Bonn"));
        assert_eq!(identity_key(&Posting { title: Some("Engineer".into()), ..Posting::default() }), None);
        let apply = |title: &str, site: &str| {
            identity_key(&Posting {
                title: Some(title.into()),
                locations: vec!["Köln".into()],
                apply_url: Some(format!("https://{site}/apply")),
                ..Posting::default()
            })
        };
        assert_ne!(apply("Engineer", "a.example"), apply("Welder", "a.example"));
        assert_ne!(apply("Engineer", "a.example"), apply("Engineer", "b.example"));
        assert_eq!(apply("Engineer", "a.example"), apply("ENGINEER", "a.example"));
    }
}
