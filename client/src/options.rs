//! What a client is told once.

use std::fmt;
use std::time::Duration;

use crate::error::ClientError;
use crate::retry::RetryPolicy;

/// Options of a [`crate::Client`]; start from [`ClientOptions::new`].
#[derive(Clone)]
pub struct ClientOptions {
    /// With the version part, as OpenAI's SDKs take it: `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// Sent as a bearer token; never logged.
    pub api_key: Option<String>,
    /// An HTTP proxy; the environment is not consulted.
    pub proxy: Option<String>,
    /// To open a connection. Default 5 s.
    pub connect_timeout: Duration,
    /// Between two pieces of a body. A server's keep-alive comments count as pieces. Default 60 s.
    pub idle_timeout: Duration,
    /// One attempt from start to the last byte, or for a stream to its headers. Default 600 s.
    pub total_timeout: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Bytes of an answer at most, over all of a stream. Default 16 MiB.
    pub body_bytes_max: usize,
    /// Bytes of one event of a stream at most. Default 1 MiB.
    pub event_bytes_max: usize,
}

impl ClientOptions {
    /// Defaults for the endpoint at `base_url`.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(600),
            retry: RetryPolicy::default(),
            body_bytes_max: 16 << 20,
            event_bytes_max: 1 << 20,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let bad = |message: String| Err(ClientError::Options { message });
        let url = match reqwest::Url::parse(&self.base_url) {
            Ok(url) => url,
            Err(e) => return bad(format!("base_url {:?}: {e}", self.base_url)),
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return bad(format!("base_url {:?} is not an http or https address", self.base_url));
        }
        let timeouts = [self.connect_timeout, self.idle_timeout, self.total_timeout];
        if timeouts.iter().any(Duration::is_zero) {
            return bad("a timeout is zero".to_owned());
        }
        if self.body_bytes_max == 0 || self.event_bytes_max == 0 {
            return bad("a bound on bytes is zero".to_owned());
        }
        Ok(())
    }
}

/// Without the key.
impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("base_url", &self.base_url)
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("proxy", &self.proxy)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("total_timeout", &self.total_timeout)
            .field("retry", &self.retry)
            .field("body_bytes_max", &self.body_bytes_max)
            .field("event_bytes_max", &self.event_bytes_max)
            .finish()
    }
}
