//! What can go wrong, with what a caller needs to decide.

use std::time::Duration;

use quarry_openapi::ApiError;

/// An error of the client. `attempts` counts all tries made, the last one included.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The options make no sense.
    #[error("client options: {message}")]
    Options {
        /// Which and why.
        message: String,
    },
    /// The server answered with an error.
    #[error("{url} answered {status}{}: {} (attempts: {attempts})", code_of(error), error.message)]
    Status {
        /// The HTTP status.
        status: u16,
        /// The error as sent, or the start of a body that is not in OpenAI's shape.
        error: Box<ApiError>,
        /// When the server asks to come back.
        retry_after: Option<Duration>,
        /// The server's name for this request, for its logs.
        request_id: Option<String>,
        /// Where.
        url: String,
        /// Tries made.
        attempts: u32,
    },
    /// No answer: not connected, or the connection broke.
    #[error("{url} could not be reached (attempts: {attempts})")]
    Connection {
        /// Where.
        url: String,
        /// Tries made.
        attempts: u32,
        /// Why.
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("{url}: {what} took longer than {} s (attempts: {attempts})", limit.as_secs_f64())]
    Timeout {
        /// Where.
        url: String,
        /// What took too long.
        what: &'static str,
        /// The limit.
        limit: Duration,
        /// Tries made.
        attempts: u32,
    },
    /// More bytes than allowed.
    #[error("{what} is longer than {bytes_max} bytes")]
    TooLarge {
        /// The body, or one event.
        what: &'static str,
        /// The bound.
        bytes_max: usize,
    },
    /// The answer is not what the interface says.
    #[error("{url}: the answer cannot be read: {source}; it starts {excerpt:?}")]
    Decode {
        /// Where.
        url: String,
        /// Why.
        source: serde_json::Error,
        /// The first characters of the answer.
        excerpt: String,
    },
    /// The server reported a failure after the stream had begun.
    #[error("the answer broke off{}: {}", code_of(error), error.message)]
    MidStream {
        /// The error as sent.
        error: ApiError,
    },
    /// The stream ended before the answer did.
    #[error("the stream ended before the answer did")]
    Interrupted,
}

impl ClientError {
    /// The HTTP status, where the server answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The server's error, where it sent one.
    pub fn api_error(&self) -> Option<&ApiError> {
        match self {
            Self::Status { error, .. } => Some(error),
            Self::MidStream { error } => Some(error),
            _ => None,
        }
    }

    /// Tries made, where that is known.
    pub fn attempts(&self) -> Option<u32> {
        match self {
            Self::Status { attempts, .. }
            | Self::Connection { attempts, .. }
            | Self::Timeout { attempts, .. } => Some(*attempts),
            _ => None,
        }
    }

    /// Whether the prompt was too long for the model.
    pub fn is_context_length(&self) -> bool {
        self.api_error().and_then(|e| e.code.as_deref()) == Some("context_length_exceeded")
    }
}

fn code_of(error: &ApiError) -> String {
    error.code.as_ref().map(|code| format!(" {code}")).unwrap_or_default()
}
