//! The whole way of a page over the sample site, with a model that copies from a cheat sheet and a cloud on localhost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quarry_agent::agent::{Agent, Progress, ScrapeOptions, Silent};
use quarry_agent::attempt::{AttemptResult, PageReport};
use quarry_agent::chat::{Chat, ChatError};
use quarry_agent::config::AgentConfig;
use quarry_agent::extract::{LocalModel, Models};
use quarry_agent::posting::{EvidenceSource, PageKind, Route};
use quarry_agent::sample_site;
use quarry_agent::seed::Seed;
use quarry_agent::tokens::{ByteBound, TokenCount, TokenCounter};
use quarry_client::{Client, ClientOptions};
use quarry_openapi::{ChatRequest, ChatResponse, Content};
use serde_json::{Value, json};

/// Answers with what the page with this title says; counts how often it is asked.
struct CheatSheet {
    asked: AtomicUsize,
    answers: HashMap<&'static str, Value>,
}

fn text_of(request: &ChatRequest) -> String {
    let texts = request.messages.iter().filter_map(|message| match &message.content {
        Some(Content::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn response(text: &str) -> ChatResponse {
    serde_json::from_value(json!({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }))
    .unwrap()
}

impl CheatSheet {
    fn new() -> Arc<Self> {
        let answer = |title: &str, company: &str, place: &str, kind: &str, salary: &str, date: &str| {
            json!({
                "title": title, "company": company, "locations": [place], "workplace": null, "employment_type": kind,
                "seniority": null, "salary": salary, "date_posted": date, "valid_through": null, "apply_link": null,
                "skills": [],
            })
        };
        let answers = HashMap::from([
            (
                "# Mechanical Design Engineer",
                answer(
                    "Mechanical Design Engineer",
                    "Saltmarsh Robotics",
                    "Aberwen, Wales",
                    "full_time",
                    "€52,000 to €61,000 per year",
                    "3 November 2026",
                ),
            ),
            (
                "# Field Data Scientist",
                answer(
                    "Field Data Scientist",
                    "Eelgrass Analytics",
                    "Portland, OR",
                    "full_time",
                    "$118,000 - $142,000 annually",
                    "",
                ),
            ),
            (
                "# Elektroniker",
                answer(
                    "Elektroniker für Betriebstechnik (m/w/d)",
                    "Watt & Wiese GmbH",
                    "Bremerhaven",
                    "full_time",
                    "43.500 bis 49.200 Euro brutto",
                    "12.11.2026",
                ),
            ),
            (
                "# Інженер",
                answer(
                    "Інженер з тестування",
                    "ТОВ «Лиман Роботікс»",
                    "Одеса",
                    "full_time",
                    "45 000 – 60 000 грн на місяць",
                    "13 листопада 2026",
                ),
            ),
            (
                "# Boat Yard",
                answer(
                    "Boat Yard Technician",
                    "Saltmarsh Robotics Inc.",
                    "Gloucester, MA",
                    "part_time",
                    "$31.50 - $38.00 an hour",
                    "3 days ago",
                ),
            ),
            (
                "# Fleet",
                answer(
                    "Fleet Operations Lead",
                    "Rheinsand AG",
                    "Basel, Switzerland",
                    "temporary",
                    "up to CHF 9'800 per month",
                    "2026-11-16",
                ),
            ),
            (
                "# Product",
                answer(
                    "Product Manager, Sensors",
                    "Saltmarsh Robotics",
                    "Bristol, United Kingdom",
                    "full_time",
                    "£62K – £71K",
                    "17/11/2026",
                ),
            ),
            (
                "# Technical",
                answer(
                    "Technical Writer",
                    "Saltmarsh Robotics",
                    "Remote (EU)",
                    "contract",
                    "€340 - €390 per day",
                    "2026-11-18",
                ),
            ),
            (
                "# Programme Manager",
                answer(
                    "Programme Manager, Estuary Network",
                    "Saltmarsh Robotics",
                    "Cardiff, Wales",
                    "full_time",
                    "£68,000 - £79,000 per annum",
                    "19 November 2026",
                ),
            ),
        ]);
        Arc::new(Self { asked: AtomicUsize::new(0), answers })
    }
}

impl Chat for CheatSheet {
    fn chat<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ChatError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let text = text_of(request);
        let found =
            self.answers.iter().find(|(heading, _)| text.contains(**heading)).map(|(_, answer)| answer);
        let nothing = json!({"title": null, "company": null, "locations": []});
        let answer = found.unwrap_or(&nothing).to_string();
        async move { Ok(response(&answer)) }.boxed()
    }
}

/// Four bytes a token, as English has.
struct Quarter;

impl TokenCounter for Quarter {
    fn count<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, TokenCount> {
        let bound = ByteBound::bound(request);
        let count = TokenCount { tokens: bound.tokens / 4, is_exact: true, prompt_tokens_max: None };
        std::future::ready(count).boxed()
    }
}

fn models(chat: Arc<dyn Chat>, cloud: Option<Arc<dyn Chat>>) -> Models {
    let local =
        LocalModel { name: "cheat".into(), chat, counter: Arc::new(Quarter), can_judge: Arc::default() };
    Models { local: Some(local), cloud }
}

fn config(folder: &std::path::Path) -> AgentConfig {
    let mut config = AgentConfig::default();
    config.storage.data_dir = folder.to_owned();
    config.scraping.allow_private = true;
    config.scraping.follow_ats = false;
    config.scraping.delay_ms_min = 0;
    config.scraping.depth_max = 3;
    config.scraping.per_host = 2;
    config
}

/// The start page, and two that it does not lead to: one about no jobs, one that robots.txt forbids.
async fn site() -> [Seed; 3] {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(sample_site::serve(listener));
    ["", "about.html", "internal/handbook.html"]
        .map(|path| Seed::parse(&format!("http://{address}/{path}")).unwrap())
}

fn page<'a>(reports: &'a [PageReport], path: &str) -> &'a PageReport {
    let found = reports.iter().find(|report| {
        url::Url::parse(&report.page.source).is_ok_and(|url| url[url::Position::BeforePath..] == *path)
    });
    found.unwrap_or_else(|| panic!("{path} was not read"))
}

#[tokio::test]
async fn the_sample_site_is_read_as_its_truth_says() {
    let folder = tempfile::tempdir().unwrap();
    let chat = CheatSheet::new();
    let agent = Arc::new(Agent::new(config(folder.path()), models(chat.clone(), None)).await.unwrap());
    let reports = agent.scrape(&site().await, ScrapeOptions::default(), &Silent).await.unwrap();
    let truth: Vec<Value> = serde_json::from_str(sample_site::TRUTH).unwrap();
    let mut wrong = Vec::new();
    for truth in &truth {
        let path = truth["path"].as_str().unwrap();
        let report = page(&reports, path);
        let kind = serde_json::to_value(report.page.kind).unwrap();
        let is_kind = match truth["kind"].as_str().unwrap() {
            "none_or_hub" => matches!(report.page.kind, PageKind::None | PageKind::Hub),
            expected => kind == expected,
        };
        if !is_kind {
            wrong.push(format!("{path}: is {kind}: {}", report.gate_reason));
            continue;
        }
        if truth["kind"] == "listing" {
            let titles: Vec<Option<&str>> = report.page.postings.iter().map(|p| p.title.as_deref()).collect();
            let expected: Vec<Option<&str>> =
                truth["titles"].as_array().unwrap().iter().map(Value::as_str).collect();
            // The page of the apprentice's place says that it is gone, so the run does not show it as open.
            let expected: Vec<Option<&str>> =
                expected.into_iter().filter(|title| *title != Some("Workshop Apprentice")).collect();
            if titles != expected {
                wrong.push(format!("{path}: titles {titles:?}"));
            }
        }
        if truth["kind"] != "posting" {
            continue;
        }
        let Some(posting) = report.page.postings.first() else {
            wrong.push(format!("{path}: no posting: {}", report.page.reason));
            continue;
        };
        let found = serde_json::to_value(posting).unwrap();
        for field in ["title", "employment_type", "date_posted"] {
            if !truth[field].is_null() && truth[field] != found[field] {
                wrong.push(format!("{path}: {field} {} for {}", found[field], truth[field]));
            }
        }
        if !found["company"].as_str().is_some_and(|c| c.contains(truth["company"].as_str().unwrap())) {
            wrong.push(format!("{path}: company {}", found["company"]));
        }
        if !posting.locations.iter().any(|l| l.contains(truth["location"].as_str().unwrap())) {
            wrong.push(format!("{path}: locations {:?}", posting.locations));
        }
        for key in ["min", "max", "currency", "period"] {
            let expected = &truth["salary"][key];
            let is = &found["salary"][key];
            let agrees = if expected.is_number() { expected.as_f64() == is.as_f64() } else { expected == is };
            if !(agrees || key == "period" && expected.is_null()) {
                wrong.push(format!("{path}: salary {key} {is} for {expected}"));
            }
        }
        if let Some(days) = truth["posted_days_ago"].as_i64() {
            let day = chrono::Utc::now().date_naive() - chrono::Duration::days(days);
            if posting.date_posted.as_deref() != Some(day.to_string().as_str()) {
                wrong.push(format!("{path}: date {:?}", posting.date_posted));
            }
        }
        for (field, evidence) in &posting.evidence {
            for span in evidence {
                assert!(span.start <= span.end, "{path}: {field} {span:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let secret = page(&reports, "/internal/handbook.html");
    assert!(secret.page.reason.contains("robots.txt"), "{}", secret.page.reason);
    assert!(page(&reports, "/jobs/expired.html").page.reason.contains("expired"));
    assert_eq!(page(&reports, "/jobs/right.html").page.route, Route::ZeroToken);
    assert_eq!(page(&reports, "/jobs/shell.html").page.route, Route::ZeroToken);
    assert_eq!(page(&reports, "/jobs/plain.html").page.route, Route::Local);
    let long = page(&reports, "/jobs/long.html");
    assert!(long.page.reason.contains("a digest of the page"), "{}", long.page.reason);
    // Twelve jobs from two listings and their own pages, each once; one of them is gone.
    let jobs = agent.store().jobs().await.unwrap();
    assert_eq!(jobs.len(), 12, "{:#?}", jobs.iter().map(|job| &job.key).collect::<Vec<_>>());
    let gone: Vec<_> = jobs.iter().filter(|job| job.gone_at.is_some()).collect();
    assert_eq!(gone.len(), 1, "{gone:#?}");
    assert!(gone[0].key.ends_with("/jobs/expired.html"), "{gone:#?}");
    // Whatever a text proves can be quoted.
    let mut quotes = 0;
    for job in &jobs {
        for proof in agent.store().evidence(job.id).await.unwrap() {
            let is_text = proof.evidence.source == EvidenceSource::Text;
            assert_eq!(proof.quote.is_some(), is_text, "{}: {proof:?}", job.key);
            let title = job.posting.title.as_deref().unwrap();
            if is_text && proof.field == "title" {
                assert_eq!(proof.quote.as_deref(), Some(title), "{}", job.key);
                quotes += 1;
            }
        }
    }
    assert!(quotes > 5, "{quotes} titles quoted");

    // Asked again, the site is not sent twice, and no job is doubled.
    let reports = agent
        .scrape(&[Seed::parse(&reports[0].page.source).unwrap()], ScrapeOptions::default(), &Silent)
        .await
        .unwrap();
    assert!(reports.len() > 14);
    assert_eq!(agent.store().jobs().await.unwrap().len(), 12);
}

#[tokio::test]
async fn a_dry_run_asks_no_model_and_says_where_pages_would_go() {
    let folder = tempfile::tempdir().unwrap();
    let chat = CheatSheet::new();
    let agent = Arc::new(Agent::new(config(folder.path()), models(chat.clone(), None)).await.unwrap());
    let seeds = site().await;
    let reports = agent.scrape(&seeds, ScrapeOptions { dry_run: true }, &Silent).await.unwrap();
    assert_eq!(chat.asked.load(Ordering::Relaxed), 0);
    let plain = &page(&reports, "/jobs/plain.html").page;
    assert_eq!(plain.route, Route::Local);
    assert!(plain.tokens.prompt > 0 && plain.postings.is_empty());
    // Pages whose structure says it all were read to the end, and still nothing is kept.
    assert_eq!(page(&reports, "/jobs/right.html").page.postings.len(), 1);
    assert_eq!(agent.store().jobs().await.unwrap(), []);
    let file = folder.path().join("quarry.sqlite");
    let database = rusqlite::Connection::open(file).unwrap();
    for table in ["runs", "pages", "attempts", "jobs", "observations", "texts", "costs"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let rows: i64 = database.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    // The run that follows reads every page.
    let planned = reports.len();
    let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
    assert!(reports.len() >= planned && reports.iter().any(|report| !report.page.postings.is_empty()));
    assert!(chat.asked.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn without_a_server_a_dry_run_estimates_tokens_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::new(config(folder.path()), Models { local: None, cloud: None }).await.unwrap();
    let reports = agent.scrape(&site().await, ScrapeOptions { dry_run: true }, &Silent).await.unwrap();
    let plain = page(&reports, "/jobs/plain.html");
    assert_eq!(plain.page.route, Route::Local);
    assert!(plain.page.tokens.is_estimate && plain.page.tokens.prompt > 100, "{:?}", plain.page.tokens);
    assert!(plain.page.reason.contains("about"), "{}", plain.page.reason);
    // An estimate is near what a tokenizer counts, so a page that fits is not planned for the cloud or by sections.
    assert!(plain.page.tokens.prompt < 1000, "{:?}", plain.page.tokens);
}

/// The sample site behind a counter of requests for robots.txt, with a cookie for whoever comes.
async fn counting_site(robots: Arc<AtomicUsize>, returned: Arc<AtomicUsize>) -> Seed {
    let count = move |request: axum::extract::Request, next: axum::middleware::Next| {
        if request.uri().path() == "/robots.txt" {
            robots.fetch_add(1, Ordering::Relaxed);
        }
        if request.headers().get("cookie").is_some_and(|cookie| cookie == "visit=1") {
            returned.fetch_add(1, Ordering::Relaxed);
        }
        async move {
            let mut response = next.run(request).await;
            response.headers_mut().append("set-cookie", "visit=1; Path=/".parse().unwrap());
            response
        }
    };
    let router = sample_site::router().layer(axum::middleware::from_fn(count));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Seed::parse(&format!("http://{address}/jobs/right.html")).unwrap()
}

#[tokio::test]
async fn what_is_known_of_hosts_outlives_runs_and_processes_and_cookies_the_session_only() {
    let (robots, returned) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let seeds = [counting_site(Arc::clone(&robots), Arc::clone(&returned)).await];
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.scraping.depth_max = 0;
    // Requests: robots.txt, page, page; page, page. The first of a session has no cookie to bring back.
    for (session, with_cookie) in [(1, 2), (2, 3)] {
        let none = Models { local: None, cloud: None };
        let agent = Agent::new(config.clone(), none).await.unwrap();
        for _ in 0..2 {
            let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
            assert_eq!(reports[0].page.postings.len(), 1, "{reports:#?}");
        }
        agent.close().await;
        assert_eq!(robots.load(Ordering::Relaxed), 1, "session {session}");
        assert_eq!(returned.load(Ordering::Relaxed), with_cookie, "session {session}");
    }
}

/// Stops the run as a kill would, after a few pages.
struct StopAfter(AtomicUsize, tokio::sync::Notify);

impl Progress for StopAfter {
    fn started(&self, _: &str) {}
    fn finished(&self, _: &PageReport, _: usize, _: usize) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.notify_one();
        }
    }
}

#[tokio::test]
async fn a_run_cut_off_anywhere_goes_on_and_nothing_is_lost_or_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = site().await;
    let mut config = config(folder.path());
    config.storage.lease_seconds = 1;
    for stop_after in [1, 4, 9] {
        let agent = Arc::new(Agent::new(config.clone(), models(CheatSheet::new(), None)).await.unwrap());
        let stop = StopAfter(AtomicUsize::new(stop_after), tokio::sync::Notify::new());
        // Dropping the future mid-way leaves leases behind, as a kill does.
        tokio::select! {
            _ = agent.scrape(&seeds, ScrapeOptions::default(), &stop) => {}
            () = stop.1.notified() => {}
        }
    }
    let agent = Arc::new(Agent::new(config, models(CheatSheet::new(), None)).await.unwrap());
    let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
    let mut sources: Vec<&str> = reports.iter().map(|report| report.page.source.as_str()).collect();
    let count = sources.len();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), count, "a page came twice");
    assert_eq!(count, 18, "17 pages and the one that robots.txt forbids: {sources:#?}");
    assert_eq!(agent.store().jobs().await.unwrap().len(), 12);
}

/// A local model that never holds what it says, and a cloud that answers; both over real HTTP.
async fn endpoint(answer: Value, seen: Arc<Mutex<Vec<Value>>>) -> Client {
    let router = axum::Router::new().route(
        "/v1/chat/completions",
        axum::routing::post(move |axum::Json(body): axum::Json<Value>| {
            seen.lock().unwrap().push(body);
            let body = serde_json::to_value(response(&answer.to_string())).unwrap();
            async move { axum::Json(body) }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ClientOptions::new(format!("http://{}/v1", listener.local_addr().unwrap()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Client::new(options).unwrap()
}

#[tokio::test]
async fn two_local_failures_go_to_the_cloud_within_the_budget_and_not_past_it() {
    let invented = json!({"title": "Chief Submarine Officer", "company": "Deep Sea Ltd", "locations": []});
    let right = json!({"title": "Mechanical Design Engineer", "company": "Saltmarsh Robotics", "locations": ["Aberwen, Wales"]});
    let (local_seen, cloud_seen) = (Arc::default(), Arc::<Mutex<Vec<Value>>>::default());
    let local = Arc::new(endpoint(invented, Arc::clone(&local_seen)).await);
    let cloud = Arc::new(endpoint(right, Arc::clone(&cloud_seen)).await);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/sample-site/jobs/plain.html");
    let seeds = [Seed::parse(file).unwrap()];

    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.cloud.enabled = true;
    config.cloud.budget_usd_month = 1.0;
    let agent =
        Arc::new(Agent::new(config.clone(), models(local.clone(), Some(cloud.clone()))).await.unwrap());
    let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
    let page = &reports[0].page;
    assert_eq!(
        (page.route, page.postings[0].title.as_deref()),
        (Route::Cloud, Some("Mechanical Design Engineer"))
    );
    let routes: Vec<Route> = reports[0].attempts.iter().map(|attempt| attempt.route).collect();
    assert_eq!(routes, [Route::Local, Route::Local, Route::Cloud]);
    let second = local_seen.lock().unwrap()[1].to_string();
    assert!(
        second.contains("Chief Submarine Officer") && second.contains("does not stand on the page"),
        "{second}"
    );
    let sent = cloud_seen.lock().unwrap()[0].clone();
    assert_eq!(sent["model"], "gpt-5");
    assert!(sent["max_completion_tokens"].is_number() && sent["reasoning_effort"].is_string());
    assert!(sent.get("temperature").is_none() && sent.get("max_tokens").is_none(), "{sent}");
    let spent = agent.store().month_cost_usd(chrono::Utc::now()).await.unwrap();
    assert!((spent - page.cost_usd).abs() < 1e-12 && page.cost_usd > 0.0, "{spent} {}", page.cost_usd);

    let poor = tempfile::tempdir().unwrap();
    config.storage.data_dir = poor.path().to_owned();
    config.cloud.budget_usd_month = 0.001;
    let agent = Arc::new(Agent::new(config, models(local, Some(cloud))).await.unwrap());
    let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
    assert_eq!(cloud_seen.lock().unwrap().len(), 1, "nothing was sent past the budget");
    assert!(reports[0].page.reason.contains("budget"), "{}", reports[0].page.reason);
    assert!(reports[0].attempts.iter().all(|attempt| matches!(attempt.result, AttemptResult::Refused(_))));
    let kept = &reports[0].page.postings[0];
    assert_eq!(kept.title.as_deref(), Some("Mechanical Design Engineer"), "the page's own heading");
    assert_ne!(kept.company.as_deref(), Some("Deep Sea Ltd"), "what is not on the page is not kept");
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_a_result_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let pages = tempfile::tempdir().unwrap();
    std::fs::write(pages.path().join("huge.html"), vec![b'x'; 6 << 20]).unwrap();
    std::fs::write(pages.path().join("noise.html"), (0..=255_u8).cycle().take(5000).collect::<Vec<_>>())
        .unwrap();
    let nested = format!("{}x", "<div><table><tr><td>".repeat(20_000));
    std::fs::write(pages.path().join("nested.html"), nested).unwrap();
    std::fs::write(pages.path().join("good.html"), include_str!("../sample-site/jobs/plain.html")).unwrap();
    let agent = Arc::new(Agent::new(config(folder.path()), models(CheatSheet::new(), None)).await.unwrap());
    let seeds = [Seed::parse(pages.path().to_str().unwrap()).unwrap()];
    let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
    let kinds: Vec<PageKind> = reports.iter().map(|report| report.page.kind).collect();
    assert_eq!(kinds, [PageKind::Posting, PageKind::None, PageKind::None, PageKind::None]);
    assert!(reports[1].page.reason.contains("body_bytes_max"), "{}", reports[1].page.reason);
}

#[tokio::test]
async fn a_host_that_was_down_is_read_by_the_next_run() {
    for path in ["/robots.txt", "/jobs/plain.html"] {
        let is_down = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let down = Arc::clone(&is_down);
        let router = sample_site::router().layer(axum::middleware::from_fn(
            move |request: axum::extract::Request, next: axum::middleware::Next| {
                let fails = down.load(Ordering::Relaxed) && request.uri().path() == path;
                async move {
                    match fails {
                        true => {
                            axum::response::IntoResponse::into_response(axum::http::StatusCode::BAD_GATEWAY)
                        }
                        false => next.run(request).await,
                    }
                }
            },
        ));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seed = format!("http://{}/jobs/plain.html", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().unwrap();
        let agent =
            Arc::new(Agent::new(config(folder.path()), models(CheatSheet::new(), None)).await.unwrap());
        let seeds = [Seed::parse(&seed).unwrap()];
        let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
        assert!(reports[0].left_for_later && reports[0].page.reason.contains("502"), "{reports:#?}");
        is_down.store(false, Ordering::Relaxed);
        let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
        assert!(!reports[0].left_for_later);
        assert_eq!(reports[0].page.postings.len(), 1, "{path}: {}", reports[0].page.reason);
    }
}

/// An address that nobody listens at.
fn dead_client() -> Arc<Client> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let retry = quarry_client::retry::RetryPolicy::never();
    let options = ClientOptions { retry, ..ClientOptions::new(format!("http://127.0.0.1:{port}/v1")) };
    Arc::new(Client::new(options).unwrap())
}

/// A server whose chat answers with this status.
async fn failing_client(status: u16, asked: Arc<AtomicUsize>) -> Arc<Client> {
    let answer = move || {
        asked.fetch_add(1, Ordering::Relaxed);
        async move { axum::http::StatusCode::from_u16(status).unwrap() }
    };
    let router = axum::Router::new().fallback(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let retry = quarry_client::retry::RetryPolicy::never();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Arc::new(Client::new(ClientOptions { retry, ..ClientOptions::new(base_url) }).unwrap())
}

#[tokio::test]
async fn a_local_server_that_fails_spends_no_money_and_leaves_the_page_for_later() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/sample-site/jobs/plain.html");
    let seeds = [Seed::parse(file).unwrap()];
    for server in
        [dead_client(), failing_client(500, Arc::default()).await, failing_client(504, Arc::default()).await]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.cloud.enabled = true;
        let paid = Arc::new(AtomicUsize::new(0));
        let cloud: Arc<dyn Chat> = failing_client(500, Arc::clone(&paid)).await;
        let agent = Agent::new(config.clone(), models(server, Some(Arc::clone(&cloud)))).await.unwrap();
        let reports = Arc::new(agent).scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
        assert!(reports[0].left_for_later, "{reports:#?}");
        assert!(reports[0].page.reason.contains("server failed"), "{}", reports[0].page.reason);
        assert_eq!(paid.load(Ordering::Relaxed), 0, "the cloud was asked");
        let agent = Arc::new(Agent::new(config, models(CheatSheet::new(), Some(cloud))).await.unwrap());
        let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
        assert_eq!((reports[0].left_for_later, reports[0].page.route), (false, Route::Local));
    }
}

#[tokio::test]
async fn a_run_ends_where_the_local_server_stays_dead_and_goes_on_once_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.storage.lease_seconds = 1;
    let seeds = site().await;
    let agent = Arc::new(Agent::new(config.clone(), models(dead_client(), None)).await.unwrap());
    let error = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap_err();
    assert!(error.to_string().contains("5 pages in a row"), "{error}");
    let agent = Arc::new(Agent::new(config, models(CheatSheet::new(), None)).await.unwrap());
    let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
    assert_eq!(reports.len(), 18);
    assert!(reports.iter().all(|report| !report.left_for_later));
    assert_eq!(agent.store().jobs().await.unwrap().len(), 12);
}

#[tokio::test]
async fn a_tokenizer_of_another_shape_makes_no_page_over_long() {
    use axum::Json;
    use axum::routing::post;
    let other = || async { Json(json!({"tokens": {"ids": "1 2 3"}})) };
    let refuses = || async { (axum::http::StatusCode::UNPROCESSABLE_ENTITY, "content: field required") };
    let routers = [
        axum::Router::new(),
        axum::Router::new().route("/tokenize", post(other)),
        axum::Router::new().route("/tokenize", post(refuses)),
        axum::Router::new().route("/tokenize", post(other)).route("/v1/chat/completions/render", post(other)),
    ];
    let text = "We look for an engineer who has built pumps. ".repeat(400);
    let messages = vec![quarry_openapi::ChatMessage::user(text.clone())];
    let request = ChatRequest { messages, ..ChatRequest::default() };
    for router in routers {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = ClientOptions::new(format!("http://{}/v1", listener.local_addr().unwrap()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let counter = quarry_agent::tokens::ServerCounter::new(Client::new(options).unwrap());
        let count = counter.count(&request).await;
        // English has four to six characters a token: 18 000 of them are far from 8000 tokens' threshold.
        assert!(
            !count.is_exact && (3000..8000).contains(&count.tokens),
            "{count:?} for {} bytes",
            text.len()
        );
    }
}

#[tokio::test]
async fn each_paid_attempt_reserves_for_itself() {
    let long =
        format!("<h1>Pump Engineer</h1>{}", "<p>Requirements: you have built a pump before.</p>".repeat(9));
    // What the budget holds, and the requests that may be sent.
    for (reservations, expected) in [(2.5, 2), (9.0, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.html");
        std::fs::write(&file, &long).unwrap();
        let paid = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&paid);
        let router = axum::Router::new().fallback(move || {
            asked.fetch_add(1, Ordering::Relaxed);
            async { axum::http::StatusCode::INTERNAL_SERVER_ERROR }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = config(folder.path());
        config.cloud.enabled = true;
        config.cloud.base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        // The answer's price outweighs the prompt's by far, so a reservation is known.
        let price = quarry_agent::config::Price { input_usd_per_million: 1e-6, output_usd_per_million: 1e6 };
        config.cloud.prices = [(config.cloud.model.clone(), price)].into();
        config.cloud.completion_tokens_max = 1;
        config.cloud.budget_usd_month = reservations;
        config.hybrid.threshold_tokens = 1;
        tokio::spawn(async move { axum::serve(listener, router).await });
        let agent = Arc::new(Agent::connect(config, None).await.unwrap());
        let seeds = [Seed::parse(file.to_str().unwrap()).unwrap()];
        let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
        let attempts = reports[0].attempts.iter().filter(|attempt| attempt.route == Route::Cloud).count();
        assert_eq!(paid.load(Ordering::Relaxed), expected, "{reports:#?}");
        assert!(attempts >= expected);
        let counted = agent.store().month_cost_usd(chrono::Utc::now()).await.unwrap();
        assert!((counted - expected as f64).abs() < 0.01, "{counted} for {expected} requests");
    }
}

#[tokio::test]
async fn jobs_that_share_an_apply_link_stay_several() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.html");
    let row = |title: &str, place: &str| {
        format!(
            "<li class=job><h3 class=title>{title}</h3><span class=location>{place}</span><a href='/jobs/apply'>Apply</a></li>"
        )
    };
    let rows = [
        row("Mechanical Engineer", "Bristol, UK"),
        row("Software Engineer", "Cardiff, UK"),
        row("Boat Technician", "Bristol, UK"),
        row("Sales Manager", "London, UK"),
    ];
    let page = format!(
        "<link rel=canonical href=https://acme.example/jobs/><title>Open positions</title><h1>Jobs</h1><ul>{}</ul>{}",
        rows.concat(),
        "<p>We build pumps for harbours and rivers and we like to do it well.</p>".repeat(5)
    );
    std::fs::write(&file, page).unwrap();
    let agent = Arc::new(Agent::new(config(folder.path()), models(CheatSheet::new(), None)).await.unwrap());
    let seeds = [Seed::parse(file.to_str().unwrap()).unwrap()];
    for _ in 0..2 {
        let reports = agent.scrape(&seeds, ScrapeOptions::default(), &Silent).await.unwrap();
        assert_eq!(reports[0].page.postings.len(), 4, "{reports:#?}");
        assert_eq!(agent.store().jobs().await.unwrap().len(), 4);
    }
}
