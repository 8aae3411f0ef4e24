//! Facts by rules, through a whole reading: what a model's poor answer leaves out stands in the posting all the same,
//! and what the page does not say stays empty.

use chrono::Utc;
use quarry_agent::fetch::FetchedPage;
use quarry_agent::posting::{EmploymentType, PageKind, Posting};
use quarry_agent::reading::Reading;
use url::Url;

fn read(head: &str, body: &str, answer: &str) -> Posting {
    let html = format!("<html lang=en><head>{head}</head><body><main>{body}</main></body></html>");
    let reading = Reading::of(&FetchedPage {
        url: Url::parse("https://careers.example.org/jobs/77").unwrap(),
        bytes: html.into_bytes(),
        content_type: Some("text/html; charset=utf-8".to_owned()),
        fetched_at: Utc::now(),
        from_cache: false,
        redirects: 0,
    })
    .as_kind(PageKind::Posting, "test".to_owned());
    let posting = reading.check(answer).unwrap().resolved.posting;
    for (field, all) in &posting.evidence {
        for evidence in all {
            let Some((start, end)) = evidence.start.zip(evidence.end) else { continue };
            let text = &reading.markdown()[start..end];
            assert!(!text.trim().is_empty() && text == text.trim(), "{field}: {text:?}");
        }
    }
    posting
}

const PROSE: &str = "<p>We build small instruments that measure the sea. You design the housings, test them in cold \
    water and write down what broke. You have done this before and you like boats, cables and long drives along the \
    coast in a van that smells of diesel and of coffee.</p>";

