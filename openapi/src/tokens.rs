//! Prompts and tokens without running a model.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /v1/chat/completions/render`: exactly what the model would read for this chat request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenderResponse {
    /// The model whose template and tokenizer were used.
    pub model: String,
    /// The prompt's text.
    pub prompt: String,
    /// The prompt's tokens.
    pub token_ids: Vec<u32>,
    /// How many.
    pub count: u32,
    /// How many the server would take.
    pub prompt_tokens_max: u32,
}

/// `POST /tokenize`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeRequest {
    /// Whose tokenizer; may be left out where the server has one model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The text.
    #[serde(alias = "content")]
    pub prompt: String,
    /// Whether to add the tokens that the tokenizer puts around a text (default true).
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "add_special")]
    pub add_special_tokens: Option<bool>,
}

/// Answer to [`TokenizeRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeResponse {
    /// How many tokens.
    #[serde(default)]
    pub count: u32,
    /// Prompt and answer tokens together, at most.
    #[serde(default)]
    pub max_model_len: u32,
    /// The tokens.
    pub tokens: Vec<u32>,
}

/// `POST /detokenize`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeRequest {
    /// Whose tokenizer; may be left out where the server has one model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The tokens.
    pub tokens: Vec<u32>,
}

/// Answer to [`DetokenizeRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeResponse {
    /// The text, special tokens included.
    #[serde(alias = "content")]
    pub prompt: String,
}
