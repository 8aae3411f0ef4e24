//! OpenAI's error shape.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer with a status of 400 or above, and of an error in mid-stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

/// All four fields are always present; `param` and `code` may be null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// What went wrong and how to mend it.
    #[serde(default)]
    pub message: String,
    /// The family: `invalid_request_error`, `rate_limit_error`, `server_error`, …
    #[serde(default, rename = "type")]
    #[schema(required)]
    pub kind: Option<String>,
    /// The offending parameter.
    #[serde(default)]
    #[schema(required)]
    pub param: Option<String>,
    /// A word for programs, such as `context_length_exceeded`.
    #[serde(default, deserialize_with = "code")]
    #[schema(required)]
    pub code: Option<String>,
}

/// Other servers also send numbers as the code.
fn code<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(d)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(s) => Some(s),
        other => Some(other.to_string()),
    })
}
