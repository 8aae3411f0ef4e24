//! Everything of the edge beside answers: errors in OpenAI's shape, bounds, models, tokens, operations.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use quarry_http::{AppState, Limits, Metrics, router};
use serde_json::{Value, json};
use support::{Answer, MODEL, app, chat, complete, post, send, state};

/// All four fields, whatever the error.
fn check(answer: &Answer, status: u16, code: Option<&str>, param: Option<&str>) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    let body = answer.json();
    let error = body["error"].as_object().unwrap();
    let fields: BTreeSet<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["message", "type", "param", "code"]), "{}", answer.text);
    assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()) && error["type"].is_string());
    assert_eq!((error["code"].as_str(), error["param"].as_str()), (code, param), "{}", answer.text);
    assert!(!answer.header("x-request-id").is_empty());
}

#[tokio::test]
async fn mistakes_are_answered_in_openais_shape() {
    let unsupported = Some("unsupported_parameter");
    let schema =
        |schema: Value| json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    for (fields, status, code, param) in [
        (json!({"model": "gpt-9"}), 404, Some("model_not_found"), "model"),
        (json!({"messages": []}), 400, None, "messages"),
        (json!({"messages": "hi"}), 400, None, "messages"),
        (json!({"messages": image}), 400, unsupported, "messages[0].content[0].type"),
        (json!({"n": 2}), 400, unsupported, "n"),
        (json!({"logprobs": true}), 400, unsupported, "logprobs"),
        (json!({"tools": [{"type": "function", "function": {"name": "f"}}]}), 400, unsupported, "tools"),
        (json!({"temperature": 2.5}), 400, None, "temperature"),
        (json!({"temperature": -1}), 400, None, "temperature"),
        (json!({"top_p": 0}), 400, None, "top_p"),
        (json!({"min_p": 1.5}), 400, None, "min_p"),
        (json!({"presence_penalty": 3}), 400, None, "presence_penalty"),
        (json!({"frequency_penalty": -3}), 400, None, "frequency_penalty"),
        (json!({"repetition_penalty": 0}), 400, None, "repetition_penalty"),
        (json!({"logit_bias": {"5": 101}}), 400, None, "logit_bias"),
        (json!({"logit_bias": {"999999999": 1}}), 400, None, "logit_bias"),
        (json!({"max_completion_tokens": 0}), 400, None, "max_completion_tokens"),
        (json!({"min_tokens": 13}), 400, None, "min_tokens"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), 400, None, "stop"),
        (json!({"stop_token_ids": [999_999_999]}), 400, None, "stop_token_ids"),
        (json!({"priority": -1}), 400, None, "priority"),
        (json!({"stream_options": {"include_usage": true}}), 400, None, "stream_options"),
        (json!({"response_format": {"type": "xml"}}), 400, None, "response_format.type"),
        (
            json!({"response_format": schema(json!({"type": "object", "minProperties": "three"}))}),
            400,
            Some("invalid_json_schema"),
            "response_format",
        ),
        (
            json!({"messages": [{"role": "user", "content": "long ".repeat(2000)}]}),
            400,
            Some("context_length_exceeded"),
            "messages",
        ),
    ] {
        for stream in [false, true] {
            let mut body = chat("hi", fields.clone());
            if stream && fields.get("stream_options").is_none() {
                body["stream"] = true.into();
            }
            check(&post("/v1/chat/completions", &body).await, status, code, Some(param));
        }
    }
}

#[tokio::test]
async fn malformed_bodies_and_unknown_routes_too() {
    for body in ["", "{", "{\"model\": \"m\" \"messages\"", "\u{0}\u{1}", "[1, 2]"] {
        check(&send(app(), "POST", "/v1/chat/completions", body).await, 400, None, None);
    }
    let deep = "[".repeat(100_000);
    check(&send(app(), "POST", "/v1/chat/completions", deep).await, 400, None, None);
    check(&send(app(), "GET", "/v1/nothing", "").await, 404, Some("not_found"), None);
    check(&send(app(), "DELETE", "/v1/models", "").await, 405, Some("method_not_allowed"), None);
    check(&send(app(), "GET", "/v1/models/nobody", "").await, 404, Some("model_not_found"), Some("model"));
    check(&post("/tokenize", &json!({"prompt": 3})).await, 400, None, Some("prompt"));
    check(&post("/detokenize", &json!({"tokens": [999_999_999]})).await, 400, None, Some("tokens"));
}

#[tokio::test]
async fn bodies_are_bounded_announced_or_not() {
    let bounded = || router(state(Limits { body_bytes_max: 1000, ..Limits::default() }));
    let long = chat(&"x".repeat(2000), json!({})).to_string();
    let answer = send(bounded(), "POST", "/v1/chat/completions", long.clone()).await;
    check(&answer, 413, Some("body_too_large"), None);
    let pieces =
        long.into_bytes().chunks(100).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>();
    let streamed = Body::from_stream(futures::stream::iter(pieces));
    let answer = send(bounded(), "POST", "/v1/chat/completions", streamed).await;
    check(&answer, 413, Some("body_too_large"), None);
}

