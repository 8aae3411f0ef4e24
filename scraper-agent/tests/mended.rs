//! Defects that were mended and have no better place: decoys in a page's data, state objects that are no jobs, links that
//! lead to no application, evidence of a listing's records, sections that fit the model's context.

use std::sync::{Arc, Mutex};

use chrono::Utc;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quarry_agent::agent::Agent;
use quarry_agent::chat::{Chat, ChatError, ChatErrorKind};
use quarry_agent::config::AgentConfig;
use quarry_agent::extract::{LocalModel, Models};
use quarry_agent::fetch::FetchedPage;
use quarry_agent::gate;
use quarry_agent::posting::{PageKind, Route};
use quarry_agent::reading::Reading;
use quarry_agent::tokens::{TokenCount, TokenCounter};
use quarry_openapi::{ChatRequest, ChatResponse};
use serde_json::json;
use url::Url;

fn page(html: &str) -> FetchedPage {
    FetchedPage {
        url: Url::parse("https://tidewater.example/jobs/4711").unwrap(),
        bytes: html.as_bytes().to_vec(),
        content_type: Some("text/html; charset=utf-8".to_owned()),
        fetched_at: Utc::now(),
        from_cache: false,
        redirects: 0,
    }
}

const TASKS: &str = "<h2>What you will do</h2><ul><li>Build boats of wood</li><li>Mend what breaks</li></ul>\
    <h2>What you bring</h2><ul><li>You have built a boat before</li><li>You like cold water</li></ul>\
    <p><a href='/jobs/4711/apply'>Apply now</a></p>";

#[test]
fn a_declared_decoy_says_nothing() {
    let decoy = json!({
        "@context": "https://schema.org", "@type": "JobPosting", "title": "Talent Community Member",
        "description": "Tell us about yourself. ".repeat(30), "hiringOrganization": {"name": "Decoy Holdings"},
        "jobLocation": {"address": {"addressLocality": "Nowhere"}}, "datePosted": "2020-01-01",
    });
    let html = format!(
        "<title>Boat Builder - Tidewater</title><script type='application/ld+json'>{decoy}</script>\
         <h1>Boat Builder</h1><p>Location: Aberwen</p>{TASKS}{}",
        "<p>We build small boats for people who like to row, and we build them to last for long.</p>"
            .repeat(12)
    );
    let reading = Reading::of(&page(&html));
    assert_eq!(reading.kind(), PageKind::Posting, "{}", reading.gate_reason());
    let (postings, _) = reading.declared();
    let posting = &postings[0];
    assert_eq!(posting.title.as_deref(), Some("Boat Builder"));
    assert_eq!((posting.company.as_deref(), posting.date_posted.as_deref()), (None, None), "{posting:?}");
    assert_eq!(posting.locations, ["Aberwen"]);
}

#[test]
fn a_state_object_is_a_job_only_by_a_jobs_own_keys() {
    let listed = |state: serde_json::Value| {
        let html = format!(
            "<title>Shop</title><h1>Boats</h1><p>{}</p><script type='application/json'>{state}</script>",
            "Boats of wood for rivers and lakes. ".repeat(30)
        );
        Reading::of(&page(&html)).declared().0.len()
    };
    let filler = "x".repeat(300);
    let things = json!({"filler": filler, "items": [
        {"title": "Dinghy", "location": "Aberwen", "url": "https://tidewater.example/boats/1"},
        {"title": "Skiff", "location": "Aberwen", "url": "https://tidewater.example/boats/2"},
        {"title": "Open day", "city": "Aberwen", "link": "https://tidewater.example/events/3"},
        {"title": "Punt", "location": "Kiel", "url": "https://tidewater.example/boats/4"},
    ]});
    assert_eq!(listed(things), 0);
    let jobs = json!({"filler": filler, "jobs": [
        {"title": "Boat Builder", "location": "Aberwen", "url": "https://tidewater.example/jobs/1"},
        {"title": "Diver", "location": "Aberwen", "url": "https://tidewater.example/jobs/2"},
        {"title": "Cook", "location": "Kiel", "url": "https://tidewater.example/jobs/3"},
        {"title": "Skipper", "location": "Kiel", "url": "https://tidewater.example/jobs/4"},
    ]});
    assert_eq!(listed(jobs), 4);
}

