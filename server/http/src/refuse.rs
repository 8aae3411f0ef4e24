//! Parameters that are known by name and not served: a 400 that names them, where their value would change the
//! answer. A value that asks for what happens anyway is accepted.

use quarry_openapi::ChatRequest;
use serde_json::Value;

use crate::error::HttpError;

/// Refuses the first parameter that cannot be honoured.
pub(crate) fn refuse(request: &ChatRequest) -> Result<(), HttpError> {
    let r = request;
    let tool_choice = |v: &Value| v != "none" && v != "auto";
    let one = "only one choice is generated";
    let tools = "tool calls are not built";
    let guided = "use `response_format`";
    let thinking = "thinking cannot be tuned; use `chat_template_kwargs`";
    let text = "only text is generated";
    let checks = [
        ("n", r.n.is_some_and(|n| n != 1), one),
        ("logprobs", r.logprobs == Some(true), "log probabilities are not built"),
        ("top_logprobs", r.top_logprobs.is_some_and(|n| n > 0), "log probabilities are not built"),
        ("typical_p", r.typical_p.is_some_and(|p| p != 1.0), "use `top_p` or `min_p`"),
        ("tools", r.tools.as_ref().is_some_and(|t| !t.is_empty()), tools),
        ("tool_choice", r.tool_choice.as_ref().is_some_and(tool_choice), tools),
        ("functions", r.functions.is_some(), tools),
        ("function_call", r.function_call.as_ref().is_some_and(tool_choice), tools),
        ("reasoning_effort", r.reasoning_effort.is_some(), thinking),
        ("thinking_token_budget", r.thinking_token_budget.is_some(), thinking),
        ("verbosity", r.verbosity.is_some(), "ask for it in the messages"),
        ("prediction", r.prediction.is_some(), "predicted outputs are not built"),
        ("modalities", r.modalities.as_ref().is_some_and(|m| m.iter().any(|m| m != "text")), text),
        ("audio", r.audio.is_some(), text),
        ("web_search_options", r.web_search_options.is_some(), "this server searches nothing"),
        ("structured_outputs", r.structured_outputs.is_some(), guided),
        ("guided_json", r.guided_json.is_some(), guided),
        ("guided_regex", r.guided_regex.is_some(), guided),
        ("guided_choice", r.guided_choice.is_some(), guided),
        ("guided_grammar", r.guided_grammar.is_some(), guided),
    ];
    match checks.into_iter().find(|(_, refused, _)| *refused) {
        Some((param, _, why)) => Err(HttpError::not_served(param, why)),
        None => Ok(()),
    }
}

/// The `warnings` header: fields that nobody knows, and that changed nothing. `None` where there are none.
pub(crate) fn warnings(request: &ChatRequest) -> Option<String> {
    /// Fields named in the header, and characters of each name.
    const NAMED_MAX: usize = 16;
    const NAME_CHARS_MAX: usize = 64;
    let name = |key: &String| {
        // A header carries visible ASCII; `escape_default` leaves nothing else.
        let short: String = key.chars().take(NAME_CHARS_MAX).collect();
        format!("unknown field `{}` ignored", short.escape_default())
    };
    let mut parts: Vec<String> = request.unknown.keys().take(NAMED_MAX).map(name).collect();
    let more = request.unknown.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        parts.push(format!("{more} more unknown fields ignored"));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(field: &str, value: Value) -> ChatRequest {
        let mut wire = json!({"model": "m", "messages": []});
        wire[field] = value;
        serde_json::from_value(wire).unwrap()
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (field, value) in [
            ("n", json!(2)),
            ("logprobs", json!(true)),
            ("top_logprobs", json!(3)),
            ("typical_p", json!(0.5)),
            ("tools", json!([{"type": "function"}])),
            ("tool_choice", json!("required")),
            ("tool_choice", json!({"type": "function", "function": {"name": "f"}})),
            ("functions", json!([])),
            ("function_call", json!({"name": "f"})),
            ("reasoning_effort", json!("high")),
            ("thinking_token_budget", json!(10)),
            ("verbosity", json!("low")),
            ("prediction", json!({"type": "content"})),
            ("modalities", json!(["text", "audio"])),
            ("audio", json!({"voice": "x"})),
            ("web_search_options", json!({})),
            ("structured_outputs", json!({"regex": "a"})),
            ("guided_json", json!({})),
            ("guided_regex", json!("a")),
            ("guided_choice", json!(["a"])),
            ("guided_grammar", json!("a")),
        ] {
            let error = refuse(&request(field, value)).unwrap_err();
            assert_eq!((error.param.as_deref(), error.status.as_u16()), (Some(field), 400));
            assert!(error.message.contains(field));
        }
    }

    #[test]
    fn what_asks_for_nothing_special_is_accepted() {
        for (field, value) in [
            ("n", json!(1)),
            ("logprobs", json!(false)),
            ("top_logprobs", json!(0)),
            ("tools", json!([])),
            ("tool_choice", json!("none")),
            ("modalities", json!(["text"])),
            ("audio", Value::Null),
            ("user", json!("u")),
            ("metadata", json!({"a": "b"})),
            ("store", json!(false)),
            ("service_tier", json!("auto")),
        ] {
            let request = request(field, value);
            assert_eq!(refuse(&request), Ok(()), "{field}");
            assert_eq!(warnings(&request), None, "{field}");
        }
    }

    #[test]
    fn unknown_fields_are_named_in_a_header_that_can_be_sent() {
        let warning = warnings(&request("gr\u{fc}n\n", json!(1))).unwrap();
        assert_eq!(warning, "unknown field `gr\\u{fc}n\\n` ignored");
        let mut many = request("a", json!(1));
        many.unknown = (0..50).map(|i| ("x".repeat(200) + &i.to_string(), json!(1))).collect();
        let warning = warnings(&many).unwrap();
        assert!(warning.ends_with("34 more unknown fields ignored") && warning.len() < 2000, "{warning}");
    }
}
