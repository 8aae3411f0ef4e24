//! A streamed answer's pieces.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::usage::Usage;

/// One `data:` line of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChunk {
    /// The same in all chunks of an answer.
    #[serde(default)]
    pub id: String,
    /// Always `chat.completion.chunk`.
    #[serde(default)]
    pub object: String,
    /// Unix seconds, the same in all chunks of an answer.
    #[serde(default)]
    pub created: u64,
    /// The model that answers.
    #[serde(default)]
    pub model: String,
    /// One entry; none in the last chunk when `include_usage` was asked.
    #[serde(default)]
    pub choices: Vec<ChunkChoice>,
    /// In the last chunk when `include_usage` was asked; null in all others.
    #[schema(required)]
    pub usage: Option<Usage>,
}

/// What one chunk adds to a choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChunkChoice {
    /// Which choice.
    #[serde(default)]
    pub index: u32,
    /// What is added.
    #[serde(default)]
    pub delta: Delta,
    /// Null until the choice ends.
    #[schema(required)]
    pub finish_reason: Option<String>,
    /// Always null here.
    #[schema(required)]
    pub logprobs: Option<Value>,
}

/// Readers concatenate each string field over all chunks, so each piece is sent once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delta {
    /// In the first chunk only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// A piece of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A piece of the reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The same under its other name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}
