//! Asking a model, as a seam: the real client, and what tests put in its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    /// What it says about the page and about the endpoint.
    pub kind: ChatErrorKind,
    /// The pause the endpoint asks for.
    pub retry_after: Option<Duration>,
}

/// What an error says about the page and about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatErrorKind {
    /// The endpoint serves nobody now: not reached, no answer in time, overloaded, broken, or it does not know us or the
    /// model. It says nothing about the page.
    Unavailable,
    /// The prompt was too long for the model: asking again is useless.
    TooLong,
    /// This request got no usable answer.
    Request,
}

impl ChatError {
    /// An error of this request alone.
    pub fn of_request(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: ChatErrorKind::Request, retry_after: None }
    }
}

/// One OpenAI-compatible endpoint.
pub trait Chat: Send + Sync {
    /// Answers a conversation.
    fn chat<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ChatError>>;
}

impl Chat for Client {
    fn chat<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatResponse, ChatError>> {
        async move {
            let id = request_id();
            let started = Instant::now();
            let answer = self.with_request_id(&id).chat(request).await;
            // The same field names as in the server's line of the same request.
            let seconds = started.elapsed().as_secs_f64();
            let usage = answer.as_ref().map(|answer| answer.usage.clone()).unwrap_or_default();
            tracing::info!(
                request_id = %id,
                model = %request.model,
                prompt_tokens = usage.prompt_tokens,
                completion_tokens = usage.completion_tokens,
                seconds,
                "model asked"
            );
            answer.map_err(ChatError::from)
        }
        .boxed()
    }
}

/// Names a request in both programs' logs.
fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("agent-{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl From<ClientError> for ChatError {
    fn from(error: ClientError) -> Self {
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        let kind = match &error {
            error if error.is_context_length() => ChatErrorKind::TooLong,
            ClientError::Connection { .. } | ClientError::Timeout { .. } | ClientError::Interrupted => {
                ChatErrorKind::Unavailable
            }
            ClientError::Status { status: 401 | 403 | 404 | 408 | 429 | 500.., .. } => {
                ChatErrorKind::Unavailable
            }
            _ => ChatErrorKind::Request,
        };
        let retry_after = match &error {
            ClientError::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        Self { message, kind, retry_after }
    }
}
