//! Everything the engine is built from. Resolved by `main` from the one config file; nothing here has a source.

use std::path::PathBuf;

use quarry_core::limits::{
    BLOCK_TOKENS_DEFAULT, STEP_ROWS_DEFAULT, STEP_TOKENS_DEFAULT, SWAP_SPACE_BYTES_DEFAULT,
};
use quarry_core::scheduler::SchedulerLimits;
use quarry_model::backend::{ModelCost, ModelFiles};
use quarry_model::families::FamilyError;

/// A model to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSource {
    /// What clients call it.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// The GGUF file, or a folder of the model hub.
    pub path: PathBuf,
    /// Switches YaRN on.
    pub yarn: Option<Yarn>,
}

/// Context extension that a user asks for (Peng et al. 2023, arXiv:2309.00071).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// The context becomes so many times the original one.
    pub factor: f32,
    /// Positions before extension; `None` takes the model's own.
    pub original_context: Option<usize>,
}

impl ModelSource {
    /// Opens its file or folder, with YaRN where it is asked for.
    ///
    /// # Errors
    /// Those of [`ModelFiles::open`] and [`ModelFiles::with_yarn`].
    pub fn open(&self) -> Result<ModelFiles, FamilyError> {
        let files = ModelFiles::open(&self.path)?;
        let Some(Yarn { factor, original_context }) = self.yarn else { return Ok(files) };
        let own = files.spec.context_tokens_max;
        let files = files.with_yarn(factor, original_context)?;
        let extended = files.spec.context_tokens_max;
        tracing::info!(model = %self.name, factor, own_context = own, context_tokens = extended, "YaRN is on");
        Ok(files)
    }
}

/// The engine's bounds.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Models to serve. The first is loaded at start; the others too as far as they fit, else when they are asked for.
    pub models: Vec<ModelSource>,
    /// Bytes that weights, KV memory, host pool and scratch take at most, all models together; `None` is no bound.
    pub memory_bytes: Option<u64>,
    /// Bytes of KV memory on the device, all models together. `None` takes [`quarry_core::limits::KV_SLABS_DEFAULT`] slabs, or what weights and
    /// scratch leave of a device with memory of its own ([`crate::kv_slabs`]).
    pub kv_bytes: Option<usize>,
    /// What models that are still to come will cost, as far as that is known: their place is left free.
    pub awaited_costs: Vec<ModelCost>,
    /// Prompt + output tokens at most, per model; the file's own bound where smaller. `None` takes the file's.
    pub context_tokens_max: Option<u32>,
    /// KV positions per block.
    pub block_tokens: u32,
    /// Tokens of one step.
    pub step_tokens_max: u32,
    /// Rows of one step.
    pub step_rows_max: u32,
    /// Whether tokens that a constraint forces are taken undrawn, where a request does not say.
    pub forced_tokens: bool,
    /// Whether answers are drafted, where a request does not say.
    pub drafts: bool,
    /// Host pool bound in bytes.
    pub swap_space_bytes: usize,
    /// The scheduler's own bounds (queue and so on).
    pub scheduler: SchedulerLimits,
    /// Restarts after panics within [`EngineOptions::restart_window_s`] before the engine gives up.
    pub restarts_max: usize,
    /// See `restarts_max`.
    pub restart_window_s: f64,
}

impl EngineOptions {
    /// Defaults for these models.
    pub fn new(models: Vec<ModelSource>) -> Self {
        Self {
            models,
            memory_bytes: None,
            kv_bytes: None,
            awaited_costs: Vec::new(),
            context_tokens_max: None,
            block_tokens: BLOCK_TOKENS_DEFAULT,
            step_tokens_max: STEP_TOKENS_DEFAULT,
            step_rows_max: STEP_ROWS_DEFAULT,
            forced_tokens: true,
            drafts: true,
            swap_space_bytes: SWAP_SPACE_BYTES_DEFAULT as usize,
            scheduler: SchedulerLimits::default(),
            restarts_max: 3,
            restart_window_s: 60.0,
        }
    }
}
