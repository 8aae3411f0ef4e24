//! Chat completions through the router, over a real engine with a small model.

mod support;

use serde_json::{Value, json};
use support::{MODEL, chat, complete, content, post};

#[tokio::test]
async fn a_whole_answer_has_all_that_sdks_read() {
    let answer = complete(&chat("Say hello.", json!({}))).await;
    let choice = &answer["choices"][0];
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!(MODEL)));
    assert!(
        answer["id"].as_str().unwrap().starts_with("chatcmpl-") && answer["created"].as_u64().unwrap() > 0
    );
    for field in ["finish_reason", "index", "message", "logprobs"] {
        assert!(choice.get(field).is_some(), "{field}");
    }
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"].get("refusal"), Some(&Value::Null));
    assert!(!content(&answer).is_empty());
    let usage = &answer["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert!(count("completion_tokens") <= 12);
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    let rendered = post("/v1/chat/completions/render", &chat("Say hello.", json!({}))).await.json();
    assert_eq!(rendered["count"], usage["prompt_tokens"]);
    assert_eq!(rendered["token_ids"].as_array().unwrap().len() as u64, count("prompt_tokens"));
    assert!(rendered["prompt"].as_str().unwrap().contains("Say hello."));
}

#[tokio::test]
async fn a_stream_says_the_same_in_the_order_sdks_expect() {
    let request = chat("Count to five.", json!({}));
    let whole = complete(&request).await;
    let fields = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = post("/v1/chat/completions", &chat("Count to five.", fields)).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/event-stream"));
    let data = answer.data();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        data[..data.len() - 1].iter().map(|d| serde_json::from_str(d).unwrap()).collect();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!((&chunk["id"], &chunk["created"]), (&chunks[0]["id"], &chunks[0]["created"]));
    }
    let (first, middle) = chunks.split_first().unwrap();
    let (usage, middle) = middle.split_last().unwrap();
    let (end, middle) = middle.split_last().unwrap();
    let choice = |delta: Value, end: Value| json!([{"index": 0, "delta": delta, "finish_reason": end, "logprobs": null}]);
    assert_eq!(first["choices"], choice(json!({"role": "assistant", "content": ""}), Value::Null));
    assert_eq!(end["choices"], choice(json!({}), whole["choices"][0]["finish_reason"].clone()));
    assert_eq!(
        (&usage["choices"], &usage["usage"]["completion_tokens"]),
        (&json!([]), &whole["usage"]["completion_tokens"])
    );
    let mut text = String::new();
    for chunk in middle {
        let piece = chunk["choices"][0]["delta"]["content"].as_str().unwrap();
        assert_eq!(chunk["choices"], choice(json!({"content": piece}), Value::Null));
        assert_eq!(chunk["usage"], Value::Null);
        text.push_str(piece);
    }
    assert_eq!(text, content(&whole));
    assert!(middle.len() > 1, "{middle:?}");
}

#[tokio::test]
async fn usage_comes_only_where_asked() {
    let answer = post("/v1/chat/completions", &chat("Hi", json!({"stream": true}))).await;
    assert!(answer.data().iter().all(|d| !d.contains("completion_tokens")), "{}", answer.text);
}

#[tokio::test]
async fn a_seed_repeats_and_its_absence_does_not() {
    let fields = json!({"temperature": 1.5, "max_completion_tokens": 24, "ignore_eos": true});
    let free = chat("Tell me a story.", fields.clone());
    let mut seeded = chat("Tell me a story.", fields);
    seeded["seed"] = json!(-7);
    let (a, b) = (complete(&seeded).await, complete(&seeded).await);
    assert_eq!(content(&a), content(&b));
    let (a, b) = (complete(&free).await, complete(&free).await);
    assert_ne!(content(&a), content(&b));
}

