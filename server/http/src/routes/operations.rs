//! What operators and their tools ask.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use quarry_openapi::{AdminDevice, AdminMemory, AdminModel, AdminState, Status, Version};
use quarry_runtime::{DeviceFigures, ModelSnapshot};

use crate::error::HttpError;
use crate::state::AppState;

static DOCUMENT: LazyLock<String> = LazyLock::new(quarry_openapi::document::openapi_json);

/// `GET /health`: the process is alive, and its engine, once there, has not given up.
pub(crate) async fn health(State(state): State<AppState>) -> Result<Json<Status>, HttpError> {
    match state.try_engine() {
        Some(engine) if engine.is_dead() => Err(HttpError::engine_dead()),
        _ => Ok(Json(Status { status: "ok".into() })),
    }
}

/// `GET /ready`: a request would be taken now.
pub(crate) async fn ready(State(state): State<AppState>) -> Result<Json<Status>, HttpError> {
    if state.engine()?.is_ready() {
        Ok(Json(Status { status: "ok".into() }))
    } else {
        Err(HttpError::not_ready(state.limits().retry_after_not_ready_s))
    }
}

/// `GET /version`.
pub(crate) async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION").into() })
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(state): State<AppState>) -> Result<Response, HttpError> {
    let snapshot = state.try_engine().map(|engine| engine.snapshot());
    let devices = devices(&state).await;
    let text = state.metrics().render(snapshot.as_ref(), &devices);
    let text = text.map_err(|e| HttpError::internal(format!("metrics: {e}")))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// What the devices tell of themselves, asked on a thread that may wait.
async fn devices(state: &AppState) -> Vec<DeviceFigures> {
    let Some(engine) = state.try_engine().cloned() else { return Vec::new() };
    tokio::task::spawn_blocking(move || engine.devices()).await.unwrap_or_default()
}

/// `GET /admin/state`.
pub(crate) async fn admin_state(State(state): State<AppState>) -> Result<Json<AdminState>, HttpError> {
    let now = state.engine()?.snapshot();
    let model = |m: &ModelSnapshot| AdminModel {
        id: m.model.clone(),
        state: m.state.name().to_owned(),
        running: m.running,
        waiting: m.waiting,
        swapped: m.swapped,
        suspended: m.suspended,
        kv_usage: m.kv_usage,
        preemptions: m.preemptions,
        swap_out_bytes: m.swap_out_bytes,
        swap_in_bytes: m.swap_in_bytes,
    };
    let memory = AdminMemory {
        bytes_max: now.budget.bytes_max,
        device_bytes_max: now.budget.device_bytes_max,
        weight_bytes: now.weights.device,
        warm_weight_bytes: now.weights.host,
        kv_bytes_max: now.budget.kv_bytes,
        kv_slabs_free: now.kv_slabs_free,
        host_pool_bytes: now.host_pool_bytes,
        host_pool_cached_bytes: now.host_pool_cached_bytes,
        host_pool_bytes_max: now.host_pool_bytes_max,
        scratch_bytes_max: now.budget.scratch_bytes,
    };
    let models = now.models.iter().map(model).collect();
    let devices = devices(&state).await.into_iter().map(admin_device).collect();
    Ok(Json(AdminState { models, memory, devices, restarts: now.restarts, healthy: now.healthy }))
}

fn admin_device(figures: DeviceFigures) -> AdminDevice {
    AdminDevice {
        name: figures.name,
        uuid: figures.uuid,
        temperature_celsius: figures.temperature_celsius,
        power_watts: figures.power_watts,
        power_limit_watts: figures.power_limit_watts,
        memory_used_bytes: figures.memory_used_bytes,
        memory_total_bytes: figures.memory_total_bytes,
        utilization: figures.utilization,
        memory_utilization: figures.memory_utilization,
        clock_hertz: figures.clock_hertz,
        memory_clock_hertz: figures.memory_clock_hertz,
    }
}

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}
