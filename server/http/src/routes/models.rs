//! `/v1/models`: what there is, and models brought up and down by hand.

use axum::Json;
use axum::extract::{Path, State};
use quarry_openapi::{Model, ModelDetails, ModelList};
use quarry_runtime::{Engine, ModelState, ServedModel};

use crate::error::HttpError;
use crate::state::AppState;

/// `GET /v1/models`.
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<ModelList>, HttpError> {
    let engine = state.engine()?;
    let data = engine.models().iter().map(|served| model(engine, served)).collect();
    Ok(Json(ModelList { object: "list".into(), data }))
}

/// `GET /v1/models/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Model>, HttpError> {
    let served = state.model(Some(&id))?;
    Ok(Json(model(state.engine()?, &served)))
}

/// `POST /v1/models/{id}/load` and `/unload`: asked for at once, done in the background; `GET /v1/models/{id}` shows how
/// far it is. Names may hold slashes, so the verb is what follows the last one.
pub(crate) async fn change(
    State(state): State<AppState>,
    Path(path): Path<String>,
) -> Result<Json<Model>, HttpError> {
    let (id, verb) = path.rsplit_once('/').unwrap_or((&path, ""));
    let engine = state.engine()?;
    let served = match verb {
        "load" | "unload" => state.model(Some(id))?,
        _ => return Err(HttpError::no_route("POST", &format!("/v1/models/{path}"))),
    };
    if verb == "load" {
        engine.load(&served).map_err(|what| HttpError::model_too_large(&what))?;
    } else {
        engine.unload(&served);
    }
    Ok(Json(model(engine, &served)))
}

fn model(engine: &Engine, served: &ServedModel) -> Model {
    let state = engine.model_state(served);
    let (progress, error) = match &state {
        ModelState::Loading { share } => (Some(*share), None),
        ModelState::Failed(why) => (None, Some(why.clone())),
        ModelState::Cold | ModelState::Active | ModelState::Unloading => (None, None),
    };
    Model {
        id: served.name.clone(),
        object: "model".into(),
        created: served.created,
        owned_by: "quarry".into(),
        max_model_len: Some(served.context_tokens_max),
        details: Some(ModelDetails {
            aliases: served.aliases.clone(),
            state: state.name().to_owned(),
            progress,
            error,
            prompt_tokens_max: served.prompt_tokens_max,
            architecture: served.architecture.clone(),
            quantization: served.quantization.clone(),
            weight_bytes: served.weight_bytes,
        }),
    }
}
