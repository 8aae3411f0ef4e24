//! Applicant tracking systems by their addresses: which system, whose board there, which opening.
//!
//! One table for whoever asks: the gate (does a page lead to a board), the frontier (may a link leave the site), the
//! store (are two postings the same job). Nothing is guessed from an address that only looks alike.

use std::sync::LazyLock;

use regex::Regex;
use url::Url;

/// A customer of a system, as its addresses name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// `greenhouse`, `lever`, …
    pub ats: &'static str,
    /// As in the address: some systems distinguish cases.
    pub account: String,
    /// One of an account's boards, where a system has several.
    pub site: Option<String>,
}

impl Tenant {
    /// Whether both are of one customer, whatever its boards.
    pub fn is_same_account(&self, other: &Self) -> bool {
        self.ats == other.ats && self.account.eq_ignore_ascii_case(&other.account)
    }
}

/// One opening of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requisition {
    /// Whose.
    pub tenant: Tenant,
    /// The system's own number or name of it.
    pub id: String,
}

/// A system's addresses, as patterns over host and path: `account` and `site` of a board, `id` of an opening.
struct Pattern {
    ats: &'static str,
    board: Regex,
    opening: Regex,
}

/// System, host with the account, the account's board below it, an opening below the host.
#[rustfmt::skip]
const SYSTEMS: [(&str, &str, &str); 10] = [
    ("greenhouse", r"^(?:job-boards|boards)(?:\.eu)?\.greenhouse\.io/(?P<account>[^/]+)", r"/jobs/(?P<id>\d+)"),
    ("lever", r"^jobs(?:\.eu)?\.lever\.co/(?P<account>[^/]+)", r"/(?P<id>[0-9a-f-]{36})(?:/|$)"),
    ("ashby", r"^jobs\.ashbyhq\.com/(?P<account>[^/]+)", r"/(?P<id>[0-9a-f-]{36})(?:/|$)"),
    ("workable", r"^apply\.workable\.com/(?P<account>[^/]+)", r"/j/(?P<id>[0-9A-Z]+)"),
    ("recruitee", r"^(?P<account>[^./]+)\.recruitee\.com(?:/|$)", r"o/(?P<id>[^/]+)"),
    ("smartrecruiters", r"^(?:jobs|careers)\.smartrecruiters\.com/(?P<account>[^/]+)", r"/(?P<id>\d+)"),
    ("workday", r"^(?P<account>[^./]+)\.wd\d+\.myworkdayjobs\.com/(?:[a-z]{2}-[A-Z]{2}/)?(?P<site>[^/]+)",
        r"/.*_(?P<id>[A-Za-z0-9-]+)$"),
    ("personio", r"^(?P<account>[^./]+)\.jobs\.personio\.(?:de|com)(?:/|$)", r"job/(?P<id>\d+)"),
    ("teamtailor", r"^(?P<account>[^./]+)(?:\.[a-z]{2,3})?\.teamtailor\.com(?:/|$)",
        r"(?:[a-z]{2}(?:-[A-Z]{2})?/)?jobs/(?P<id>\d+)"),
    ("join", r"^join\.com/companies/(?P<account>[^/]+)", r"/(?P<id>\d+)"),
];

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a constant pattern compiles");
    let pattern = |&(ats, board, opening): &(&'static str, &str, &str)| Pattern {
        ats,
        board: regex(board),
        opening: regex(&format!("{board}{opening}")),
    };
    SYSTEMS.iter().map(pattern).collect()
});

/// First parts of a path, or of a host, that are the system's own and nobody's account.
const RESERVED: [&str; 13] = [
    "www", "app", "api", "help", "support", "docs", "blog", "status", "assets", "static", "cdn", "embed",
    "v1",
];

/// Whose board an address is of, or leads to.
pub fn tenant(url: &Url) -> Option<Tenant> {
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    if let Some(account) = embedded(url) {
        return Some(Tenant { ats: "greenhouse", account, site: None });
    }
    let place = place(url);
    let (pattern, found) = PATTERNS.iter().find_map(|p| Some((p, p.board.captures(&place)?)))?;
    let account = found["account"].to_owned();
    if RESERVED.contains(&account.to_ascii_lowercase().as_str()) {
        return None;
    }
    let site = found.name("site").map(|site| site.as_str().to_owned());
    Some(Tenant { ats: pattern.ats, account, site })
}

/// The page to read for an address that leads to a tenant: some are of a script that draws the board into another page.
pub fn board_page(url: &Url) -> Option<Url> {
    let tenant = tenant(url)?;
    let mut page = url.clone();
    page.set_fragment(None);
    match (tenant.ats, page.path().strip_suffix("/js"), page.path().strip_suffix("/embed")) {
        ("greenhouse", Some(path), _) | ("ashby", _, Some(path)) => {
            let path = path.to_owned();
            page.set_path(&path);
        }
        _ => {}
    }
    Some(page)
}

/// Which opening of which tenant an address is of.
pub fn requisition(url: &Url) -> Option<Requisition> {
    let tenant = tenant(url)?;
    if embedded(url).is_some() {
        let id = query(url, "token").or_else(|| query(url, "gh_jid"))?;
        return Some(Requisition { tenant, id });
    }
    let pattern = PATTERNS.iter().find(|pattern| pattern.ats == tenant.ats)?;
    let id = pattern.opening.captures(&place(url))?["id"].to_owned();
    Some(Requisition { tenant, id })
}

fn place(url: &Url) -> String {
    format!("{}{}", url.host_str().unwrap_or_default(), url.path())
}

