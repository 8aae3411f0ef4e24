//! One engine with a small real model for all tests of a binary, and requests without a socket.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_http::{AppState, Limits, Metrics, router};
use quarry_runtime::{Engine, EngineOptions, ModelSource};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// What the tests call the model.
pub const MODEL: &str = "org/small";

static SHARED: LazyLock<(Engine, Arc<Metrics>)> = LazyLock::new(start);

/// A new engine, for tests that end it.
pub fn start() -> (Engine, Arc<Metrics>) {
    start_with(|_| {})
}

/// A new engine with options of its own.
pub fn start_with(change: impl FnOnce(&mut EngineOptions)) -> (Engine, Arc<Metrics>) {
    let path = quarry_models::testing::model_path("smollm2-135m-instruct-q4_1");
    let source = ModelSource { name: MODEL.into(), aliases: vec!["small".into()], path, yarn: None };
    let mut options = EngineOptions {
        kv_bytes: Some(128 << 20),
        context_tokens_max: Some(1024),
        ..EngineOptions::new(vec![source])
    };
    change(&mut options);
    let metrics = Arc::new(Metrics::new().unwrap());
    // One thread: several test binaries share the machine.
    let backend = Box::new(CpuBackend::new(CpuOptions { threads: 1, isa: None }).unwrap());
    let engine = Engine::start(backend, options, metrics.clone(), &mut |_, _| {}).unwrap();
    while !engine.is_ready() {
        std::thread::sleep(Duration::from_millis(5));
    }
    (engine, metrics)
}

pub fn engine() -> Engine {
    SHARED.0.clone()
}

/// State around the shared engine.
pub fn state(limits: Limits) -> AppState {
    let (engine, metrics) = &*SHARED;
    let state = AppState::new(metrics.clone(), limits).unwrap();
    state.set_engine(engine.clone());
    state
}

pub fn app() -> Router {
    router(state(Limits::default()))
}

/// A chat request with greedy sampling, and `fields` over it.
pub fn chat(content: &str, fields: Value) -> Value {
    let mut request = json!({"model": MODEL, "messages": [{"role": "user", "content": content}],
        "temperature": 0, "max_completion_tokens": 12});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

/// An answer read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The `data:` lines of an event stream.
    pub fn data(&self) -> Vec<&str> {
        self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
    }
}

pub async fn send(app: Router, method: &str, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, text }
}

pub async fn post(path: &str, body: &Value) -> Answer {
    send(app(), "POST", path, body.to_string()).await
}

pub async fn complete(body: &Value) -> Value {
    let answer = post("/v1/chat/completions", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

pub fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

/// Waits until the engine has nothing to do.
pub async fn idle(engine: &Engine) {
    for _ in 0..500 {
        let now = engine.snapshot();
        if now.sum(|m| m.running + m.waiting + m.swapped) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the engine is still busy: {:?}", engine.snapshot());
}
