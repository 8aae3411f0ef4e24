//! Reading answers within bounds of bytes and time.

use std::time::Duration;

use bytes::Bytes;
use quarry_openapi::{ApiError, ErrorBody};
use serde::de::DeserializeOwned;

use crate::error::ClientError;

/// Characters of an unreadable answer that an error shows.
const EXCERPT_CHARS_MAX: usize = 200;

/// A response's body, piece by piece.
pub(crate) struct BoundedBody {
    response: reqwest::Response,
    url: String,
    left: usize,
    bytes_max: usize,
    idle_timeout: Duration,
    attempts: u32,
}

impl BoundedBody {
    pub(crate) fn new(
        response: reqwest::Response,
        bytes_max: usize,
        idle_timeout: Duration,
        attempts: u32,
    ) -> Self {
        let url = response.url().to_string();
        Self { response, url, left: bytes_max, bytes_max, idle_timeout, attempts }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        let next = tokio::time::timeout(self.idle_timeout, self.response.chunk()).await;
        let Ok(next) = next else {
            let (url, limit, attempts) = (self.url.clone(), self.idle_timeout, self.attempts);
            return Err(ClientError::Timeout { url, what: "the next piece of the answer", limit, attempts });
        };
        let piece = next.map_err(|source| ClientError::Connection {
            url: self.url.clone(),
            attempts: self.attempts,
            source: source.without_url(),
        })?;
        let Some(bytes) = piece else { return Ok(None) };
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or(ClientError::TooLarge { what: "the answer", bytes_max: self.bytes_max })?;
        Ok(Some(bytes))
    }

    /// All of it.
    pub(crate) async fn all(mut self) -> Result<Vec<u8>, ClientError> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

/// Parses an answer.
pub(crate) fn decode<T: DeserializeOwned>(url: String, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|source| ClientError::Decode { url, source, excerpt: excerpt(body) })
}

/// An error answer in OpenAI's shape, or the start of what came instead.
pub(crate) fn decode_error(body: &[u8]) -> ApiError {
    serde_json::from_slice::<ErrorBody>(body)
        .map(|body| body.error)
        .unwrap_or_else(|_| ApiError { message: excerpt(body), ..ApiError::default() })
}

pub(crate) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(EXCERPT_CHARS_MAX).collect()
}
