//! The fetcher against hosts that misbehave, on localhost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use quarry_agent::config::ScrapingConfig;
use quarry_agent::fetch::cache::PageCache;
use quarry_agent::fetch::{FetchError, Fetcher, Hosts, rebuildable};
use url::Url;

async fn site(router: Router) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn config() -> ScrapingConfig {
    ScrapingConfig { allow_private: true, delay_ms_min: 0, delay_ms_max: 2000, ..ScrapingConfig::default() }
}

fn fetcher(config: &ScrapingConfig) -> Fetcher {
    Fetcher::new(config, Arc::new(Hosts::new(config, None).unwrap()), None).unwrap()
}

fn html(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/html")], text).into_response()
}

#[tokio::test]
async fn redirects_are_followed_and_loops_are_told() {
    let router = Router::new()
        .route("/a", get(|| async { Redirect::temporary("/b") }))
        .route("/b", get(|| async { html("here") }))
        .route("/loop", get(|| async { Redirect::temporary("/pool") }))
        .route("/pool", get(|| async { Redirect::temporary("/loop") }))
        .route(
            "/far/{n}",
            get(|axum::extract::Path(n): axum::extract::Path<u32>| async move {
                Redirect::temporary(&format!("/far/{}", n + 1))
            }),
        )
        .route("/file", get(|| async { Redirect::temporary("file:///etc/passwd") }));
    let root = site(router).await;
    let fetcher = fetcher(&config());
    let page = fetcher.fetch(&root.join("/a").unwrap()).await.unwrap();
    assert_eq!((page.url.path(), page.redirects, page.bytes.as_slice()), ("/b", 1, b"here".as_slice()));
    let error = fetcher.fetch(&root.join("/loop").unwrap()).await.unwrap_err();
    assert!(matches!(error, FetchError::RedirectLoop { .. }), "{error}");
    let error = fetcher.fetch(&root.join("/far/1").unwrap()).await.unwrap_err();
    assert!(matches!(error, FetchError::TooManyRedirects { max: 8, .. }), "{error}");
    let error = fetcher.fetch(&root.join("/file").unwrap()).await.unwrap_err();
    assert!(matches!(error, FetchError::BadRedirect { .. }), "{error}");
}

#[tokio::test]
async fn fifty_megabytes_are_refused_with_and_without_a_length() {
    let endless = || async {
        let piece = bytes::Bytes::from(vec![b'x'; 1 << 20]);
        let pieces = futures::stream::iter((0..50).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
        ([(header::CONTENT_TYPE, "text/html")], Body::from_stream(pieces))
    };
    let whole = || async { ([(header::CONTENT_TYPE, "text/html")], vec![b'x'; 50 << 20]) };
    let root = site(Router::new().route("/endless", get(endless)).route("/whole", get(whole))).await;
    let fetcher = fetcher(&config());
    for path in ["/endless", "/whole"] {
        let error = fetcher.fetch(&root.join(path).unwrap()).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
        assert!(error.to_string().contains("body_bytes_max"));
    }
}

#[tokio::test]
async fn robots_are_asked_first_and_obeyed_on_every_hop() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = |State(seen): State<Arc<AtomicUsize>>| async move {
        seen.fetch_add(1, Ordering::Relaxed);
        html("secret")
    };
    let router = Router::new()
        .route("/robots.txt", get(|| async { "User-agent: *\nDisallow: /private\n" }))
        .route("/private/x", get(count))
        .route("/open", get(|| async { html("open") }))
        .route("/way", get(|| async { Redirect::temporary("/private/x") }))
        .with_state(Arc::clone(&seen));
    let root = site(router).await;
    let strict = fetcher(&config());
    assert!(strict.fetch(&root.join("/open").unwrap()).await.is_ok());
    for path in ["/private/x", "/way"] {
        let error = strict.fetch(&root.join(path).unwrap()).await.unwrap_err();
        assert!(matches!(error, FetchError::Robots { .. }), "{error}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    let rude = fetcher(&ScrapingConfig { obey_robots: false, ..config() });
    assert!(rude.fetch(&root.join("/private/x").unwrap()).await.is_ok());
}

#[tokio::test]
async fn robots_that_fail_mean_wait_and_missing_ones_mean_all() {
    let broken = Router::new()
        .route("/robots.txt", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/x", get(|| async { html("x") }));
    let root = site(broken).await;
    let error = fetcher(&config()).fetch(&root.join("/x").unwrap()).await.unwrap_err();
    assert!(matches!(error, FetchError::RobotsUnknown { .. }) && error.is_transient(), "{error}");
    let root = site(Router::new().route("/x", get(|| async { html("x") }))).await;
    assert!(fetcher(&config()).fetch(&root.join("/x").unwrap()).await.is_ok());
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    // Status, requests it takes, whether a later run may fare better.
    for (status, requests, is_transient) in
        [(500, 3, true), (502, 3, true), (504, 3, true), (408, 3, true), (501, 1, false), (404, 1, false)]
    {
        let seen = Arc::new(AtomicUsize::new(0));
        let failing = move |State(seen): State<Arc<AtomicUsize>>| async move {
            seen.fetch_add(1, Ordering::Relaxed);
            StatusCode::from_u16(status).unwrap()
        };
        let root = site(Router::new().route("/x", get(failing)).with_state(Arc::clone(&seen))).await;
        let error = fetcher(&config()).fetch(&root.join("/x").unwrap()).await.unwrap_err();
        assert_eq!((seen.load(Ordering::Relaxed), error.is_transient()), (requests, is_transient), "{error}");
    }
    let once = Arc::new(AtomicUsize::new(0));
    let recovers = |State(seen): State<Arc<AtomicUsize>>| async move {
        match seen.fetch_add(1, Ordering::Relaxed) {
            0 => StatusCode::BAD_GATEWAY.into_response(),
            _ => html("there"),
        }
    };
    let slow = || async {
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        html("late")
    };
    let root =
        site(Router::new().route("/x", get(recovers)).route("/slow", get(slow)).with_state(once)).await;
    let short = ScrapingConfig { fetch_seconds_max: 1, retries_max: 1, ..config() };
    assert_eq!(fetcher(&short).fetch(&root.join("/x").unwrap()).await.unwrap().bytes, b"there");
    let error = fetcher(&short).fetch(&root.join("/slow").unwrap()).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout { .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_busy_host_is_asked_again_after_the_time_it_names() {
    let asked = Arc::new(AtomicUsize::new(0));
    let busy_once = |State(asked): State<Arc<AtomicUsize>>| async move {
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
        }
        html("there")
    };
    let always = || async { (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "9999")]) };
    let root =
        site(Router::new().route("/once", get(busy_once)).route("/always", get(always)).with_state(asked))
            .await;
    let fetcher = fetcher(&config());
    let started = std::time::Instant::now();
    assert_eq!(fetcher.fetch(&root.join("/once").unwrap()).await.unwrap().bytes, b"there");
    // A bound from below only: waiting shorter would be impolite, waiting longer is the machine's affair.
    assert!(started.elapsed() >= std::time::Duration::from_secs(1));
    let error = fetcher.fetch(&root.join("/always").unwrap()).await.unwrap_err();
    assert!(matches!(error, FetchError::AsksToWait { seconds: 9999, .. }), "{error}");
}

#[tokio::test]
async fn a_wait_without_bound_leaves_the_host_and_neither_panics_nor_waits() {
    for asked in
        ["9999", "18446744073709551615", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"]
    {
        let seen = Arc::new(AtomicUsize::new(0));
        let busy = move |State(seen): State<Arc<AtomicUsize>>| async move {
            seen.fetch_add(1, Ordering::Relaxed);
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, asked)])
        };
        let root = site(Router::new().route("/{page}", get(busy)).with_state(Arc::clone(&seen))).await;
        let fetcher = fetcher(&ScrapingConfig { obey_robots: false, ..config() });
        for path in ["/a", "/b"] {
            let url = root.join(path).unwrap();
            let got = tokio::time::timeout(std::time::Duration::from_secs(20), fetcher.fetch(&url)).await;
            let error = got.expect("the run waits for nobody that long").unwrap_err();
            assert!(matches!(error, FetchError::AsksToWait { .. }), "{asked}: {error}");
        }
        assert_eq!(seen.load(Ordering::Relaxed), 1, "{asked}: a host that asks to wait is left alone");
    }
}

