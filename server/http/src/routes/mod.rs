//! All routes, and answers in OpenAI's shape where there is none.

pub(crate) mod chat;
mod models;
mod operations;
mod tokens;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::routing::{get, post};

use crate::error::HttpError;
use crate::metrics::UNKNOWN_MODEL;
use crate::observe;
use crate::state::AppState;

/// The whole server, without a socket.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/chat/completions/render", post(chat::render))
        .route("/v1/models", get(models::list))
        // A model's name may have slashes.
        .route("/v1/models/{*id}", get(models::one).post(models::change))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/health", get(operations::health))
        .route("/ready", get(operations::ready))
        .route("/version", get(operations::version))
        .route("/admin/state", get(operations::admin_state))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(operations::openapi))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), observe::request))
        .with_state(state)
}

/// What is served where all ordinary connections are taken.
pub(crate) fn router_of_probes(state: AppState) -> Router {
    Router::new()
        .route("/health", get(operations::health))
        .route("/ready", get(operations::ready))
        .route("/metrics", get(operations::metrics))
        .fallback(connections_full)
        .method_not_allowed_fallback(no_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), observe::request))
        .with_state(state)
}

async fn connections_full(State(state): State<AppState>, request: Request) -> HttpError {
    // A connection that is closed with something unread is reset, and its client may not see the answer.
    let (bytes_max, timeout) = (state.limits().head_bytes_max, state.limits().reserved_request_timeout);
    let reading = axum::body::to_bytes(request.into_body(), bytes_max);
    // A body that is too long or slow loses the answer, no more.
    let _ = tokio::time::timeout(timeout, reading).await;
    let error = HttpError::connections_full(state.limits().retry_after_not_ready_s);
    state.metrics().refused(UNKNOWN_MODEL, error.reason(), error.is_admission());
    error
}

async fn no_route(method: Method, uri: Uri) -> HttpError {
    HttpError::no_route(method.as_str(), uri.path())
}

async fn no_method(method: Method, uri: Uri) -> HttpError {
    HttpError::no_method(method.as_str(), uri.path())
}
