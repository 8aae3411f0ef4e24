//! `/v1/models`: what there is, and models brought up and down by hand.

use axum::Json;
use axum::extract::{Path, State};
use quarry_openapi::{Model, ModelDetails, ModelList};
use quarry_runtime::{AwaitedModel, Engine, ModelState, ServedModel};

use crate::error::HttpError;
use crate::state::AppState;

/// `GET /v1/models`.
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<ModelList>, HttpError> {
    let engine = state.engine()?;
    // In this order: one that comes in between is in both lists, not in neither.
    let to_come = engine.awaited();
    let mut data: Vec<Model> = engine.models().iter().map(|served| model(engine, served)).collect();
    for model in to_come {
        if !data.iter().any(|here| here.id == model.name) {
            data.push(awaited(model));
        }
    }
    Ok(Json(ModelList { object: "list".into(), data }))
}

/// `GET /v1/models/{id}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Model>, HttpError> {
    let engine = state.engine()?;
    if let Some(found) = engine.awaited().into_iter().find(|model| model.is_called(&id)) {
        return Ok(Json(awaited(found)));
    }
    let served = state.model(Some(&id))?;
    Ok(Json(model(engine, &served)))
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
    let details = ModelDetails {
        aliases: served.aliases.clone(),
        prompt_tokens_max: Some(served.prompt_tokens_max),
        architecture: Some(served.architecture.clone()),
        quantization: Some(served.quantization.clone()),
        weight_bytes: Some(served.weight_bytes),
        ..in_state(&state)
    };
    Model {
        id: served.name.clone(),
        object: "model".into(),
        created: served.created,
        owned_by: "quarry".into(),
        max_model_len: Some(served.context_tokens_max),
        details: Some(details),
    }
}

/// One whose files are not here yet.
fn awaited(model: AwaitedModel) -> Model {
    Model {
        id: model.name,
        object: "model".into(),
        created: 0,
        owned_by: "quarry".into(),
        max_model_len: None,
        details: Some(ModelDetails { aliases: model.aliases, ..in_state(&model.state) }),
    }
}

fn in_state(state: &ModelState) -> ModelDetails {
    let (progress, error) = match state {
        ModelState::Absent { share } | ModelState::Loading { share } => (Some(*share), None),
        ModelState::Failed(why) => (None, Some(why.clone())),
        ModelState::Cold | ModelState::Warm | ModelState::Active | ModelState::Unloading => (None, None),
    };
    ModelDetails { state: state.name().to_owned(), progress, error, ..ModelDetails::default() }
}
