//! `/tokenize` and `/detokenize`.

use axum::Json;
use axum::extract::State;
use quarry_openapi::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse};

use crate::error::HttpError;
use crate::extract::WireJson;
use crate::prompt;
use crate::state::AppState;

/// `POST /tokenize`.
pub(crate) async fn tokenize(
    State(state): State<AppState>,
    WireJson(request, _room): WireJson<TokenizeRequest>,
) -> Result<Json<TokenizeResponse>, HttpError> {
    let model = state.model(request.model.as_deref())?;
    let max_model_len = model.context_tokens_max;
    let add_special = request.add_special_tokens.unwrap_or(true);
    let tokens = state.off_thread(move || Ok(prompt::tokenize(&model, &request.prompt, add_special))).await?;
    let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    Ok(Json(TokenizeResponse { count, max_model_len, tokens }))
}

/// `POST /detokenize`.
pub(crate) async fn detokenize(
    State(state): State<AppState>,
    WireJson(request, _room): WireJson<DetokenizeRequest>,
) -> Result<Json<DetokenizeResponse>, HttpError> {
    let model = state.model(request.model.as_deref())?;
    let vocabulary = model.text.tokenizer.vocab_size();
    if let Some(id) = request.tokens.iter().find(|&&id| id as usize >= vocabulary) {
        let message = format!("{id} is no token of this model; it has {vocabulary}");
        return Err(HttpError::invalid("tokens", message));
    }
    let decode = move || Ok(model.text.tokenizer.decode(&request.tokens, false));
    Ok(Json(DetokenizeResponse { prompt: state.off_thread(decode).await? }))
}
