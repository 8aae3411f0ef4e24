//! The wire types read what SDKs send and write what SDKs read.

use quarry_openapi::{
    ChatChunk, ChatMessage, ChatRequest, ChatResponse, Content, ErrorBody, ResponseFormat, Stop,
};
use serde_json::json;

#[test]
fn a_request_keeps_unknown_fields_apart_and_round_trips() {
    let wire = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}],
        "stop": ["a", "b"], "seed": -1, "temperature": 0.5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "frobnicate": {"x": 1}
    });
    let request: ChatRequest = serde_json::from_value(wire.clone()).unwrap();
    assert_eq!(request.unknown.keys().collect::<Vec<_>>(), ["frobnicate"]);
    assert_eq!(request.stop, Some(Stop::Many(vec!["a".into(), "b".into()])));
    assert!(matches!(request.response_format, Some(ResponseFormat::JsonSchema { .. })));
    assert_eq!(serde_json::to_value(&request).unwrap(), wire);
}

#[test]
fn an_unset_field_is_not_sent() {
    let request =
        ChatRequest { model: "m".into(), messages: vec![ChatMessage::user("hi")], ..Default::default() };
    assert_eq!(
        serde_json::to_value(&request).unwrap(),
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    );
}

#[test]
fn content_is_a_string_or_parts_and_says_so() {
    let message: ChatMessage =
        serde_json::from_value(json!({"role": "user", "content": [{"type": "text", "text": "a"}]})).unwrap();
    assert!(matches!(message.content, Some(Content::Parts(ref parts)) if parts.len() == 1));
    let null: ChatMessage = serde_json::from_value(json!({"role": "assistant", "content": null})).unwrap();
    assert_eq!(null.content, None);
    let error = serde_json::from_value::<ChatMessage>(json!({"role": "user", "content": 3})).unwrap_err();
    assert!(error.to_string().contains("a string or a list of content parts"), "{error}");
}

#[test]
fn answers_of_sparser_servers_are_read() {
    let answer: ChatResponse = serde_json::from_value(json!({
        "id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", "annotations": []},
        "finish_reason": "stop"}], "system_fingerprint": null
    }))
    .unwrap();
    assert_eq!(answer.text(), Some("hi"));
    let chunk: ChatChunk = serde_json::from_value(json!({
        "choices": [{"delta": {"content": "h", "refusal": null}, "index": 0}], "obfuscation": "xxxx"
    }))
    .unwrap();
    assert_eq!(chunk.choices[0].delta.content.as_deref(), Some("h"));
    let error: ErrorBody =
        serde_json::from_value(json!({"error": {"message": "no", "type": "x", "code": 429}})).unwrap();
    assert_eq!(error.error.code.as_deref(), Some("429"));
}

#[test]
fn an_answer_is_complete() {
    let body: ErrorBody = serde_json::from_value(json!({"error": {"message": "no"}})).unwrap();
    assert_eq!(
        serde_json::to_value(&body).unwrap(),
        json!({"error": {"message": "no", "type": null, "param": null, "code": null}})
    );
    let answer: ChatResponse =
        serde_json::from_value(json!({"choices": [{"message": {"content": null}}]})).unwrap();
    let written = serde_json::to_value(&answer).unwrap();
    for field in ["finish_reason", "index", "message", "logprobs"] {
        assert!(written["choices"][0].get(field).is_some(), "{field} is missing");
    }
    for field in ["content", "refusal"] {
        assert!(written["choices"][0]["message"].get(field).is_some(), "{field} is missing");
    }
}
