//! `quarry serve` as an operator meets it: loading, shutting down, metrics, logs, and answers as documented.

mod support;

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Answer, MODEL, Server, chat_body, model};

/// `quarry health` of a server, with further arguments.
fn health(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
    command.args(["health", "--port", &server.address.port().to_string()]).args(arguments);
    command.env("QUARRY__SERVER__HOST", "0.0.0.0").output().unwrap()
}

#[test]
fn while_the_model_loads_the_server_says_so() {
    // Large enough that it is still loading when the first question comes.
    let model = quarry_models::testing::model_path("qwen2.5-coder-0.5b-instruct-q4_k_m");
    let mut server = Server::listening(&model, &[]);
    let early = [server.get("/ready"), server.get("/v1/models"), server.chat(json!({}))];
    for answer in &early {
        answer.error(503, Some("not_ready"), None);
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    assert_eq!(server.get("/health").status, 200);
    let (ready, live) = (health(&server, &[]), health(&server, &["--live"]));
    let said = String::from_utf8_lossy(&ready.stderr);
    assert!(ready.status.code() == Some(1) && said.contains("/ready answers 503: "), "{ready:?}");
    assert!(live.status.success(), "{live:?}");
    server.wait("is ready", |server| server.get("/ready").status == 200);
    assert_eq!(server.get("/v1/models").json()["data"].as_array().unwrap().len(), 1);
    // That it loads is no fault: nobody is to be woken by its log.
    let alarms: Vec<Value> = server
        .log_lines()
        .into_iter()
        .filter(|line| line["level"] == "ERROR" || line["level"] == "WARN")
        .collect();
    assert!(alarms.is_empty(), "{alarms:?}");
    let refused = server.log_lines().into_iter().filter(|line| line["message"] == "refused").count();
    assert_eq!(refused, 2, "the two that were no probes");
    let ready = health(&server, &[]);
    assert!(ready.status.success() && ready.stdout == b"ok\n", "{ready:?}");
    server.send_signal("-TERM");
    assert_eq!(server.ended().code(), Some(0));
    let gone = health(&server, &["--live"]);
    let said = String::from_utf8_lossy(&gone.stderr);
    assert!(gone.status.code() == Some(1) && said.contains("does not answer"), "{gone:?}");
}

#[test]
fn at_sigterm_streams_finish_and_nothing_new_begins() {
    // Enough time for a machine busy with other tests.
    let mut server = Server::ready(&model(), &[("SERVER__DRAIN_SECONDS", "100")]);
    let stream = server.begin_stream(json!({"max_completion_tokens": 200}));
    server.send_signal("-TERM");
    server.wait("refuses new requests", |s| s.get("/ready").status == 503);
    let refused = server.chat(json!({}));
    refused.error(503, Some("shutting_down"), None);
    assert!(refused.header("retry-after").is_some());
    // The rest of the stream, whose head is read already.
    let rest = Answer::read_rest(stream);
    assert!(rest.contains(r#""finish_reason":"length""#) && rest.ends_with("data: [DONE]\n\n"), "{rest}");
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn past_the_bound_requests_end_with_an_error_and_the_process_with_0() {
    for signal in ["-INT", "-TERM"] {
        let mut server = Server::ready(&model(), &[("SERVER__DRAIN_SECONDS", "1")]);
        let long = chat_body(json!({"ignore_eos": true, "max_completion_tokens": 1500}));
        let whole = server.send("POST /v1/chat/completions HTTP/1.0", long.to_string().as_bytes());
        let stream = server.begin_stream(json!({}));
        server.wait("runs both", |s| s.metric("vllm:num_requests_running") == 2.0);
        // Before the signal: this process may stand still between the two.
        let begun = Instant::now();
        server.send_signal(signal);
        // What has no status yet gets one, a stream an event.
        let whole = Answer::read(whole);
        whole.error(503, Some("shutting_down"), None);
        assert!(whole.header("retry-after").is_some(), "{}", whole.head);
        let rest = Answer::read_rest(stream);
        assert!(rest.contains(r#""error""#) && !rest.contains("[DONE]"), "{rest}");
        assert!(begun.elapsed() >= Duration::from_secs(1), "they had less time than they were given");
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn a_request_id_goes_through_the_logs() {
    let mut server = Server::ready(&model(), &[]);
    let head = "POST /v1/chat/completions HTTP/1.0\r\nx-request-id: page-7";
    let answer = Answer::read(server.send(head, chat_body(json!({})).to_string().as_bytes()));
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("page-7")));
    let head = "POST /v1/chat/completions HTTP/1.0\r\nx-request-id: page-8";
    Answer::read(server.send(head, b"{")).error(400, None, None);
    server.wait("logs both", |server| {
        let lines = server.log_lines();
        let named = |message: &str, id: &str| {
            lines
                .iter()
                .any(|line| line["message"] == message && line.to_string().contains(&format!("\"{id}\"")))
        };
        named("request ended", "page-7") && named("refused", "page-8")
    });
    let answered = server.log_lines().into_iter().find(|line| line["message"] == "request ended").unwrap();
    assert_eq!((&answered["model"], &answered["request_id"]), (&json!(MODEL), &json!("page-7")));
    assert!(answered["prompt_tokens"].as_u64().unwrap() > 0, "{answered}");
}

/// What vLLM's stock board asks for.
const BOARD: &[(&str, &str)] = &[
    ("vllm:e2e_request_latency_seconds", "histogram"),
    ("vllm:time_to_first_token_seconds", "histogram"),
    ("vllm:inter_token_latency_seconds", "histogram"),
    ("vllm:prompt_tokens_total", "counter"),
    ("vllm:generation_tokens_total", "counter"),
    ("vllm:num_requests_running", "gauge"),
    ("vllm:num_requests_waiting", "gauge"),
    ("vllm:kv_cache_usage_perc", "gauge"),
    ("vllm:request_prompt_tokens", "histogram"),
    ("vllm:request_generation_tokens", "histogram"),
    ("vllm:request_success_total", "counter"),
    ("vllm:request_queue_time_seconds", "histogram"),
    ("vllm:request_prefill_time_seconds", "histogram"),
    ("vllm:request_decode_time_seconds", "histogram"),
    ("vllm:request_max_num_generation_tokens", "histogram"),
    ("vllm:num_preemptions_total", "counter"),
    ("vllm:prefix_cache_queries_total", "counter"),
    ("vllm:prefix_cache_hits_total", "counter"),
];

#[test]
fn the_stock_board_finds_its_metrics() {
    let mut server = Server::ready(&model(), &[]);
    server.still_answers();
    server.still_answers();
    server.wait_idle();
    let text = server.get("/metrics").body;
    for (name, kind) in BOARD {
        assert!(text.contains(&format!("\n# TYPE {name} {kind}\n")), "{name}");
        let sample = if *kind == "histogram" { format!("{name}_bucket{{") } else { format!("{name}{{") };
        let line =
            text.lines().find(|line| line.starts_with(&sample)).unwrap_or_else(|| panic!("no {sample}"));
        assert!(line.contains(&format!("model_name=\"{MODEL}\"")) && line.contains("engine=\"0\""), "{line}");
    }
    // The second request found the first one's prompt.
    assert!(server.metric("vllm:prefix_cache_hits_total") > 0.0);
    assert_eq!(server.metric("vllm:request_success_total"), 2.0);
    assert_eq!(server.metric("vllm:e2e_request_latency_seconds_count"), 2.0);
}

#[test]
fn answers_are_as_documented() {
    let server = Server::ready(&model(), &[]);
    let document = server.get("/openapi.json").json();
    let chat = chat_body(json!({}));
    let bad = chat_body(json!({"n": 2}));
    let thing = json!({"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false});
    let guided = chat_body(
        json!({"max_completion_tokens": 30, "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": thing}}}),
    );
    let mut asked = BTreeSet::new();
    for (method, route, path, body, status) in [
        ("post", "/v1/chat/completions", "", Some(&chat), 200),
        ("post", "/v1/chat/completions", "", Some(&guided), 200),
        ("post", "/v1/chat/completions", "", Some(&bad), 400),
        ("post", "/v1/chat/completions", "", Some(&chat_body(json!({"model": "nobody"}))), 404),
        ("post", "/v1/chat/completions/render", "", Some(&chat), 200),
        ("get", "/v1/models", "", None, 200),
        ("get", "/v1/models/{id}", "/v1/models/primary", None, 200),
        ("get", "/v1/models/{id}", "/v1/models/nobody", None, 404),
        ("post", "/v1/models/{id}/load", "/v1/models/primary/load", None, 200),
        ("post", "/v1/models/{id}/load", "/v1/models/nobody/load", None, 404),
        ("get", "/admin/state", "", None, 200),
        ("post", "/v1/models/{id}/unload", "/v1/models/primary/unload", None, 200),
        ("post", "/tokenize", "", Some(&json!({"prompt": "hi"})), 200),
        ("post", "/detokenize", "", Some(&json!({"tokens": [1, 2]})), 200),
        ("get", "/health", "", None, 200),
        ("get", "/ready", "", None, 200),
        ("get", "/version", "", None, 200),
        ("get", "/metrics", "", None, 200),
        ("get", "/openapi.json", "", None, 200),
    ] {
        let operation = &document["paths"][route][method];
        assert!(operation.is_object(), "{method} {route} is not documented");
        asked.insert((method, route));
        let path = if path.is_empty() { route } else { path };
        let answer = match body {
            Some(body) => server.post(path, body.to_string().as_bytes()),
            None if method == "post" => server.post(path, b""),
            None => server.get(path),
        };
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        let documented = &operation["responses"][status.to_string()];
        assert!(documented.is_object(), "{method} {route} does not document {status}");
        if let Some(schema) = documented.pointer("/content/application~1json/schema") {
            check(&answer.json(), schema, &document, path);
        }
        if let (Some(body), true) = (body, status == 200) {
            check(body, &operation["requestBody"]["content"]["application/json"]["schema"], &document, path);
        }
    }
    for (route, operations) in document["paths"].as_object().unwrap() {
        for method in
            operations.as_object().unwrap().keys().filter(|key| ["get", "post"].contains(&key.as_str()))
        {
            assert!(asked.contains(&(method.as_str(), route.as_str())), "{method} {route} is not tried here");
        }
    }

    // Chunks of a stream have a schema of their own.
    let stream = chat_body(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let text = server.post("/v1/chat/completions", stream.to_string().as_bytes()).body;
    let chunks: Vec<Value> = text
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert!(chunks.len() > 3, "{text}");
    for chunk in &chunks {
        check(chunk, &json!({"$ref": "#/components/schemas/ChatChunk"}), &document, "chunk");
    }
}

/// Whether a value is as its schema says: types, required and known fields, elements, words.
fn check(value: &Value, schema: &Value, document: &Value, at: &str) {
    if let Err(error) = matches(value, schema, document) {
        panic!("{at}: {error}\n{value:#}");
    }
}

fn matches(value: &Value, schema: &Value, document: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).ok_or(format!("{name} is nowhere"))?;
        return matches(value, target, document);
    }
    for word in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[word].as_array() {
            let errors: Vec<String> =
                choices.iter().filter_map(|c| matches(value, c, document).err()).collect();
            let fits = choices.len() - errors.len();
            return if fits == 0 { Err(format!("none of {word}: {}", errors.join("; "))) } else { Ok(()) };
        }
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        matches(value, part, document)?;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{value} is none of {}", schema["enum"]));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |name: &str| name == kind || (name == "number" && kind == "integer");
    let is_allowed = match &schema["type"] {
        Value::Null => true,
        Value::String(name) => allowed(name),
        names => names.as_array().unwrap().iter().any(|name| allowed(name.as_str().unwrap())),
    };
    if !is_allowed {
        return Err(format!("{value} is no {}", schema["type"]));
    }
    if let Value::Array(items) = value
        && schema["items"].is_object()
    {
        items.iter().try_for_each(|item| matches(item, &schema["items"], document))?;
    }
    if let (Value::Object(fields), Some(known)) = (value, schema["properties"].as_object()) {
        for required in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(required.as_str().unwrap()) {
                return Err(format!("{required} is missing"));
            }
        }
        for (name, field) in fields {
            let schema = known.get(name).ok_or(format!("{name:?} is not documented"))?;
            matches(field, schema, document).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(())
}