#[tokio::test]
async fn private_addresses_are_refused_by_number_and_by_name() {
    let root = site(Router::new().route("/x", get(|| async { html("x") }))).await;
    let strict = fetcher(&ScrapingConfig { allow_private: false, ..config() });
    let by_number = root.join("/x").unwrap();
    let mut by_name = by_number.clone();
    by_name.set_host(Some("localhost")).unwrap();
    let error = strict.fetch(&by_number).await.unwrap_err();
    assert!(matches!(error, FetchError::PrivateAddress { .. }), "{error}");
    // By name robots.txt is asked first, and its refusal says the same.
    let error = strict.fetch(&by_name).await.unwrap_err();
    assert!(error.to_string().contains("private address"), "{error}");
    let no_robots = ScrapingConfig { allow_private: false, obey_robots: false, ..config() };
    let error = fetcher(&no_robots).fetch(&by_name).await.unwrap_err();
    assert!(matches!(error, FetchError::PrivateAddress { .. }), "{error}");
}

#[tokio::test]
async fn an_unchanged_page_comes_from_the_cache() {
    let page = |headers: HeaderMap| async move {
        if headers.get(header::IF_NONE_MATCH).is_some_and(|v| v == "\"v1\"") {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        ([(header::CONTENT_TYPE, "text/html"), (header::ETAG, "\"v1\"")], "body").into_response()
    };
    let root = site(Router::new().route("/x", get(page))).await;
    let folder = tempfile::tempdir().unwrap();
    let db = rebuildable::open(folder.path()).unwrap();
    let cache = Arc::new(PageCache::open(&db, 1 << 20).unwrap());
    let hosts = Arc::new(Hosts::new(&config(), Some(&db)).unwrap());
    let fetcher = Fetcher::new(&config(), hosts, Some(cache)).unwrap();
    let url = root.join("/x").unwrap();
    assert!(!fetcher.fetch(&url).await.unwrap().from_cache);
    let again = fetcher.fetch(&url).await.unwrap();
    assert!(again.from_cache);
    assert_eq!(again.bytes, b"body");
}

#[tokio::test]
async fn what_is_no_page_is_told() {
    let router = Router::new()
        .route("/pdf", get(|| async { ([(header::CONTENT_TYPE, "application/pdf")], "x") }))
        .route("/gone", get(|| async { StatusCode::GONE }));
    let root = site(router).await;
    let fetcher = fetcher(&config());
    let error = fetcher.fetch(&root.join("/pdf").unwrap()).await.unwrap_err();
    assert!(matches!(error, FetchError::NotAPage { .. }), "{error}");
    let error = fetcher.fetch(&root.join("/gone").unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} answered 410", root.join("/gone").unwrap()));
}
