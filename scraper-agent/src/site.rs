//! Which addresses are of one site: the registrable domain, by the public suffix list.

use url::Url;

use crate::ats;

/// The part of a domain that one owner registers (`acme.co.uk` of `jobs.acme.co.uk`); a public suffix itself as it is.
pub fn registrable(domain: &str) -> &str {
    psl::domain_str(domain.trim_end_matches('.')).unwrap_or(domain)
}

/// What an address belongs to: its registrable domain, or its host where that is no name.
pub fn site(url: &Url) -> String {
    match url.domain() {
        Some(domain) => registrable(domain).to_owned(),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}

/// Whether two addresses are of one site. Of a system that many share it is the customer's part; a host without a name
/// is its own with each port.
pub fn is_same_site(a: &Url, b: &Url) -> bool {
    match (ats::tenant(a), ats::tenant(b)) {
        (Some(a), Some(b)) => return a.is_same_account(&b),
        (None, None) => {}
        // One is a customer's page, the other the system's own.
        _ => return false,
    }
    match (a.domain(), b.domain()) {
        (Some(left), Some(right)) => registrable(left) == registrable(right),
        _ => a.origin() == b.origin(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_told_apart() {
        for (a, b, expected) in [
            ("https://www.a.example/", "https://jobs.a.example/", true),
            ("https://a.co.uk/", "https://b.co.uk/", false),
            ("https://www.a.co.uk/", "https://a.co.uk./", true),
            ("https://www.hp.example/", "https://jobs.hp.example/", true),
            // Suffixes that no rule of thumb knows.
            ("https://a.github.io/", "https://b.github.io/", false),
            ("https://a.gov.br/", "https://b.gov.br/", false),
            ("https://a.blogspot.com/", "https://b.blogspot.com/", false),
            ("http://127.0.0.1:1/", "http://127.0.0.1:2/", false),
            ("http://127.0.0.1:1/a", "http://127.0.0.1:1/b", true),
            // One system, two customers; a customer and the system.
            ("https://boards.greenhouse.io/a", "https://boards.greenhouse.io/b/jobs/1", false),
            ("https://boards.greenhouse.io/a", "https://job-boards.greenhouse.io/a/jobs/1", true),
            ("https://a.recruitee.com/", "https://b.recruitee.com/o/x", false),
            ("https://a.recruitee.com/", "https://www.recruitee.com/jobs", false),
        ] {
            let (a, b) = (Url::parse(a).unwrap(), Url::parse(b).unwrap());
            assert_eq!(is_same_site(&a, &b), expected, "{a} {b}");
            assert_eq!(is_same_site(&b, &a), expected, "{b} {a}");
        }
    }
}
