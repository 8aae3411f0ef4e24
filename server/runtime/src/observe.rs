//! What the runtime tells whoever measures it. The edge turns this into metrics; nothing here knows their names.

use quarry_core::plan::FinishReason;

use crate::arrivals::AwaitedModel;
use crate::budget::{Budget, WeightBytes};

/// Hears of every step and every ended request, on the engine's thread: must be quick and must not block.
pub trait Observer: Send + Sync {
    /// A step ran.
    fn step(&self, stats: &StepStats);
    /// A request ended.
    fn request(&self, stats: &RequestStats);
    /// A model's weights came onto the device.
    fn switch(&self, stats: &SwitchStats);
}

/// For tests and tools that measure nothing.
pub struct NoObserver;

impl Observer for NoObserver {
    fn step(&self, _: &StepStats) {}
    fn request(&self, _: &RequestStats) {}
    fn switch(&self, _: &SwitchStats) {}
}

/// What became of one draft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DraftStats {
    /// Tokens run.
    pub tokens: u32,
    /// Of these from the first on, drawn.
    pub accepted: u32,
}

/// One step.
#[derive(Clone, Debug, Default)]
pub struct StepStats {
    /// Model name.
    pub model: String,
    /// Rows of the batch.
    pub rows: u32,
    /// Of these, rows that a step started ahead had right.
    pub rows_ahead: u32,
    /// Tokens run, all rows.
    pub tokens: u32,
    /// Tokens drawn.
    pub sampled: u32,
    /// Tokens that constraints forced.
    pub forced: u32,
    /// Drafts that were run, each with its tokens and how many of them were right.
    pub drafts: Vec<DraftStats>,
    /// Submit to finish, seconds.
    pub seconds: f64,
    /// Of these, computing masks.
    pub mask_s: f64,
}

/// One ended request.
#[derive(Clone, Debug)]
pub struct RequestStats {
    /// Model name.
    pub model: String,
    /// How it ended.
    pub reason: FinishReason,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Of these, from the prefix cache.
    pub cached_tokens: u32,
    /// Output tokens.
    pub completion_tokens: u32,
    /// The bound it ran under.
    pub tokens_max: u32,
    /// Arrival to first step, seconds.
    pub queue_s: f64,
    /// First step to first token.
    pub prefill_s: f64,
    /// First token to end.
    pub decode_s: f64,
    /// Arrival to first token; `None` where there was none.
    pub ttft_s: Option<f64>,
    /// Arrival to end.
    pub e2e_s: f64,
    /// Between tokens; bounded by the output.
    pub inter_token_s: Vec<f32>,
}

/// One switch, in seconds by phase.
#[derive(Clone, Debug, Default)]
pub struct SwitchStats {
    /// Model name.
    pub model: String,
    /// Other models' weights made room.
    pub room_s: f64,
    /// Its weights were read and packed.
    pub load_s: f64,
    /// Its executor was made.
    pub activate_s: f64,
}

/// Where a model's weights are.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ModelState {
    /// Its files are on their way to this machine.
    Absent {
        /// 0 to 1.
        share: f32,
    },
    /// On disk.
    #[default]
    Cold,
    /// On their way.
    Loading {
        /// 0 to 1.
        share: f32,
    },
    /// In host memory, ready for a device that has its own.
    Warm,
    /// In use.
    Active,
    /// In use until its requests are answered; takes no new ones.
    Unloading,
    /// They could not be had, and why.
    Failed(String),
}

impl ModelState {
    /// Every word that [`ModelState::name`] says.
    pub const NAMES: [&str; 7] = ["absent", "cold", "loading", "warm", "active", "unloading", "failed"];

    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "absent",
            Self::Cold => "cold",
            Self::Loading { .. } => "loading",
            Self::Warm => "warm",
            Self::Active => "active",
            Self::Unloading => "unloading",
            Self::Failed(_) => "failed",
        }
    }
}

/// One model at one moment.
#[derive(Clone, Debug, Default)]
pub struct ModelSnapshot {
    /// Its name.
    pub model: String,
    /// Where its weights are.
    pub state: ModelState,
    /// Sequences in the running set.
    pub running: u32,
    /// Sequences waiting for admission.
    pub waiting: u32,
    /// Sequences in the host pool.
    pub swapped: u32,
    /// Sequences that wait for the model's turn with their KV on the device.
    pub suspended: u32,
    /// Blocks held by sequences over all blocks, 0 to 1.
    pub kv_usage: f64,
    /// Tokens looked up in the prefix cache, since it was loaded.
    pub prefix_query_tokens: u64,
    /// Tokens found there.
    pub prefix_hit_tokens: u64,
    /// Sequences pushed off the device.
    pub preemptions: u64,
    /// Bytes swapped out.
    pub swap_out_bytes: u64,
    /// Bytes swapped in.
    pub swap_in_bytes: u64,
}

/// The engine at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Each model, the first one first.
    pub models: Vec<ModelSnapshot>,
    /// Models that are still to come.
    pub awaited: Vec<AwaitedModel>,
    /// Bytes in the host pool.
    pub host_pool_bytes: u64,
    /// Of these, bytes of cached prefixes: they make room for sequences.
    pub host_pool_cached_bytes: u64,
    /// Its bound.
    pub host_pool_bytes_max: u64,
    /// Slabs of the KV memory that no model has.
    pub kv_slabs_free: u64,
    /// What the server takes at most.
    pub budget: Budget,
    /// Bytes of weights that are loaded or on their way.
    pub weights: WeightBytes,
    /// Times the engine was restarted after a panic.
    pub restarts: u64,
    /// Cleared when the engine gave up.
    pub healthy: bool,
}

impl Snapshot {
    /// A count of all models together.
    pub fn sum<T: std::iter::Sum>(&self, count: impl Fn(&ModelSnapshot) -> T) -> T {
        self.models.iter().map(count).sum()
    }
}
