//! By tables: pages written here, and what of a posting stands on them.

use super::*;
use crate::posting::EmploymentType;

fn content(html: &str) -> PageContent {
    PageContent::read(&FetchedPage {
        url: Url::parse("https://jobs.example.org/en/jobs/77").unwrap(),
        bytes: html.as_bytes().to_vec(),
        content_type: Some("text/html; charset=utf-8".to_owned()),
        fetched_at: "2026-07-11T09:00:00Z".parse().unwrap(),
        from_cache: false,
        redirects: 0,
    })
}

fn titled(title: &str) -> Posting {
    Posting { title: Some(title.into()), ..Posting::default() }
}

/// Fields of which a value stands nowhere.
fn invented(html: &str, posting: Posting, kind: PageKind) -> Vec<String> {
    let checked = content(html).check(&[posting], kind);
    checked.invented.into_iter().map(|(field, _)| field).collect()
}

type Case<'a> = (&'a str, fn(&mut Posting), &'a [&'a str]);

fn assert_cases(html: &str, title: &str, kind: PageKind, cases: &[Case<'_>]) {
    for (name, change, expected) in cases {
        let mut posting = titled(title);
        change(&mut posting);
        assert_eq!(invented(html, posting, kind), *expected, "{name}");
    }
}

const SINGLE: &str = r#"<html><head><title>Net Mender (m/w/d) | Tidewater</title>
    <meta name=description content="Net Mender in Aberwen"><style>.paris{}</style></head>
    <body class="london"><!-- Company: Hidden Holdings, Rome --><script>var x = 1; // in Madrid
    track("https://track.example/hr")</script>
    <nav><a href="/en/jobs">All jobs</a></nav>
    <h1>Net Mender (m/w/d)</h1><p><b>Tide</b>water&nbsp;Ltd &amp; Sons</p><ul><li>Aberwen, Wales</li><li>Full-time, hybrid</li>
    <li>Posted 8 days ago</li><li>Apply by 1 August 2026</li><li>£31.5k to £34k per year</li></ul>
    <p style="display: none">Vienna</p>
    <p>You know Rust and rope. <a href="../apply/77?from=page">Apply</a></p><img alt="Harbour Works" src=l.png>
    <h2>Similar jobs</h2><ul>
    <li><a href="/en/jobs/1"><b>Sail Maker</b></a> <span>Cardiff</span> <span>€90,000 a month</span> <span>12 May 2026</span></li>
    <li><a href="/en/jobs/2"><b>Rigger</b></a> <span>Bristol</span> <span>Internship</span></li>
    <li><a href="/en/jobs/3"><b>Net Mender</b></a> <span>Swansea</span> <span>Marina Co</span></li></ul></body></html>"#;

#[test]
fn texts_stand_in_what_is_seen_and_in_no_other_jobs_record() {
    assert_cases(
        SINGLE,
        "Net Mender",
        PageKind::Posting,
        &[
            ("company over inline elements", |p| p.company = Some("Tidewater Ltd & Sons".into()), &[]),
            ("company on a logo", |p| p.company = Some("Harbour Works".into()), &[]),
            ("company in a comment", |p| p.company = Some("Hidden Holdings".into()), &["company"]),
            ("company of a similar job", |p| p.company = Some("Marina Co".into()), &["company"]),
            ("half a word", |p| p.company = Some("Harb".into()), &["company"]),
            ("place", |p| p.locations = vec!["Aberwen, Wales".into(), "Wales (Aberwen)".into()], &[]),
            (
                "class, style, script and hidden",
                |p| p.locations = ["London", "Paris", "Madrid", "Vienna"].map(String::from).into(),
                &["locations"; 4],
            ),
            ("place of a similar job", |p| p.locations = vec!["Cardiff".into()], &["locations"]),
            ("place of one with the same title", |p| p.locations = vec!["Swansea".into()], &["locations"]),
            (
                "words apart",
                |p| p.skills = vec!["rope".into(), "Rust".into(), "Rust rope".into()],
                &["skills"],
            ),
            ("another title", |p| p.title = Some("Chief Net Mender".into()), &["title"]),
            ("gender marks of another kind", |p| p.title = Some("Net Mender (f/m/x)".into()), &[]),
            ("seniority", |p| p.seniority = Some("Senior".into()), &["seniority"]),
        ],
    );
}

#[test]
fn dates_links_types_and_pay_are_values_too() {
    let salary = |min, max, currency: &str, period| {
        Some(Salary { min, max, currency: Some(currency.into()), period: Some(period), ..Salary::default() })
    };
    let cases: [(&str, Posting, &[&str]); 14] = [
        ("relative date", Posting { date_posted: Some("2026-07-03".into()), ..titled("Net Mender") }, &[]),
        (
            "a day off",
            Posting { date_posted: Some("2026-07-02".into()), ..titled("Net Mender") },
            &["date_posted"],
        ),
        (
            "of a similar job",
            Posting { date_posted: Some("2026-05-12".into()), ..titled("Net Mender") },
            &["date_posted"],
        ),
        ("end", Posting { valid_through: Some("2026-08-01".into()), ..titled("Net Mender") }, &[]),
        (
            "apply link",
            Posting {
                apply_url: Some("https://jobs.example.org/en/apply/77?from=page".into()),
                ..titled("Net Mender")
            },
            &[],
        ),
        (
            "address in a script",
            Posting { apply_url: Some("https://track.example/hr".into()), ..titled("Net Mender") },
            &["apply_url"],
        ),
        (
            "own address",
            Posting { url: Some("https://jobs.example.org/en/jobs/77".into()), ..titled("Net Mender") },
            &[],
        ),
        (
            "address of a similar job",
            Posting { url: Some("https://jobs.example.org/en/jobs/1".into()), ..titled("Net Mender") },
            &["url"],
        ),
        ("type", Posting { employment_type: Some(EmploymentType::FullTime), ..titled("Net Mender") }, &[]),
        (
            "type of a similar job",
            Posting { employment_type: Some(EmploymentType::Internship), ..titled("Net Mender") },
            &["employment_type"],
        ),
        (
            "hybrid",
            Posting { workplace: Some(Workplace::Hybrid), remote: Some(true), ..titled("Net Mender") },
            &[],
        ),
        ("remote", Posting { workplace: Some(Workplace::Remote), ..titled("Net Mender") }, &["workplace"]),
        (
            "pay",
            Posting {
                salary: salary(Some(31_500.0), Some(34_000.0), "GBP", SalaryPeriod::Year),
                ..titled("Net Mender")
            },
            &[],
        ),
        (
            "pay of a similar job",
            Posting {
                salary: salary(Some(31_500.0), Some(90_000.0), "EUR", SalaryPeriod::Month),
                ..titled("Net Mender")
            },
            &["salary", "salary currency", "salary period"],
        ),
    ];
    for (name, posting, expected) in cases {
        assert_eq!(invented(SINGLE, posting, PageKind::Posting), expected, "{name}");
    }
    let posting =
        Posting { date_posted: Some("2026-07-03".into()), remote: Some(true), ..titled("Net Mender") };
    assert_eq!(content(SINGLE).check(&[posting.clone(), posting], PageKind::Posting).values, 6);
}

const LISTING: &str = r#"<h1>Jobs at Tidewater</h1><table>
    <tr><td><a href="/j/1">Cook</a></td><td>Oslo</td><td>Part-time</td></tr>
    <tr><td><a href="/j/2">Baker</a></td><td>Bergen</td><td>Full-time</td></tr>
    <tr><td><a href="/j/3">Cook</a></td><td>Tromsø</td><td>Full-time</td></tr></table>"#;

#[test]
fn in_a_list_a_value_is_its_own_records() {
    let at = |title: &str, place: &str, url: &str| Posting {
        locations: vec![place.into()],
        company: Some("Tidewater".into()),
        url: Some(format!("https://jobs.example.org/j/{url}")),
        ..titled(title)
    };
    for (posting, expected) in [
        (at("Cook", "Oslo", "1"), &[][..]),
        (at("Baker", "Bergen", "2"), &[]),
        (at("Baker", "Oslo", "2"), &["locations"]),
        (at("Cook", "Tromsø", "1"), &["locations"]),
        (at("Cook", "Bergen", "3"), &["locations"]),
        (at("Baker", "Bergen", "3"), &["url"]),
        (at("Waiter", "Bergen", "2"), &["title", "locations", "url"]),
    ] {
        let name = format!("{posting:?}");
        assert_eq!(invented(LISTING, posting, PageKind::Listing), expected, "{name}");
    }
}

const BOARD: &str = r#"<title>Board</title><div id=app></div>
    <script type="application/ld+json">{"@graph": [{"@type": "Organization", "name": "Tidewater"},]}</script>
    <script>window.__data = {"organization": {"name": "Tide Board"}, "filters": [{"title": "Place", "values": ["Paris"]}],
      "jobs": [
        {"title": "Cook &amp; Baker", "employmentType": "FullTime", "isRemote": false, "publishedAt": 1783036800000,
         "location": {"city": "Oslo"}, "secondary": [{"city": "Bergen"}], "applyUrl": "/apply/1",
         "pay_min_cents": 4200000, "html": "&lt;p&gt;We use &lt;b&gt;Rust&lt;/b&gt;&lt;/p&gt;"},
        {"title": "Rigger", "employmentType": "Intern", "isRemote": true, "location": {"city": "Rome"}}]};</script>
    <script>self.flow.push([1, "4:{\"title\":\"Sailor\",\"city\":\"Turku\",\"unitText\":\"HOUR\",\"max\":\"21.50\"}"])</script>"#;

#[test]
fn declared_values_count_for_the_object_that_bears_the_title() {
    assert_cases(
        BOARD,
        "Cook & Baker",
        PageKind::Listing,
        &[
            ("its places", |p| p.locations = vec!["Oslo".into(), "Bergen".into()], &[]),
            (
                "another's place, a filter's value",
                |p| p.locations = vec!["Rome".into(), "Paris".into()],
                &["locations"; 2],
            ),
            ("the board's organization", |p| p.company = Some("Tide Board".into()), &[]),
            ("JSON-LD of all", |p| p.company = Some("Tidewater".into()), &[]),
            ("a moment", |p| p.date_posted = Some("2026-07-03".into()), &[]),
            ("its type", |p| p.employment_type = Some(EmploymentType::FullTime), &[]),
            (
                "another's type",
                |p| p.employment_type = Some(EmploymentType::Internship),
                &["employment_type"],
            ),
            ("a flag that says no", |p| p.remote = Some(false), &[]),
            ("not that it says yes", |p| p.workplace = Some(Workplace::Hybrid), &["workplace"]),
            ("address", |p| p.apply_url = Some("https://jobs.example.org/apply/1".into()), &[]),
            ("cents", |p| p.salary = Some(Salary { min: Some(42_000.0), ..Salary::default() }), &[]),
            ("escaped HTML", |p| p.skills = vec!["Rust".into(), "b".into()], &["skills"]),
        ],
    );
    let mut sailor = titled("Sailor");
    sailor.locations = vec!["Turku".into()];
    sailor.salary = Some(Salary { max: Some(21.5), period: Some(SalaryPeriod::Hour), ..Salary::default() });
    assert_eq!(invented(BOARD, sailor, PageKind::Listing), [""; 0], "state in a string");
}

#[test]
fn of_several_declared_postings_each_has_its_own() {
    let posting = |title: &str, place: &str| {
        format!(
            r#"{{"@type": "JobPosting", "title": "{title}", "jobLocation": {{"address": {{"addressLocality": "{place}"}}}}}}"#
        )
    };
    let page = |postings: &[String]| {
        format!(r#"<script type="application/ld+json">[{}]</script>"#, postings.join(","))
    };
    let at = |place: &str| Posting { locations: vec![place.into()], ..titled("Cook") };
    let two = page(&[posting("Cook", "Oslo"), posting("Baker", "Bergen")]);
    assert_eq!(invented(&two, at("Oslo"), PageKind::Listing), [""; 0]);
    assert_eq!(invented(&two, at("Bergen"), PageKind::Listing), ["locations"]);
    let one = page(&[posting("Cook in Oslo", "Oslo")]) + "<h1>Cook</h1>";
    assert_eq!(invented(&one, at("Oslo"), PageKind::Posting), [""; 0], "the only posting is the page's");
    let microdata = |title: &str, place: &str| {
        format!(
            "<div itemscope itemtype='https://schema.org/JobPosting'><h2 itemprop=title>{title}</h2><meta itemprop=city content={place}></div>"
        )
    };
    let both = microdata("Cook", "Oslo") + &microdata("Baker", "Bergen");
    assert_eq!(invented(&both, at("Oslo"), PageKind::Listing), [""; 0]);
    assert_eq!(invented(&both, at("Bergen"), PageKind::Listing), ["locations"]);
}

#[test]
fn scripts_without_spaces_hold_values_within_runs() {
    let page = "<h1>正社員エンジニア</h1><p>勤務地東京都港区</p><p>月給26万円</p><p>דרוש מהנדס בתל אביב</p>";
    let posting = Posting {
        locations: vec!["東京都港区".into(), "תל אביב".into(), "大阪".into()],
        employment_type: Some(EmploymentType::FullTime),
        salary: Some(Salary {
            min: Some(260_000.0),
            currency: Some("JPY".into()),
            period: Some(SalaryPeriod::Month),
            ..Salary::default()
        }),
        ..titled("エンジニア")
    };
    assert_eq!(invented(page, posting, PageKind::Posting), ["locations"]);
}