#[test]
fn a_link_number_is_where_to_apply_only_if_the_link_says_so() {
    let html = format!(
        "<title>Boat Builder</title><h1>Boat Builder</h1><p><a href='/history'>How we began</a></p>{TASKS}"
    );
    let reading = Reading::of(&page(&html)).as_kind(PageKind::Posting, "test".to_owned());
    let applied = |number: u32| {
        let answer = format!(r#"{{"title": "Boat Builder", "apply_link": {number}}}"#);
        let checked = reading.check(&answer).unwrap();
        (checked.resolved.posting.apply_url, checked.notes.join("; "))
    };
    let numbers: Vec<u32> = (1..4).filter(|n| reading.markdown().contains(&format!("[{n}]"))).collect();
    assert_eq!(numbers, [1, 2], "{}", reading.markdown());
    let (url, notes) = applied(1);
    assert_ne!(url.as_deref(), Some("https://tidewater.example/history"));
    assert!(notes.contains("does not lead to an application"), "{notes}");
    assert_eq!(applied(2).0.as_deref(), Some("https://tidewater.example/jobs/4711/apply"));
    assert!(applied(77).1.contains("no link of the page"));
}

#[test]
fn evidence_of_a_record_is_its_own_place() {
    let row = |number: u32, title: &str, place: &str| {
        format!("<li><h3><a href='/jobs/{number}'>{title}</a></h3><span class=place>{place}</span></li>")
    };
    let rows = [
        row(1001, "Cook", "Kiel, Germany"),
        row(1002, "Diver", "Kiel, Germany"),
        row(1003, "Cook", "Bonn, Germany"),
        row(1004, "Skipper", "Bonn, Germany"),
    ];
    let html = format!(
        "<title>Jobs at Tidewater</title><h1>Jobs</h1><p>Our last Cook, Diver and Skipper liked Kiel, Germany.</p><ul>{}</ul>",
        rows.concat()
    );
    let mut listing = page(&html);
    listing.url = Url::parse("https://tidewater.example/jobs").unwrap();
    let reading = Reading::of(&listing);
    let (postings, _) = reading.declared();
    assert_eq!(postings.len(), 4, "{}", reading.gate_reason());
    let starts: Vec<usize> = postings.iter().map(|p| p.evidence["title"][0].start.unwrap()).collect();
    assert!(
        starts.is_sorted() && starts[0] > reading.markdown().find("Our last").unwrap() + 40,
        "{starts:?}"
    );
    for posting in &postings {
        for (field, value) in [("title", posting.title.as_ref()), ("locations", posting.locations.first())] {
            let evidence = &posting.evidence[field][0];
            let text = &reading.markdown()[evidence.start.unwrap()..evidence.end.unwrap()];
            assert_eq!(Some(text), value.map(String::as_str), "{field}");
        }
    }
}

/// A model whose context holds `bytes_max` of a prompt, and which knows the employer only from the text that names it.
struct Narrow {
    bytes_max: usize,
    prompts: Mutex<Vec<usize>>,
}

impl Chat for Narrow {
    fn chat<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ChatError>> {
        let text = serde_json::to_string(&request.messages).unwrap();
        self.prompts.lock().unwrap().push(text.len());
        let answer = json!({
            "title": "Boat Builder",
            "company": text.contains("Tidewater Boatyard").then_some("Tidewater Boatyard"),
            "locations": text.contains("in Aberwen").then_some("Aberwen").into_iter().collect::<Vec<_>>(),
        });
        let response = json!({
            "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": answer.to_string()}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        });
        let is_too_long = text.len() > self.bytes_max;
        async move {
            if is_too_long {
                let mut error = ChatError::of_request("the prompt does not fit");
                error.kind = ChatErrorKind::TooLong;
                return Err(error);
            }
            Ok(serde_json::from_value(response).unwrap())
        }
        .boxed()
    }
}

/// Says that every prompt is short, as an endpoint with another tokenizer may.
struct Short;

impl TokenCounter for Short {
    fn count<'a>(&'a self, _: &'a ChatRequest) -> BoxFuture<'a, TokenCount> {
        std::future::ready(TokenCount { tokens: 4_000, is_exact: false, prompt_tokens_max: None }).boxed()
    }
}

