//! Values as JSON in columns, and back.

use crate::error::AgentError;

pub(super) fn to_json(what: &'static str, value: &impl serde::Serialize) -> Result<String, AgentError> {
    serde_json::to_string(value).map_err(|source| AgentError::Stored { what, source })
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    json: &str,
) -> Result<T, AgentError> {
    serde_json::from_str(json).map_err(|source| AgentError::Stored { what, source })
}
