//! One layer around every request: its id in and out, a span, HTTP metrics, one log line at its end.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use crate::error::LoggedError;
use crate::state::AppState;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
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
        let mut response = next.run(request).await;
        let status = response.status().as_u16();
        let seconds = started.elapsed().as_secs_f64();
        state.metrics().http(&handler, method.as_str(), status, seconds);
        let error = response.extensions_mut().remove::<LoggedError>().map(|e| e.0);
        let error = error.as_deref();
        match status {
            500.. => tracing::error!(status, seconds, error, "failed"),
            400.. => tracing::info!(status, seconds, error, "refused"),
            _ => tracing::debug!(status, seconds, "responded"),
        }
        if let Ok(value) = HeaderValue::try_from(id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }
    .instrument(span)
    .await
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
