//! Clients with keys of their own share the engine: one that sends much does not make another wait for all of it.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use quarry_http::{AppState, Limits, router};
use quarry_runtime::Engine;
use serde_json::json;
use support::{chat, start_with};
use tower::ServiceExt as _;

/// Requests of the busy client.
const BUSY: usize = 20;

/// Sends a request and notes its key when its answer has come.
async fn ask(app: Router, key: &'static str, done: Arc<Mutex<Vec<&'static str>>>) {
    let body = chat("Tell me a story.", json!({"ignore_eos": true, "max_completion_tokens": 16}));
    let request = Request::post("/v1/chat/completions")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    done.lock().unwrap().push(key);
}

/// The busy client's answers that are open when the other one's request is sent, and that come after its answer.
async fn open_and_after(app: &Router, engine: &Engine, other: &'static str) -> (usize, usize) {
    let done: Arc<Mutex<Vec<&str>>> = Arc::default();
    let asked: Vec<_> =
        (0..BUSY).map(|_| tokio::spawn(ask(app.clone(), "busy", Arc::clone(&done)))).collect();
    for attempt in 0.. {
        let in_engine = engine.snapshot().sum(|m| m.running + m.waiting) as usize;
        if in_engine + done.lock().unwrap().len() >= BUSY {
            break;
        }
        assert!(attempt < 10_000, "only {in_engine} are in the engine");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let open = BUSY - done.lock().unwrap().len();
    ask(app.clone(), other, Arc::clone(&done)).await;
    let after = BUSY + 1 - done.lock().unwrap().len();
    for asked in asked {
        asked.await.unwrap();
    }
    (open, after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_does_not_wait_for_twenty_of_another_client() {
    // Two at a time: the others wait in the engine.
    let start = || start_with(|options| options.step_rows_max = 2);
    let (engine, metrics) = tokio::task::spawn_blocking(start).await.unwrap();
    let state = AppState::new(metrics, Limits::default()).unwrap();
    state.set_engine(engine.clone());
    let app = router(state);

    let (open, after) = open_and_after(&app, &engine, "other").await;
    assert!(open > BUSY / 2 && after > open / 2, "of {open} open ones {after} came after the other's");
    // It is the key that matters: with the same one the last comes last.
    let (open, after) = open_and_after(&app, &engine, "busy").await;
    assert!(open > BUSY / 2 && after <= 1, "of {open} open ones {after} came after the last");
}
