//! Wire request to engine request: every default resolved, every bound checked, nothing left open but the prompt.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quarry_core::request::SamplingParams;
use quarry_openapi::{ChatMessage, ChatRequest, Content, ResponseFormat, Stop};
use quarry_runtime::{Generate, ServedModel};
use quarry_text::constraint::ConstraintSpec;
use serde_json::{Map, Value, json};

use crate::error::HttpError;
use crate::limits::Limits;

/// A checked chat request.
pub(crate) struct Asked {
    /// As the chat template takes them.
    pub messages: Vec<Value>,
    /// Further variables of the template.
    pub kwargs: Map<String, Value>,
    /// All but the prompt.
    pub generate: Generate,
    pub stream: bool,
    pub include_usage: bool,
}

/// Checks and converts; `random_seed` is used where the request has none.
pub(crate) fn chat(
    request: ChatRequest,
    model: Arc<ServedModel>,
    limits: &Limits,
    request_id: &str,
    random_seed: u64,
) -> Result<Asked, HttpError> {
    let messages = messages(&request.messages, limits)?;
    let vocabulary = model.text.tokenizer.vocab_size();
    let sampling = sampling(&request, vocabulary, random_seed)?;
    let stream = request.stream.unwrap_or(false);
    if !stream && request.stream_options.is_some() {
        return Err(HttpError::invalid("stream_options", "`stream_options` needs `stream: true`"));
    }
    let tokens_max = request.max_completion_tokens.or(request.max_tokens);
    let tokens_min = request.min_tokens.unwrap_or(0);
    if tokens_max.is_some_and(|max| max < tokens_min) {
        return Err(HttpError::invalid("min_tokens", "`min_tokens` is more than `max_completion_tokens`"));
    }
    let stop_tokens = request.stop_token_ids.clone().unwrap_or_default();
    if stop_tokens.len() > limits.stop_tokens_max {
        let message = format!("{} entries, at most {} are taken", stop_tokens.len(), limits.stop_tokens_max);
        return Err(HttpError::invalid("stop_token_ids", message));
    }
    if let Some(id) = stop_tokens.iter().find(|&&id| id as usize >= vocabulary) {
        return Err(HttpError::invalid("stop_token_ids", no_token(id, vocabulary)));
    }
    let (priority, priority_min) = (request.priority.unwrap_or(0), limits.priority_min);
    if priority < priority_min {
        let message = format!("{priority} would overtake others: this server takes {priority_min} or more");
        return Err(HttpError::invalid("priority", message));
    }
    let generate = Generate {
        model,
        prompt: Vec::new(),
        sampling,
        tokens_max,
        tokens_min,
        stop_tokens,
        ignore_eos: request.ignore_eos.unwrap_or(false),
        stop_strings: stop_strings(request.stop, limits)?,
        constraint: constraint(request.response_format)?,
        forced_tokens: request.forced_tokens,
        drafts: request.drafts,
        priority,
        deadline: deadline(request.deadline_ms, limits)?,
        client: 0,
        cache_salt: request.cache_salt.as_deref().map_or(0, salt),
        request_id: request_id.to_owned(),
    };
    let include_usage = request.stream_options.and_then(|o| o.include_usage).unwrap_or(false);
    let kwargs = request.chat_template_kwargs.unwrap_or_default();
    Ok(Asked { messages, kwargs, generate, stream, include_usage })
}

/// From now on: the request has just been read.
fn deadline(asked_ms: Option<u64>, limits: &Limits) -> Result<Option<Instant>, HttpError> {
    let Some(ms) = asked_ms else { return Ok(None) };
    let within = Duration::from_millis(ms);
    if within.is_zero() || within > limits.deadline_max {
        let message = format!("deadline_ms is {ms}; it must be 1 to {}", limits.deadline_max.as_millis());
        return Err(HttpError::invalid("deadline_ms", message));
    }
    Ok(Instant::now().checked_add(within))
}

fn no_token(id: impl std::fmt::Display, vocabulary: usize) -> String {
    format!("{id} is no token of this model; it has {vocabulary}")
}

fn messages(messages: &[ChatMessage], limits: &Limits) -> Result<Vec<Value>, HttpError> {
    if messages.is_empty() {
        return Err(HttpError::invalid("messages", "there must be at least one message"));
    }
    if messages.len() > limits.messages_max {
        let message = format!("{} messages, at most {} are taken", messages.len(), limits.messages_max);
        return Err(HttpError::invalid("messages", message));
    }
    messages.iter().enumerate().map(|(i, m)| message(i, m)).collect()
}