#[tokio::test]
async fn a_page_that_turns_out_too_long_is_cut_until_its_sections_fit() {
    let filler =
        "<p>We build boats and row them when they are done, and then we build more of them.</p>".repeat(160);
    let html = format!(
        "<title>Boat Builder</title><h1>Boat Builder</h1>{TASKS}{filler}\
         <p>You work for the Tidewater Boatyard in Aberwen, which stands there since 1950.</p>"
    );
    let folder = tempfile::tempdir().unwrap();
    let mut config = AgentConfig::default();
    config.storage.data_dir = folder.path().to_owned();
    config.hybrid.chunks_max = 40;
    let narrow = Arc::new(Narrow { bytes_max: 4_000, prompts: Mutex::default() });
    let local = LocalModel {
        name: "narrow".into(),
        chat: narrow.clone(),
        counter: Arc::new(Short),
        can_judge: Arc::default(),
    };
    let agent = Arc::new(Agent::new(config, Models { local: Some(local), cloud: None }).await.unwrap());
    let report = agent.process("boat.html", "test", page(&html), false).await;
    assert_eq!(report.page.route, Route::Local, "{report:#?}");
    let posting = &report.page.postings[0];
    assert_eq!(posting.company.as_deref(), Some("Tidewater Boatyard"), "{:#?}", report.attempts);
    assert_eq!(posting.locations, ["Aberwen"]);
    assert!(report.page.reason.contains("section by section"), "{}", report.page.reason);
    let prompts = narrow.prompts.lock().unwrap();
    assert!(prompts.iter().any(|bytes| *bytes > 4_000), "the whole page was tried: {prompts:?}");
    assert!(prompts.last().is_some_and(|bytes| *bytes <= 4_000), "{prompts:?}");
}

/// Sorts the invented pages rightly, if it is a judge, and calls every other page a hub.
struct Sorter {
    is_judge: bool,
}

impl Chat for Sorter {
    fn chat<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ChatError>> {
        let text =
            serde_json::to_value(&request.messages).unwrap()[1]["content"].as_str().unwrap().to_owned();
        let known = gate::SAMPLES.iter().find(|(_, digest)| text.starts_with(digest)).map(|(kind, _)| *kind);
        let kind = known.filter(|_| self.is_judge).unwrap_or(PageKind::Hub);
        let is_question = text.ends_with(gate::QUESTION);
        let answer = if is_question { json!({"kind": kind}) } else { json!({"title": "Boat Builder"}) };
        let response = json!({
            "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": answer.to_string()}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        });
        async move { Ok(serde_json::from_value(response).unwrap()) }.boxed()
    }
}

#[tokio::test]
async fn a_model_says_what_a_close_page_is_only_if_it_can_tell_pages_apart() {
    let html = "<h1>Boat Builder</h1><h2>What you will do</h2><ul><li>Build boats of wood</li><li>Mend them</li></ul>\
        <p><a href='/apply'>Apply now</a></p><p>We build small boats for people who like to row on rivers and lakes, and \
        we have done so since 1950, first by hand and then with machines, and now by hand again.</p>";
    let mut close = page(html);
    close.url = Url::parse("https://tidewater.example/wood").unwrap();
    assert!(Reading::of(&close).is_close() && Reading::of(&close).kind() == PageKind::Posting);
    for (is_judge, expected) in [(true, PageKind::Hub), (false, PageKind::Posting)] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = AgentConfig::default();
        config.storage.data_dir = folder.path().to_owned();
        let local = LocalModel {
            name: "sorter".into(),
            chat: Arc::new(Sorter { is_judge }),
            counter: Arc::new(Short),
            can_judge: Arc::default(),
        };
        let agent = Arc::new(Agent::new(config, Models { local: Some(local), cloud: None }).await.unwrap());
        let report = agent.process("wood.html", "test", close.clone(), false).await;
        assert_eq!(report.page.kind, expected, "{report:#?}");
        assert_eq!(report.page.postings.is_empty(), is_judge);
        assert_eq!(report.attempts[0].reason.contains("what the page is"), is_judge);
    }
}
