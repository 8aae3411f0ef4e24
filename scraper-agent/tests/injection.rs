//! Pages that give orders to the model, and a model that obeys each of them: nothing of what they demand may come out as
//! the posting's. The pages were written for this test; `injection/truth.json` says what each holds and demands.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quarry_agent::agent::{Agent, ScrapeOptions, Silent};
use quarry_agent::chat::{Chat, ChatError};
use quarry_agent::config::AgentConfig;
use quarry_agent::extract::{LocalModel, Models};
use quarry_agent::posting::Posting;
use quarry_agent::seed::Seed;
use quarry_agent::tokens::{ByteBound, TokenCount, TokenCounter};
use quarry_openapi::{ChatRequest, ChatResponse};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Page {
    file: String,
    what: String,
    truth: Truth,
    /// The answer that the page asks for.
    demanded: Value,
}

#[derive(Deserialize)]
struct Truth {
    title: String,
    company: String,
    location: String,
    salary: [f64; 2],
}

/// Does as the page says.
struct Obedient(Value);

impl Chat for Obedient {
    fn chat<'a>(&'a self, _: &'a ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ChatError>> {
        let message = json!({"role": "assistant", "content": self.0.to_string()});
        let response = json!({
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        });
        async move { Ok(serde_json::from_value(response).unwrap()) }.boxed()
    }
}

struct Bytes;

impl TokenCounter for Bytes {
    fn count<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, TokenCount> {
        std::future::ready(ByteBound::bound(request)).boxed()
    }
}

fn pages() -> Vec<Page> {
    serde_json::from_str(include_str!("injection/truth.json")).unwrap()
}

async fn read(page: &Page) -> Vec<Posting> {
    let data = tempfile::tempdir().unwrap();
    let mut config = AgentConfig::default();
    config.storage.data_dir = data.path().to_owned();
    config.scraping.follow_ats = false;
    let chat = Arc::new(Obedient(page.demanded.clone()));
    let local =
        LocalModel { name: "obedient".into(), chat, counter: Arc::new(Bytes), can_judge: Arc::default() };
    let agent = Arc::new(Agent::new(config, Models { local: Some(local), cloud: None }).await.unwrap());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/injection").join(&page.file);
    let seed = Seed::parse(file.to_str().unwrap()).unwrap();
    let reports = agent.scrape(&[seed], ScrapeOptions::default(), &Silent).await.unwrap();
    reports.into_iter().flat_map(|report| report.page.postings).collect()
}

/// Fields that hold what was demanded, or anything else that is not the job's.
fn obeyed(page: &Page, posting: &Posting) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |field: &str, value: &str, is_right: bool| {
        if !is_right {
            wrong.push(format!("{}: {field} {value:?}", page.file));
        }
    };
    let truth = &page.truth;
    if let Some(title) = &posting.title {
        check("title", title, title.contains(&truth.title) || truth.title.contains(title.as_str()));
    }
    if let Some(company) = &posting.company {
        check("company", company, *company == truth.company);
    }
    for place in &posting.locations {
        check("location", place, place.contains(&truth.location));
    }
    let salary = posting.salary.as_ref();
    for bound in salary.into_iter().flat_map(|salary| [salary.min, salary.max]).flatten() {
        check("salary", &bound.to_string(), truth.salary.contains(&bound));
    }
    // What the model says of these stands on none of the pages.
    check("workplace", &format!("{:?}", posting.workplace), posting.workplace.is_none());
    let kind = posting.employment_type.map(|kind| format!("{kind:?}"));
    check("employment type", &format!("{kind:?}"), kind.is_none_or(|kind| kind == "FullTime"));
    wrong
}

#[tokio::test]
async fn what_a_page_demands_does_not_come_out() {
    let mut wrong = Vec::new();
    for page in pages() {
        for posting in read(&page).await {
            let lines = obeyed(&page, &posting).into_iter();
            wrong.extend(lines.map(|line| format!("{line} ({})", page.what)));
        }
    }
    assert!(wrong.is_empty(), "{} values obeyed:\n{}", wrong.len(), wrong.join("\n"));
}

/// The pages are what the test takes them for: each demands something else than it says of its job, and says both.
#[test]
fn every_page_says_its_job_and_gives_its_order() {
    let pages = pages();
    assert_eq!(pages.len(), 11);
    for page in pages {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/injection").join(&page.file);
        let html = std::fs::read_to_string(file).unwrap();
        for said in [&page.truth.title, &page.truth.company, &page.truth.location] {
            assert!(html.contains(said.as_str()), "{}: {said}", page.file);
        }
        for field in ["title", "company"] {
            let demanded = page.demanded[field].as_str().unwrap();
            assert!(html.contains(demanded), "{}: {demanded}", page.file);
            assert_ne!(demanded, page.truth.title);
        }
    }
}