#[test]
fn labelled_lines_fill_what_the_answer_lacks() {
    let body = format!(
        "<h1>Instrument Designer</h1><p>Location: Aberwen</p><p>Employment type</p><p>Part-time</p>\
         <p>Salary: £30,000 - £34,000 per year</p><p>Closing date: 12 January 2027</p>{PROSE}"
    );
    let posting = read("", &body, r#"{"title": "Instrument Designer"}"#);
    assert_eq!(posting.locations, ["Aberwen"]);
    assert_eq!(posting.employment_type, Some(EmploymentType::PartTime));
    assert_eq!(posting.salary.unwrap().max, Some(34_000.0));
    assert_eq!(posting.valid_through.as_deref(), Some("2027-01-12"));
    assert_eq!(posting.date_posted, None, "a closing date is no date of posting");
}

#[test]
fn the_heading_settles_the_title() {
    let body = format!("<h1>Instrument Designer</h1>{PROSE}");
    let head = "<title>Instrument Designer, Tidewater Ltd, Aberwen - Jobs</title>";
    for said in ["Instrument Designer, Tidewater Ltd, Aberwen", "Jobs", "Chief Submarine Officer"] {
        let posting = read(head, &body, &format!(r#"{{"title": "{said}"}}"#));
        assert_eq!(posting.title.as_deref(), Some("Instrument Designer"), "{said}");
    }
    let other = format!("<h1>Our values</h1><h2>Instrument Designer</h2>{PROSE}");
    let posting = read("", &other, r#"{"title": "Instrument Designer"}"#);
    assert_eq!(
        posting.title.as_deref(),
        Some("Instrument Designer"),
        "a heading that names no job settles nothing"
    );
}

#[test]
fn the_employer_stands_beside_the_title_and_a_board_is_none() {
    let body = format!(
        "<p><a href=/c/1>Tidewater</a></p><h1>Instrument Designer</h1><p><a href=/c/1>Tidewater</a></p>\
         <p>A job on LinkedIn</p>{PROSE}"
    );
    for said in ["LinkedIn", "careers.example", "the sea"] {
        let answer = format!(r#"{{"title": "Instrument Designer", "company": "{said}"}}"#);
        assert_eq!(read("", &body, &answer).company.as_deref(), Some("Tidewater"), "{said}");
    }
    let mixed = r#"{"title": "Instrument Designer", "company": "Tidewater", "locations": ["Tidewater"]}"#;
    assert_eq!(read("", &body, mixed).locations.len(), 0, "an employer is no place");
    let legal = format!("<h1>Instrument Designer</h1><p>Ref 7 | Tidewater Instruments GmbH</p>{PROSE}");
    let posting = read("", &legal, r#"{"title": "Instrument Designer"}"#);
    assert_eq!(posting.company.as_deref(), Some("Tidewater Instruments GmbH"));
}

#[test]
fn what_the_page_does_not_say_stays_empty() {
    let body = format!(
        "<h1>Instrument Designer</h1>{PROSE}<p>Our international team raised $40 million last year.</p>\
         <p>Every employee has a training budget of $500 per annum.</p>"
    );
    let posting = read("", &body, r#"{"title": "Instrument Designer", "salary": "$500 per annum"}"#);
    assert_eq!(posting.salary, None, "an allowance is no pay");
    let budget = format!(
        "<h1>Instrument Designer</h1>{PROSE}<p>A competitive salary, and a learning budget of £2,500 per year.</p>"
    );
    for said in ["£2,500 per year", "a learning budget of £2,500 per year"] {
        let answer = format!(r#"{{"title": "Instrument Designer", "salary": "{said}"}}"#);
        assert_eq!(read("", &budget, &answer).salary, None, "{said}");
    }
    assert_eq!(posting.employment_type, None, "an international team is no internship");
    assert_eq!((posting.company, posting.locations.len()), (None, 0));
    assert_eq!((posting.date_posted, posting.valid_through), (None, None));
}

#[test]
fn a_bound_beside_the_copied_amount_counts() {
    let body = format!("<h1>Instrument Designer</h1><p>The salary is up to DKK 440.935 a year.</p>{PROSE}");
    let posting = read("", &body, r#"{"title": "Instrument Designer", "salary": "DKK 440.935"}"#);
    let salary = posting.salary.unwrap();
    assert_eq!((salary.min, salary.max), (None, Some(440_935.0)));
    assert!(salary.period.is_some(), "{salary:?}");
}

fn read_at(url: &str, head: &str, body: &str, company: &str) -> Option<String> {
    let html = format!("<html lang=en><head>{head}</head><body><main>{body}</main></body></html>");
    let reading = Reading::of(&FetchedPage {
        url: Url::parse(url).unwrap(),
        bytes: html.into_bytes(),
        content_type: Some("text/html; charset=utf-8".to_owned()),
        fetched_at: Utc::now(),
        from_cache: false,
        redirects: 0,
    })
    .as_kind(PageKind::Posting, "test".to_owned());
    let answer = format!(r#"{{"title": "Instrument Designer", "company": "{company}"}}"#);
    reading.check(&answer).unwrap().resolved.posting.company
}

#[test]
fn a_boards_name_is_an_employer_where_the_page_is_not_on_that_board() {
    let named = r#"<meta property="og:site_name" content="monday.com">"#;
    for (url, head, company, is_kept) in [
        ("https://boards.greenhouse.io/indeed/jobs/1", "", "Indeed", true),
        ("https://jobs.lever.co/reed/1", "", "Reed", true),
        ("https://careers.example.org/jobs/1", "", "LinkedIn", true),
        ("https://www.linkedin.com/jobs/view/1", "", "LinkedIn", false),
        ("https://de.indeed.com/viewjob?jk=1", "", "Indeed", false),
        ("https://jobs.lever.co/monday/1", "", "monday.com", true),
        ("https://monday.com/careers/1", named, "monday.com", true),
        ("https://careers.example.org/jobs/1", "", "example.org", false),
        ("file:///saved/page.html", "", "LinkedIn", false),
    ] {
        let body = format!("<h1>Instrument Designer</h1><p>You work for {company}.</p>{PROSE}");
        let kept = read_at(url, head, &body, company);
        assert_eq!(kept.as_deref(), is_kept.then_some(company), "{url} {company}");
    }
}

#[test]
fn what_one_does_with_a_job_is_no_employer() {
    let body = |before: &str, after: &str| format!("{before}<h1>Instrument Designer</h1>{after}{PROSE}");
    let link = |text: &str, to: &str| format!("<p><a href='{to}'>{text}</a></p>");
    for (text, to) in [
        ("Apply now", "https://forms.example.net/77"),
        ("Send us your papers", "/jobs/77/send"),
        ("Send us your papers", "#form"),
        ("Send us your papers", "mailto:hr@example.org"),
        ("All jobs", "/"),
    ] {
        let page = body(&link(text, to), &link(text, to));
        assert_eq!(read("", &page, r#"{"title": "Instrument Designer"}"#).company, None, "{text} {to}");
    }
    let behind = body("", &link("Our story", "/story").repeat(2));
    assert_eq!(
        read("", &behind, r#"{"title": "Instrument Designer"}"#).company,
        None,
        "only behind the title"
    );
    let both = body(&link("Tidewater", "/c/1"), &link("Tidewater", "/c/1"));
    assert_eq!(read("", &both, r#"{"title": "Instrument Designer"}"#).company.as_deref(), Some("Tidewater"));
}

#[test]
fn a_heading_that_names_no_job_replaces_no_title() {
    for (head, heading, title) in [
        ("<title>Join us</title>", "Join us", "Beekeeper"),
        ("<title>Join us as Beekeeper</title>", "Join us", "Beekeeper"),
        ("<title>Life at Tidewater - Beekeeper</title>", "Life at Tidewater", "Beekeeper"),
        ("<title>Life at Tidewater</title>", "Life at Tidewater", "Beekeeper"),
    ] {
        let body = format!("<h1>{heading}</h1><h2>{title}</h2>{PROSE}");
        let posting = read(head, &body, &format!(r#"{{"title": "{title}"}}"#));
        assert_eq!(posting.title.as_deref(), Some(title), "{head} {heading}");
    }
}
