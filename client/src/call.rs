//! The client: one method per endpoint, one way of sending.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quarry_openapi::{
    ChatRequest, ChatResponse, DetokenizeRequest, DetokenizeResponse, Model, ModelList, RenderResponse,
    StreamOptions, TokenizeRequest, TokenizeResponse,
};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::{BoundedBody, decode, decode_error};
use crate::error::ClientError;
use crate::options::ClientOptions;
use crate::retry::{RetryPolicy, is_retryable, retry_after};
use crate::stream::ChatStream;

/// Connections are not used again after this: servers close idle ones, ours after 30 s, and a request on its way to a
/// closing one would have to be sent twice.
const POOL_IDLE: Duration = Duration::from_secs(20);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A client of one endpoint. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    options: Arc<ClientOptions>,
    /// With the version part, without a slash at its end.
    versioned: String,
    /// Without the version part.
    root: String,
    request_id: Option<HeaderValue>,
}

impl Client {
    /// Checks the options and sets up connections; connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Options`].
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        options.check()?;
        let bad = |message: String| ClientError::Options { message };
        let mut headers = HeaderMap::new();
        if let Some(key) = &options.api_key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                .map_err(|_| bad("api_key has characters that a header cannot carry".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("quarry/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(proxy) = &options.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|e| bad(format!("proxy: {e}")))?);
        }
        let http = builder.build().map_err(|e| bad(e.to_string()))?;
        let versioned = options.base_url.trim_end_matches('/').to_owned();
        let root = versioned.strip_suffix("/v1").unwrap_or(&versioned).to_owned();
        Ok(Self { http, options: Arc::new(options), versioned, root, request_id: None })
    }

    /// The same client, naming its requests `id` in both programs' logs. Characters that a header cannot carry
    /// leave the id out.
    pub fn with_request_id(&self, id: &str) -> Self {
        Self { request_id: HeaderValue::try_from(id).ok(), ..self.clone() }
    }

    /// Answers a conversation. `stream` is set to false.
    ///
    /// # Errors
    /// All of [`ClientError`].
    pub async fn chat(&self, request: &ChatRequest) -> Result<ChatResponse, ClientError> {
        let request = ChatRequest { stream: None, stream_options: None, ..request.clone() };
        self.json(Method::POST, format!("{}/chat/completions", self.versioned), Some(&request)).await
    }

    /// Answers a conversation piece by piece. `stream` is set to true, and usage is asked for where the request
    /// does not say otherwise. Tries again only until the stream begins.
    ///
    /// # Errors
    /// All of [`ClientError`]; more may come in the stream.
    pub async fn chat_stream(&self, request: &ChatRequest) -> Result<ChatStream, ClientError> {
        let mut request = ChatRequest { stream: Some(true), ..request.clone() };
        request
            .stream_options
            .get_or_insert_with(|| StreamOptions { include_usage: Some(true), ..StreamOptions::default() });
        let url = format!("{}/chat/completions", self.versioned);
        let options = &self.options;
        let mut tries = Tries::new(options.retry);
        loop {
            match self.open(&Method::POST, &url, Some(&request), tries.count).await {
                Ok(response) => {
                    let body =
                        BoundedBody::new(response, options.body_bytes_max, options.idle_timeout, tries.count);
                    return Ok(ChatStream::new(body, options.event_bytes_max));
                }
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    /// The endpoint's models.
    ///
    /// # Errors
    /// All of [`ClientError`].
    pub async fn models(&self) -> Result<Vec<Model>, ClientError> {
        let list: ModelList =
            self.json(Method::GET, format!("{}/models", self.versioned), None::<&()>).await?;
        Ok(list.data)
    }

    /// What the model would read for this request (Quarry only).
    ///
    /// # Errors
    /// All of [`ClientError`]; status 404 at other servers.
    pub async fn render(&self, request: &ChatRequest) -> Result<RenderResponse, ClientError> {
        let request = ChatRequest { stream: None, stream_options: None, ..request.clone() };
        self.json(Method::POST, format!("{}/chat/completions/render", self.versioned), Some(&request)).await
    }

    /// A text's tokens (Quarry, vLLM).
    ///
    /// # Errors
    /// All of [`ClientError`]; status 404 at other servers.
    pub async fn tokenize(&self, request: &TokenizeRequest) -> Result<TokenizeResponse, ClientError> {
        self.json(Method::POST, format!("{}/tokenize", self.root), Some(request)).await
    }

    /// Tokens' text (Quarry, vLLM).
    ///
    /// # Errors
    /// All of [`ClientError`]; status 404 at other servers.
    pub async fn detokenize(&self, request: &DetokenizeRequest) -> Result<DetokenizeResponse, ClientError> {
        self.json(Method::POST, format!("{}/detokenize", self.root), Some(request)).await
    }

    /// Whether the server's process answers (`/health`). One try.
    pub async fn is_healthy(&self) -> bool {
        self.probe("/health").await
    }

    /// Whether the server would serve a request now (`/ready`). One try.
    pub async fn is_ready(&self) -> bool {
        self.probe("/ready").await
    }

    async fn probe(&self, path: &str) -> bool {
        self.open(&Method::GET, &format!("{}{path}", self.root), None::<&()>, 1).await.is_ok()
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        url: String,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, ClientError> {
        let mut tries = Tries::new(self.options.retry);
        loop {
            match self.whole(&method, &url, body, tries.count).await {
                Ok(answer) => return decode(url, &answer),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    /// One attempt, to the last byte.
    async fn whole(
        &self,
        method: &Method,
        url: &str,
        body: Option<&(impl Serialize + Sync)>,
        attempts: u32,
    ) -> Result<Vec<u8>, Failure> {
        let limit = self.options.total_timeout;
        let attempt = async {
            let response = self.open(method, url, body, attempts).await?;
            // The total timeout is over it all, so the pieces need none of their own.
            let body = BoundedBody::new(response, self.options.body_bytes_max, limit, attempts);
            body.all().await.map_err(|error| match error {
                ClientError::Connection { .. } => Failure { error, asked: None, is_final: false },
                error => Failure::last(error),
            })
        };
        let timeout = |_| {
            let url = url.to_owned();
            Failure::last(ClientError::Timeout { url, what: "the answer", limit, attempts })
        };
        tokio::time::timeout(limit, attempt).await.map_err(timeout)?
    }

    /// One attempt, to the headers of a success.
    async fn open(
        &self,
        method: &Method,
        url: &str,
        body: Option<&(impl Serialize + Sync)>,
        attempts: u32,
    ) -> Result<Response, Failure> {
        let mut request = self.http.request(method.clone(), url);
        if let Some(id) = &self.request_id {
            request = request.header(REQUEST_ID, id.clone());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let url = url.to_owned();
        let limit = self.options.total_timeout;
        let response = match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(source)) => {
                let source = source.without_url();
                let is_final = source.is_builder();
                let error = ClientError::Connection { url, attempts, source };
                return Err(Failure { error, asked: None, is_final });
            }
            Err(_) => {
                return Err(Failure::last(ClientError::Timeout { url, what: "the answer", limit, attempts }));
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let asked = retry_after(response.headers(), SystemTime::now());
        let is_final = !is_retryable(status, response.headers());
        let request_id = response.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = BoundedBody::new(response, ERROR_BYTES_MAX, self.options.idle_timeout, attempts);
        // The status is what counts: a body that cannot be read leaves the message empty.
        let body = body.all().await.unwrap_or_default();
        let error = decode_error(&body);
        let error = Box::new(error);
        let error = ClientError::Status { status, error, retry_after: asked, request_id, url, attempts };
        Err(Failure { error, asked, is_final })
    }
}

/// Bytes of an error's body at most.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// A failed attempt.
struct Failure {
    error: ClientError,
    /// The pause the server asks for.
    asked: Option<Duration>,
    /// Another try would end the same.
    is_final: bool,
}

impl Failure {
    fn last(error: ClientError) -> Self {
        Self { error, asked: None, is_final: true }
    }
}

/// Counts attempts and pauses between them.
struct Tries {
    policy: RetryPolicy,
    /// The number of the attempt under way, from 1.
    count: u32,
}

impl Tries {
    fn new(policy: RetryPolicy) -> Self {
        Self { policy, count: 1 }
    }

    /// Pauses before the next attempt, or gives the error back.
    async fn again(&mut self, failure: Failure) -> Result<(), ClientError> {
        let pause =
            if failure.is_final { None } else { self.policy.pause(self.count, failure.asked, random_unit()) };
        let Some(pause) = pause else { return Err(failure.error) };
        tracing::debug!(
            attempt = self.count,
            pause_ms = pause.as_millis() as u64,
            error = %failure.error,
            "trying again"
        );
        tokio::time::sleep(pause).await;
        self.count += 1;
        Ok(())
    }
}

/// In `0..1`. The standard library seeds its hashers from the system's randomness.
fn random_unit() -> f64 {
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}
