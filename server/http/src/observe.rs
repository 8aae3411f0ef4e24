//! One layer around every request: its id in and out, a span, HTTP metrics, one log line when it has its status.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tracing::Instrument as _;

use crate::error::LoggedError;
use crate::metrics::HttpSizes;
use crate::state::AppState;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The route that says whether requests would be taken; asked again and again while the server loads.
const READY: &str = "/ready";
/// Bytes of a client's own request id; a longer one is replaced.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The request's name in logs and in the answer's header.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub String);

/// The layer.
pub(crate) async fn request(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = id_of(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    // Metrics are labelled by route, never by path, so that clients cannot make labels.
    let matched = request.extensions().get::<MatchedPath>();
    let handler = matched.map_or_else(|| "none".to_owned(), |m| m.as_str().to_owned());
    let span = tracing::info_span!("request", request_id = %id, %method, path);
    async move {
        let request_bytes = announced_bytes(request.headers());
        let mut response = next.run(request).await;
        let status = response.status().as_u16();
        let seconds = started.elapsed().as_secs_f64();
        let response_bytes = response.body().size_hint().exact().unwrap_or(0);
        let sizes = HttpSizes { request_bytes, response_bytes };
        state.metrics().http(&handler, method.as_str(), status, sizes);
        let error = response.extensions_mut().remove::<LoggedError>().map(|e| e.0);
        let error = error.as_deref();
        // Another try is worth while: no failure of this server, and for a probe what it asks for.
        let is_refusal = status == 503 && response.headers().contains_key(header::RETRY_AFTER);
        match status {
            503 if is_refusal && handler == READY => tracing::debug!(status, seconds, error, "not ready"),
            // In their thousands when the server is full; metrics count them.
            429 => tracing::debug!(status, seconds, error, "refused"),
            500.. if !is_refusal => tracing::error!(status, seconds, error, "failed"),
            400.. => tracing::info!(status, seconds, error, "refused"),
            _ => tracing::debug!(status, seconds, "responded"),
        }
        if let Ok(value) = HeaderValue::try_from(id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let method = method.as_str().to_owned();
        response.map(|body| Body::new(Timed { body, state, handler, method, started }))
    }
    .instrument(span)
    .await
}

fn announced_bytes(headers: &HeaderMap) -> u64 {
    let announced = headers.get(header::CONTENT_LENGTH);
    announced.and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// An answer's body, which is dropped when it was sent or its client is gone.
struct Timed {
    body: Body,
    state: AppState,
    handler: String,
    method: String,
    started: Instant,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.state.metrics().http_ended(&self.handler, &self.method, seconds);
    }
}

/// The client's id where it is short and visible, else a new one.
fn id_of(request: &Request) -> String {
    let sent = request.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok());
    let usable = |id: &&str| {
        !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(|b| b.is_ascii_graphic())
    };
    match sent.filter(usable) {
        Some(id) => id.to_owned(),
        None => format!("req_{}", uuid::Uuid::new_v4().simple()),
    }
}
