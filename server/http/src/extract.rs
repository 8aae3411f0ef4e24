//! Bodies: bounded in bytes and time, JSON whatever the content type says, mistakes named by their path.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

use crate::error::HttpError;
use crate::state::{AppState, BodyRoom};

/// A request's body as a wire type, and the room it takes, to be held as long as its text is.
pub(crate) struct WireJson<T>(pub T, pub BodyRoom);

impl<T: DeserializeOwned> FromRequest<AppState> for WireJson<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, HttpError> {
        let limits = state.limits();
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > limits.body_bytes_max) {
            return Err(HttpError::body_too_large(limits.body_bytes_max));
        }
        let reading = read(request.into_body(), state);
        let body = tokio::time::timeout(limits.body_timeout, reading).await;
        let (body, room) = body.map_err(|_| HttpError::body_timeout())??;
        Ok(Self(parse(&body)?, room))
    }
}

async fn read(body: Body, state: &AppState) -> Result<(Vec<u8>, BodyRoom), HttpError> {
    let bytes_max = state.limits().body_bytes_max;
    let mut room = state.body_room()?;
    let mut pieces = body.into_data_stream();
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|e| HttpError::malformed(format!("the body could not be read: {e}")))?;
        if all.len() + piece.len() > bytes_max {
            return Err(HttpError::body_too_large(bytes_max));
        }
        room.grow(state, all.len() + piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok((all, room))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, HttpError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed: Result<T, _> = serde_path_to_error::deserialize(&mut json);
    let parsed = match parsed {
        Ok(value) => json.end().map(|()| value).map_err(|e| (String::new(), e)),
        Err(error) => Err((error.path().to_string(), error.into_inner())),
    };
    parsed.map_err(|(path, error)| {
        let message = error.to_string();
        if !error.is_data() {
            return HttpError::malformed(format!("the body is not valid JSON: {message}"));
        }
        // A missing field is reported at its parent's path; the field itself is what the client must mend.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let parent = path.trim_matches('.');
        let param = match missing {
            Some(field) if parent.is_empty() => field.to_owned(),
            Some(field) => format!("{parent}.{field}"),
            None => parent.to_owned(),
        };
        if param.is_empty() { HttpError::malformed(message) } else { HttpError::invalid(param, message) }
    })
}

#[cfg(test)]
mod tests {
    use quarry_openapi::ChatRequest;

    use super::*;

    #[test]
    fn mistakes_are_named_by_their_path() {
        for (body, param, words) in [
            ("", None, "not valid JSON"),
            ("{\"model\": ", None, "not valid JSON"),
            ("{} x", Some("model"), "missing field"),
            ("[]", None, "struct ChatRequest"),
            (r#"{"model":"m"}"#, Some("messages"), "missing field"),
            (r#"{"model":3,"messages":[]}"#, Some("model"), "expected a string"),
            (r#"{"model":"m","messages":[{"content":"x"}]}"#, Some("messages[0].role"), "missing field"),
            (
                r#"{"model":"m","messages":[{"role":"user","content":7}]}"#,
                Some("messages[0].content"),
                "list of",
            ),
            (r#"{"model":"m","messages":[],"temperature":"hot"}"#, Some("temperature"), "f32"),
            (r#"{"model":"m","messages":[],"max_tokens":-1}"#, Some("max_tokens"), "u32"),
            (r#"{"model":"m","messages":[],"stop":[1]}"#, Some("stop"), "a list of strings"),
            (
                r#"{"model":"m","messages":[],"response_format":{"type":"xml"}}"#,
                Some("response_format.type"),
                "xml",
            ),
            (r#"{"model":"m","messages":[]} true"#, None, "trailing characters"),
        ] {
            let error = parse::<ChatRequest>(body.as_bytes()).unwrap_err();
            assert_eq!(error.status, 400, "{body}");
            assert_eq!(error.param.as_deref(), param, "{body}: {}", error.message);
            assert!(error.message.contains(words), "{body}: {}", error.message);
        }
    }
}