#[tokio::test]
async fn all_bodies_together_are_bounded() {
    let limits = Limits { body_bytes_max: 20 << 10, bodies_bytes_max: 24 << 10, ..Limits::default() };
    let bounded = router(state(limits));
    let body = chat(&"x".repeat(9000), json!({"max_completion_tokens": 1})).to_string();
    // A body that does not come to its end holds its room.
    let (held, slow) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let slow = futures::stream::unfold(slow, |mut slow| async { Some((slow.recv().await?, slow)) });
    let first = bounded.clone();
    let first = tokio::spawn(async move {
        send(first, "POST", "/v1/chat/completions", Body::from_stream(slow)).await.status.as_u16()
    });
    for piece in [&body[..9000], &" ".repeat(9000), " "] {
        // The channel holds one: when the last is in, the others were read.
        held.send(Ok(piece.to_owned())).await.unwrap();
    }
    let refused = send(bounded.clone(), "POST", "/v1/chat/completions", body.clone()).await;
    check(&refused, 503, Some("overloaded"), None);
    assert_eq!(refused.header("retry-after"), "5");
    // Its end gives the room back.
    drop(held);
    assert_eq!(first.await.unwrap(), 400);
    let answer = send(bounded, "POST", "/v1/chat/completions", body).await;
    assert_ne!(answer.status, 503, "{}", answer.text);
}

#[tokio::test]
async fn before_the_engine_is_there_the_server_says_so() {
    let loading = || {
        let metrics = Arc::new(Metrics::new().unwrap());
        router(AppState::new(metrics, Limits::default()).unwrap())
    };
    assert_eq!(send(loading(), "GET", "/health", "").await.status, 200);
    for (method, path) in [("GET", "/ready"), ("GET", "/v1/models"), ("POST", "/v1/chat/completions")] {
        let answer = send(loading(), method, path, chat("hi", json!({})).to_string()).await;
        check(&answer, 503, Some("not_ready"), None);
        assert_eq!(answer.header("retry-after"), "5");
    }
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let list = send(app(), "GET", "/v1/models", "").await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!(MODEL)));
    let one = send(app(), "GET", "/v1/models/org%2Fsmall", "").await.json();
    assert_eq!(one, list["data"][0]);
    assert_eq!((&one["object"], &one["max_model_len"]), (&json!("model"), &json!(1024)));
    assert_eq!(one["details"]["architecture"], "llama");
    assert_eq!(send(app(), "GET", "/v1/models/org/small", "").await.json(), one);
}

#[tokio::test]
async fn tokens_and_text_are_each_others_inverse() {
    let text = "Gr\u{fc}\u{df}e, \u{1f600} 東京 <|im_end|> \u{2029}tab\t\n";
    let tokens = post("/tokenize", &json!({"prompt": text, "model": MODEL})).await.json();
    assert_eq!(tokens["count"].as_u64().unwrap() as usize, tokens["tokens"].as_array().unwrap().len());
    let back = post("/detokenize", &json!({"tokens": tokens["tokens"]})).await.json();
    assert_eq!(back["prompt"], text);
}

#[tokio::test]
async fn request_ids_go_through_or_are_made() {
    let request =
        axum::http::Request::get("/version").header("x-request-id", "page-7").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(app(), request).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "page-7");
    let answer = send(app(), "GET", "/version", "").await;
    assert!(answer.header("x-request-id").starts_with("req_"));
    assert_eq!(answer.json()["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn every_documented_route_is_there_and_its_document_served() {
    for route in quarry_openapi::document::ROUTES {
        if route.path.ends_with("load") {
            // The engine is shared: its model stays where it is.
            let path = route.path.replace("{id}", "no/body");
            let answer = send(app(), route.method, &path, "").await;
            assert_eq!(answer.json()["error"]["code"], "model_not_found", "{path}: {}", answer.text);
            continue;
        }
        let path = route.path.replace("{id}", MODEL);
        let answer = send(app(), route.method, &path, "").await;
        assert!(![404, 405].contains(&answer.status.as_u16()), "{} {}: {}", route.method, path, answer.text);
    }
    let served = send(app(), "GET", "/openapi.json", "").await;
    assert_eq!(served.text, quarry_openapi::document::openapi_json());
}

#[tokio::test]
async fn metrics_count_what_was_served() {
    complete(&chat("Say hello.", json!({}))).await;
    support::idle(&support::engine()).await;
    let answer = send(app(), "GET", "/metrics", "").await;
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    let labels = format!("engine=\"0\",model_name=\"{MODEL}\"");
    for name in [
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds_count",
        "vllm:e2e_request_latency_seconds_count",
        "vllm:iteration_tokens_total_count",
    ] {
        let start = format!("{name}{{{labels}}} ");
        let value =
            answer.text.lines().find_map(|l| l.strip_prefix(&start)).unwrap_or_else(|| panic!("no {start}"));
        assert!(value.parse::<f64>().unwrap() >= 1.0, "{name} is {value}");
    }
    assert!(
        answer
            .text
            .contains("http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\",status=\"2xx\"}")
    );
}
