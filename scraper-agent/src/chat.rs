//! Asking a model, as a seam: the real client, and what tests put in its place.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quarry_client::{Client, ClientError};
use quarry_openapi::{ChatRequest, ChatResponse};

/// Why a model gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ChatError {
    /// What happened and where.
    pub message: String,
    /// The prompt was too long for the model: asking again is useless.
    pub is_too_long: bool,
}

/// One OpenAI-compatible endpoint.
pub trait Chat: Send + Sync {
    /// Answers a conversation.
    fn chat<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ChatError>>;
}

impl Chat for Client {
    fn chat<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ChatError>> {
        async move { Client::chat(self, request).await.map_err(ChatError::from) }.boxed()
    }
}

impl From<ClientError> for ChatError {
    fn from(error: ClientError) -> Self {
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        Self { message, is_too_long: error.is_context_length() }
    }
}