fn message(index: usize, message: &ChatMessage) -> Result<Value, HttpError> {
    let role = match message.role.as_str() {
        // Templates know the older name only.
        "developer" => "system",
        role @ ("system" | "user" | "assistant") => role,
        "tool" | "function" => {
            let param = format!("messages[{index}].role");
            return Err(HttpError::not_served(&param, "tool calls are not built"));
        }
        other => {
            let words = format!("{other:?} is none of system, developer, user, assistant");
            return Err(HttpError::invalid(format!("messages[{index}].role"), words));
        }
    };
    if message.tool_calls.as_ref().is_some_and(|calls| calls.as_array().is_none_or(|c| !c.is_empty())) {
        let param = format!("messages[{index}].tool_calls");
        return Err(HttpError::not_served(&param, "tool calls are not built"));
    }
    let content = match &message.content {
        None if role == "assistant" => String::new(),
        None => {
            let param = format!("messages[{index}].content");
            return Err(HttpError::invalid(param, "a message of this role needs content"));
        }
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => {
            let mut joined = String::new();
            for (p, part) in parts.iter().enumerate() {
                let param = format!("messages[{index}].content[{p}]");
                match (part.kind.as_str(), &part.text) {
                    ("text" | "input_text", Some(text)) => joined.push_str(text),
                    ("text" | "input_text", None) => {
                        return Err(HttpError::invalid(param + ".text", "a text part needs `text`"));
                    }
                    (kind, _) => {
                        let why = format!("{kind:?} parts are not taken, only text");
                        return Err(HttpError::not_served(&(param + ".type"), &why));
                    }
                }
            }
            joined
        }
    };
    let mut value = json!({"role": role, "content": content});
    if let Some(name) = &message.name {
        value["name"] = name.as_str().into();
    }
    if let Some(reasoning) = message.reasoning_content.as_ref().or(message.reasoning.as_ref()) {
        value["reasoning_content"] = reasoning.as_str().into();
    }
    Ok(value)
}

/// Ranges are the engine's to check; here only what it cannot see is.
fn sampling(request: &ChatRequest, vocabulary: usize, random_seed: u64) -> Result<SamplingParams, HttpError> {
    let neutral = SamplingParams::default();
    let top_k = match request.top_k {
        None | Some(-1) => 0,
        Some(k) => u32::try_from(k).map_err(|_| {
            HttpError::invalid("top_k", format!("top_k is {k}; it must be -1 or 0 (all), or more"))
        })?,
    };
    let mut logit_bias = Vec::new();
    for (key, &bias) in request.logit_bias.iter().flatten() {
        match key.parse::<u32>() {
            Ok(id) if (id as usize) < vocabulary => logit_bias.push((id, bias)),
            _ => return Err(HttpError::invalid("logit_bias", no_token(format!("{key:?}"), vocabulary))),
        }
    }
    Ok(SamplingParams {
        temperature: request.temperature.unwrap_or(neutral.temperature),
        top_k,
        top_p: request.top_p.unwrap_or(neutral.top_p),
        min_p: request.min_p.unwrap_or(neutral.min_p),
        repetition_penalty: request.repetition_penalty.unwrap_or(neutral.repetition_penalty),
        presence_penalty: request.presence_penalty.unwrap_or(neutral.presence_penalty),
        frequency_penalty: request.frequency_penalty.unwrap_or(neutral.frequency_penalty),
        logit_bias,
        seed: request.seed.map_or(random_seed, i64::cast_unsigned),
    })
}

fn stop_strings(stop: Option<Stop>, limits: &Limits) -> Result<Vec<String>, HttpError> {
    let strings = match stop {
        None => Vec::new(),
        Some(Stop::One(one)) => vec![one],
        Some(Stop::Many(many)) => many,
    };
    if strings.len() > limits.stop_strings_max {
        let message = format!("{} strings, at most {} are taken", strings.len(), limits.stop_strings_max);
        return Err(HttpError::invalid("stop", message));
    }
    for string in &strings {
        if string.is_empty() || string.len() > limits.stop_string_bytes_max {
            let message = format!("a stop string must have 1 to {} bytes", limits.stop_string_bytes_max);
            return Err(HttpError::invalid("stop", message));
        }
    }
    Ok(strings)
}