#[tokio::test]
async fn stop_strings_end_the_answer_and_are_not_in_it() {
    let free = complete(&chat("Count to twenty.", json!({"max_completion_tokens": 24}))).await;
    let free = content(&free);
    let middle = free.char_indices().nth(free.chars().count() / 2).unwrap().0;
    let stop: String = free[middle..].chars().take(3).collect();
    let stopped =
        complete(&chat("Count to twenty.", json!({"max_completion_tokens": 24, "stop": stop}))).await;
    assert_eq!(content(&stopped), &free[..free.find(&stop).unwrap()]);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn limits_on_tokens_are_kept() {
    let one = complete(&chat("Tell me a story.", json!({"max_completion_tokens": 1}))).await;
    assert_eq!(
        (&one["choices"][0]["finish_reason"], &one["usage"]["completion_tokens"]),
        (&json!("length"), &json!(1))
    );
    let mut old = chat("Tell me a story.", json!({"max_tokens": 2}));
    old.as_object_mut().unwrap().remove("max_completion_tokens");
    assert_eq!(complete(&old).await["usage"]["completion_tokens"], 2);
    let least = complete(&chat("Say yes.", json!({"min_tokens": 12, "ignore_eos": true}))).await;
    assert_eq!(least["usage"]["completion_tokens"], 12);
}

#[tokio::test]
async fn a_bias_forces_and_a_stop_token_ends() {
    let token = post("/tokenize", &json!({"prompt": " yes"})).await.json()["tokens"][0].as_u64().unwrap();
    let biased =
        chat("Tell me a story.", json!({"logit_bias": {token.to_string(): 100}, "max_completion_tokens": 3}));
    assert_eq!(content(&complete(&biased).await), " yes yes yes");
    let mut ended = biased;
    ended["stop_token_ids"] = json!([token]);
    let ended = complete(&ended).await;
    assert_eq!((content(&ended), &ended["choices"][0]["finish_reason"]), ("", &json!("stop")));
}

#[tokio::test]
async fn a_schema_is_satisfied_and_anything_but_stop_is_length() {
    let schema = json!({"type": "object", "additionalProperties": false,
        "required": ["colour", "count", "tags"],
        "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9},
            "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}}});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "thing", "strict": true, "schema": schema}});
    let fields = json!({"response_format": format.clone(), "max_completion_tokens": 80, "temperature": 1});
    let answer = complete(&chat("Describe a thing.", fields)).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let value: Value = serde_json::from_str(content(&answer)).unwrap();
    assert!(["red", "green"].contains(&value["colour"].as_str().unwrap()), "{value}");
    assert!((1..=9).contains(&value["count"].as_u64().unwrap()), "{value}");
    assert!(value["tags"].as_array().unwrap().iter().all(Value::is_boolean), "{value}");
    let short = json!({"response_format": format, "max_completion_tokens": 2});
    let short = complete(&chat("Describe a thing.", short)).await;
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    let object = json!({"response_format": {"type": "json_object"}, "max_completion_tokens": 40});
    let object = complete(&chat("Describe a thing.", object)).await;
    assert!(content(&object).starts_with('{'), "{object}");
    if object["choices"][0]["finish_reason"] == "stop" {
        assert!(serde_json::from_str::<Value>(content(&object)).unwrap().is_object());
    }
}

#[tokio::test]
async fn unknown_fields_are_reported_and_change_nothing() {
    let plain = complete(&chat("Say hello.", json!({}))).await;
    let answer = post("/v1/chat/completions", &chat("Say hello.", json!({"frob": 1, "user": "u"}))).await;
    assert_eq!(answer.header("warnings"), "unknown field `frob` ignored");
    assert_eq!(content(&answer.json()), content(&plain));
}

#[tokio::test]
async fn a_prompt_seen_before_comes_from_the_cache() {
    let long = "A long story about a fox and a hen. ".repeat(12);
    complete(&chat(&long, json!({}))).await;
    let again = complete(&chat(&long, json!({}))).await;
    assert!(again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0, "{again}");
    let salted = complete(&chat(&long, json!({"cache_salt": "tenant"}))).await;
    assert_eq!(salted["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(content(&salted), content(&again));
}

#[tokio::test]
async fn an_answer_that_is_not_complete_by_its_deadline_is_given_up() {
    let long = |more: Value| {
        let mut fields = json!({"max_tokens": 400, "ignore_eos": true});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        chat("Say hello.", fields)
    };
    for stream in [false, true] {
        let late = post("/v1/chat/completions", &long(json!({"deadline_ms": 1, "stream": stream}))).await;
        assert_eq!(late.status, 504, "{}", late.text);
        assert_eq!(late.json()["error"]["code"], "deadline_exceeded");
        assert_eq!(late.header("x-should-retry"), "false");
    }
    let answer = post("/v1/chat/completions", &long(json!({"deadline_ms": 86_400_000}))).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-should-retry")), (200, ""));
    for bad in [0, 86_400_001_u64] {
        let refused = post("/v1/chat/completions", &long(json!({"deadline_ms": bad}))).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.json()["error"]["param"]),
            (400, &json!("deadline_ms"))
        );
    }
}