/// The account of a board, or of an opening's form, that is embedded into the customer's own page.
fn embedded(url: &Url) -> Option<String> {
    static EMBED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:job-boards|boards)(?:\.eu)?\.greenhouse\.io/embed/job_(?:board|app)(?:/|$)")
            .expect("a constant pattern compiles")
    });
    EMBED.is_match(&place(url)).then(|| query(url, "for")).flatten()
}

fn query(url: &Url, name: &str) -> Option<String> {
    let (_, value) = url.query_pairs().find(|(key, _)| key == name)?;
    (!value.is_empty()).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0a1b2c3d-0000-4000-8000-000000000000";

    /// System, account, site.
    type Whose = Option<(&'static str, &'static str, Option<&'static str>)>;

    /// Addresses, whose they are, and their opening.
    fn table() -> Vec<(String, Whose, Option<&'static str>)> {
        let known = |address: &str, ats, account, id| (address.to_owned(), Some((ats, account, None)), id);
        let workday =
            |address: &str, id| (address.to_owned(), Some(("workday", "acme", Some("Careers"))), id);
        let stranger = |address: &str| (address.to_owned(), None, None);
        vec![
            known("https://boards.greenhouse.io/embed/job_board?for=acme", "greenhouse", "acme", None),
            known("https://boards.greenhouse.io/embed/job_board/js?for=acme", "greenhouse", "acme", None),
            known(
                "https://boards.greenhouse.io/embed/job_app?for=acme&token=12",
                "greenhouse",
                "acme",
                Some("12"),
            ),
            known("https://job-boards.eu.greenhouse.io/acme", "greenhouse", "acme", None),
            known("https://job-boards.greenhouse.io/acme/jobs/12?gh_src=x", "greenhouse", "acme", Some("12")),
            known("https://jobs.lever.co/Acme", "lever", "Acme", None),
            known(&format!("https://jobs.eu.lever.co/acme/{UUID}/apply"), "lever", "acme", Some(UUID)),
            known("https://jobs.ashbyhq.com/acme/embed", "ashby", "acme", None),
            known(&format!("https://jobs.ashbyhq.com/acme/{UUID}"), "ashby", "acme", Some(UUID)),
            known("https://apply.workable.com/acme/", "workable", "acme", None),
            known("https://apply.workable.com/acme/j/0AB1C2/", "workable", "acme", Some("0AB1C2")),
            known("https://acme.recruitee.com", "recruitee", "acme", None),
            known("https://acme.recruitee.com/o/pump-engineer", "recruitee", "acme", Some("pump-engineer")),
            known("https://careers.smartrecruiters.com/Acme", "smartrecruiters", "Acme", None),
            known("https://jobs.smartrecruiters.com/Acme/743-pump", "smartrecruiters", "Acme", Some("743")),
            workday("https://acme.wd3.myworkdayjobs.com/Careers", None),
            workday("https://acme.wd3.myworkdayjobs.com/en-US/Careers", None),
            workday("https://acme.wd3.myworkdayjobs.com/en-US/Careers/job/Bonn/Pump_JR-7", Some("JR-7")),
            known("https://acme.jobs.personio.de/?language=de", "personio", "acme", None),
            known("https://acme.jobs.personio.com/job/77", "personio", "acme", Some("77")),
            known("https://acme.teamtailor.com/jobs", "teamtailor", "acme", None),
            known("https://acme.na.teamtailor.com/de/jobs/5-pump", "teamtailor", "acme", Some("5")),
            known("https://join.com/companies/acme", "join", "acme", None),
            known("https://join.com/companies/acme/99-pump", "join", "acme", Some("99")),
            stranger("https://boards.greenhouse.io/embed/job_board"),
            stranger("https://boards.greenhouse.io/"),
            stranger("https://www.greenhouse.io/acme"),
            stranger("https://www.recruitee.com/o/pump"),
            stranger("https://app.teamtailor.com/jobs/5"),
            stranger("https://apply.workable.com/api/v1/widget/accounts/acme"),
            stranger("https://acme.example/?next=https://jobs.lever.co/acme"),
            stranger("https://jobs.lever.co.acme.example/acme"),
            stranger("https://join.com/jobs"),
            stranger("ftp://jobs.lever.co/acme"),
        ]
    }

    #[test]
    fn a_script_stands_for_its_board() {
        for (address, page) in [
            (
                "https://boards.greenhouse.io/embed/job_board/js?for=a",
                "https://boards.greenhouse.io/embed/job_board?for=a",
            ),
            ("https://jobs.ashbyhq.com/a/embed", "https://jobs.ashbyhq.com/a"),
            ("https://jobs.lever.co/a#x", "https://jobs.lever.co/a"),
        ] {
            assert_eq!(board_page(&Url::parse(address).unwrap()).unwrap().as_str(), page);
        }
        assert_eq!(board_page(&Url::parse("https://a.example/embed").unwrap()), None);
    }

    #[test]
    fn addresses_name_systems_accounts_and_openings() {
        for (address, whose, opening) in table() {
            let url = Url::parse(&address).unwrap();
            let found = tenant(&url);
            let told = found.as_ref().map(|t| (t.ats, t.account.as_str(), t.site.as_deref()));
            assert_eq!(told, whose, "{address}");
            let found = requisition(&url);
            assert_eq!(found.as_ref().map(|r| r.id.as_str()), opening, "{address}");
            assert_eq!(found.map(|r| r.tenant), tenant(&url).filter(|_| opening.is_some()), "{address}");
        }
    }
}