fn constraint(format: Option<ResponseFormat>) -> Result<Option<ConstraintSpec>, HttpError> {
    /// Characters of a schema's name, as OpenAI has it.
    const NAME_MAX: usize = 64;
    match format {
        None | Some(ResponseFormat::Text) => Ok(None),
        Some(ResponseFormat::JsonObject) => Ok(Some(ConstraintSpec::JsonObject)),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            let name = &json_schema.name;
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(allowed) {
                let message = format!("{name:?} is not 1 to {NAME_MAX} of letters, digits, _ and -");
                return Err(HttpError::invalid("response_format.json_schema.name", message));
            }
            Ok(Some(ConstraintSpec::JsonSchema(json_schema.schema)))
        }
    }
}

/// The same for the same text in every process. 0 is no salt, so no text gets it.
fn salt(text: &str) -> u64 {
    stable_hash(text.as_bytes()) | 1
}

/// The same for the same bytes in every process.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(value: Value) -> ChatMessage {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn messages_become_what_templates_take() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        for (sent, taken) in [
            (json!({"role": "developer", "content": "x"}), json!({"role": "system", "content": "x"})),
            (json!({"role": "user", "content": parts}), json!({"role": "user", "content": "ab"})),
            (json!({"role": "assistant"}), json!({"role": "assistant", "content": ""})),
            (
                json!({"role": "assistant", "content": "y", "reasoning": "r", "tool_calls": []}),
                json!({"role": "assistant", "content": "y", "reasoning_content": "r"}),
            ),
        ] {
            assert_eq!(message(0, &wire(sent)).unwrap(), taken);
        }
    }

    #[test]
    fn messages_that_cannot_be_taken_are_named() {
        for (sent, param) in [
            (json!({"role": "wizard", "content": "x"}), "messages[2].role"),
            (json!({"role": "tool", "content": "x"}), "messages[2].role"),
            (json!({"role": "user"}), "messages[2].content"),
            (json!({"role": "user", "content": [{"type": "image_url"}]}), "messages[2].content[0].type"),
            (json!({"role": "user", "content": [{"type": "text"}]}), "messages[2].content[0].text"),
            (json!({"role": "assistant", "tool_calls": [{}]}), "messages[2].tool_calls"),
        ] {
            let error = message(2, &wire(sent)).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)));
        }
    }

    fn request(fields: Value) -> ChatRequest {
        let mut wire = json!({"model": "m", "messages": []});
        wire.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(wire).unwrap()
    }

    #[test]
    fn sampling_has_neutral_defaults_and_a_seed() {
        let neutral = SamplingParams { seed: 7, ..SamplingParams::default() };
        assert_eq!(sampling(&request(json!({})), 10, 7).unwrap(), neutral);
        let all =
            json!({"temperature": 0.5, "top_k": -1, "top_p": 0.25, "seed": -1, "logit_bias": {"9": -100}});
        let given = sampling(&request(all), 10, 7).unwrap();
        assert_eq!((given.temperature, given.top_k, given.top_p), (0.5, 0, 0.25));
        assert_eq!((given.seed, given.logit_bias), (u64::MAX, vec![(9, -100.0)]));
        for (fields, param) in [
            (json!({"top_k": -2}), "top_k"),
            (json!({"logit_bias": {"10": 1}}), "logit_bias"),
            (json!({"logit_bias": {"x": 1}}), "logit_bias"),
        ] {
            let error = sampling(&request(fields), 10, 7).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn a_deadline_is_ahead_and_not_too_far() {
        let limits = Limits { deadline_max: Duration::from_secs(5), ..Limits::default() };
        assert_eq!(deadline(None, &limits).unwrap(), None);
        let at = deadline(Some(5_000), &limits).unwrap().unwrap();
        assert!(at <= Instant::now() + limits.deadline_max);
        for bad in [0, 5_001, u64::MAX] {
            assert_eq!(deadline(Some(bad), &limits).unwrap_err().param.as_deref(), Some("deadline_ms"));
        }
    }

    #[test]
    fn stop_and_response_format_are_bounded() {
        let limits = Limits::default();
        assert_eq!(stop_strings(Some(Stop::One("a".into())), &limits).unwrap(), ["a"]);
        for bad in [vec!["a".to_owned(); 5], vec![String::new()], vec!["a".repeat(257)]] {
            let error = stop_strings(Some(Stop::Many(bad)), &limits).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("stop"));
        }
        let format = |name: &str| {
            let schema = json!({"type": "json_schema", "json_schema": {"name": name, "schema": true}});
            constraint(serde_json::from_value(schema).unwrap())
        };
        assert_eq!(format("a-Z_9").unwrap(), Some(ConstraintSpec::JsonSchema(Value::Bool(true))));
        for bad in ["", "a b", &"a".repeat(65)] {
            let error = format(bad).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("response_format.json_schema.name"));
        }
    }
}
