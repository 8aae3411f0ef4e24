//! What a request cost.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Token counts of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    #[serde(default)]
    pub prompt_tokens: u32,
    /// Tokens of the answer, reasoning included.
    #[serde(default)]
    pub completion_tokens: u32,
    /// The sum of both.
    #[serde(default)]
    pub total_tokens: u32,
    /// Where the prompt's tokens came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
    /// What the answer's tokens were spent on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionTokensDetails>,
}

/// Part of [`Usage`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Prompt tokens taken from the prefix cache.
    #[serde(default)]
    pub cached_tokens: Option<u32>,
}

/// Part of [`Usage`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Answer tokens spent on reasoning.
    #[serde(default)]
    pub reasoning_tokens: Option<u32>,
}
