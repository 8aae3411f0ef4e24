//! `/v1/models`.

use axum::Json;
use axum::extract::{Path, State};
use quarry_openapi::{Model, ModelDetails, ModelList};
use quarry_runtime::ServedModel;

use crate::error::HttpError;
use crate::state::AppState;

/// `GET /v1/models`.
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<ModelList>, HttpError> {
    let data = state.engine()?.models().iter().map(|m| model(m)).collect();
    Ok(Json(ModelList { object: "list".into(), data }))
}

/// `GET /v1/models/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Model>, HttpError> {
    state.model(Some(&id)).map(|m| Json(model(&m)))
}

fn model(served: &ServedModel) -> Model {
    Model {
        id: served.name.clone(),
        object: "model".into(),
        created: served.created,
        owned_by: "quarry".into(),
        max_model_len: Some(served.context_tokens_max),
        details: Some(ModelDetails {
            prompt_tokens_max: served.prompt_tokens_max,
            architecture: served.architecture.clone(),
            quantization: served.quantization.clone(),
            weight_bytes: served.weight_bytes,
        }),
    }
}
