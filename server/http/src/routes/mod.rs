//! All routes, and answers in OpenAI's shape where there is none.

pub(crate) mod chat;
mod models;
mod operations;
mod tokens;

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::{get, post};

use crate::error::HttpError;
use crate::observe;
use crate::state::AppState;

/// The whole server, without a socket.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/chat/completions/render", post(chat::render))
        .route("/v1/models", get(models::list))
        // A model's name may have slashes.
        .route("/v1/models/{*id}", get(models::one))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/health", get(operations::health))
        .route("/ready", get(operations::ready))
        .route("/version", get(operations::version))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(operations::openapi))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), observe::request))
        .with_state(state)
}

async fn no_route(method: Method, uri: Uri) -> HttpError {
    HttpError::no_route(method.as_str(), uri.path())
}

async fn no_method(method: Method, uri: Uri) -> HttpError {
    HttpError::no_method(method.as_str(), uri.path())
}
