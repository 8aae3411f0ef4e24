//! What the server has, and how it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    #[serde(default)]
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// The name a request's `model` gives.
    pub id: String,
    /// Always `model`.
    #[serde(default)]
    pub object: String,
    /// Unix seconds.
    #[serde(default)]
    pub created: u64,
    /// Who serves it.
    #[serde(default)]
    pub owned_by: String,
    /// Prompt and answer tokens together, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u32>,
    /// What this server tells beside OpenAI's fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ModelDetails>,
}

/// Beside OpenAI's fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelDetails {
    /// Other names for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Where its weights are: `absent` (its files are still being fetched), `cold` (on disk), `loading`, `warm` (in host
    /// memory, where the device has its own), `active`, `unloading` or `failed`. A request loads a model that is not
    /// active; one for an absent model is refused until its files are here.
    #[serde(default)]
    pub state: String,
    /// While it is fetched or loaded: the share done, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f32>,
    /// Why it could not be fetched or loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Prompt tokens at most: the context less one answer token, or less where the server is configured so. This and what
    /// follows is known once the files are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_max: Option<u32>,
    /// The family of the decoder, such as `qwen2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The weights' format, such as `Q4_K_M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Bytes of the weights while they are loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
}

/// `GET /admin/state`: the engine at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdminState {
    /// Each model, the first of the configuration first.
    pub models: Vec<AdminModel>,
    /// What the server takes of memory, in bytes.
    pub memory: AdminMemory,
    /// What the devices tell of themselves; empty where they tell nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<AdminDevice>,
    /// Times the engine started anew after a fault.
    pub restarts: u64,
    /// False once it gave up.
    pub healthy: bool,
}

/// One model in [`AdminState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdminModel {
    /// Its name.
    pub id: String,
    /// As in `GET /v1/models/{id}`.
    pub state: String,
    /// Sequences that run.
    pub running: u32,
    /// Sequences without KV.
    pub waiting: u32,
    /// Sequences whose KV is in the host pool, or on the way.
    pub swapped: u32,
    /// Sequences with KV on the device whose model is not active.
    pub suspended: u32,
    /// KV blocks held over all that it could have, 0 to 1.
    pub kv_usage: f64,
    /// Sequences pushed off the device, since start.
    pub preemptions: u64,
    /// Bytes of KV swapped out, since start.
    pub swap_out_bytes: u64,
    /// Bytes of KV swapped in, since start.
    pub swap_in_bytes: u64,
}

/// The memory budget in [`AdminState`]; weights, KV, host pool and scratch together stay within the bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminMemory {
    /// The bound of host memory; absent where none is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// The bound of the device's own memory: weights in use, KV and scratch are counted there, warm weights and the host
    /// pool in host memory. Absent where the device computes from host memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_bytes_max: Option<u64>,
    /// Weights in use, or on their way.
    pub weight_bytes: u64,
    /// Weights in host memory beside those, where the device has its own.
    #[serde(default)]
    pub warm_weight_bytes: u64,
    /// The KV cache of all models.
    pub kv_bytes_max: u64,
    /// Parts of it that no model has.
    pub kv_slabs_free: u64,
    /// Blocks in the host pool.
    pub host_pool_bytes: u64,
    /// Of these, cached prefixes; they make room for sequences.
    pub host_pool_cached_bytes: u64,
    /// Its bound.
    pub host_pool_bytes_max: u64,
    /// Activations and scratch of the largest step.
    pub scratch_bytes_max: u64,
}

/// A device in [`AdminState`]; a figure that it does not tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdminDevice {
    /// What it is called.
    pub name: String,
    /// What tells it from others of the same name.
    pub uuid: String,
    /// Of its chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<f64>,
    /// What it draws now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<f64>,
    /// What it may draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_limit_watts: Option<f64>,
    /// Memory that is taken, by whomever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// Memory in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    /// Share of the last moments in which some kernel ran, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f64>,
    /// Share of the last moments in which memory was read or written, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_utilization: Option<f64>,
    /// Clock of its processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_hertz: Option<f64>,
    /// Clock of its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_clock_hertz: Option<f64>,
}

/// `GET /health` and `GET /ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// `ok`, or why not.
    pub status: String,
}

/// `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The server's version.
    pub version: String,
}
