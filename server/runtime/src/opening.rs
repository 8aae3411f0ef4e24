//! A model's files opened: what clients need to know of it, and what it costs, before any weights are read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quarry_core::ids::ModelId;
use quarry_core::limits::SLAB_BYTES;
use quarry_core::plan::ModelSetup;
use quarry_model::backend::{ActivateOptions, Backend, BackendError, ModelCost, ModelFiles};
use quarry_model::families::FamilyError;
use quarry_model::kv::KvArena;
use quarry_text::{TextError, TextModel};

use crate::drafts::StepCost;
use crate::options::{EngineOptions, ModelSource};
use crate::registry::{Known, Weights};

/// A model that this server answers for.
pub struct ServedModel {
    /// The engine's id.
    pub id: ModelId,
    /// What clients call it.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// Tokenizer, template, constraints.
    pub text: TextModel,
    /// Prompt + output tokens at most.
    pub context_tokens_max: u32,
    /// Prompt tokens at most: the context less one output token.
    pub prompt_tokens_max: u32,
    /// As in the file.
    pub architecture: String,
    /// The type most weights have.
    pub quantization: String,
    /// Bytes that its weights take while they are loaded.
    pub weight_bytes: u64,
    /// Seconds since 1970 when it was opened.
    pub created: u64,
}

/// A model could not be served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HostError {
    #[error("no model to serve")]
    NoModel,
    #[error("{path}: {source}")]
    File { path: PathBuf, source: Box<FamilyError> },
    #[error("{path}: {source}")]
    Text { path: PathBuf, source: Box<TextError> },
    #[error("{path}: {source}")]
    Backend { path: PathBuf, source: BackendError },
    #[error(
        "{path}: one KV block of {block_tokens} positions is {block_bytes} bytes, more than a slab of {SLAB_BYTES}; use a smaller block"
    )]
    BlockTooLarge { path: PathBuf, block_tokens: u32, block_bytes: usize },
    #[error(
        "{path}: a KV cache of {kv_bytes} bytes has room for {positions} positions, fewer than one step's {needed}; raise server.kv_cache (or server.gpu_memory_utilization, where it is what a device has left), or lower server.step_tokens_max"
    )]
    KvTooSmall { path: PathBuf, kv_bytes: usize, positions: usize, needed: u32 },
    #[error("{path}: {what}")]
    TooLarge { path: PathBuf, what: String },
    #[error("the host pool of {bytes} bytes (swap_space): {what}")]
    HostPool { bytes: usize, what: String },
    #[error("the KV cache of {bytes} bytes: {source}")]
    Arena { bytes: usize, source: BackendError },
    #[error("{path}: {what}")]
    Load { path: PathBuf, what: String },
    #[error("the engine thread could not start: {0}")]
    Thread(std::io::Error),
}

/// A model's files and texts, read on whatever thread has the time.
pub struct Opened {
    pub source: ModelSource,
    files: ModelFiles,
    text: TextModel,
}

impl Opened {
    /// Opens what a source names; takes a while for the tokenizer.
    pub fn read(source: &ModelSource) -> Result<Self, HostError> {
        let path = source.path.clone();
        let files = source
            .open()
            .map_err(|source| HostError::File { path: path.clone(), source: Box::new(source) })?;
        let text = TextModel::open(files.weights.file())
            .map_err(|source| HostError::Text { path, source: Box::new(source) })?;
        Ok(Self { source: source.clone(), files, text })
    }

    /// How its executor is sized.
    fn activate_options(options: &EngineOptions) -> ActivateOptions {
        ActivateOptions {
            block_tokens: options.block_tokens as usize,
            batch_tokens_max: options.step_tokens_max as usize,
            batch_rows_max: options.step_rows_max as usize,
        }
    }

    /// What it costs on a device.
    pub fn cost(&self, backend: &dyn Backend, options: &EngineOptions) -> ModelCost {
        backend.cost(&self.files.spec, &self.files, &Self::activate_options(options))
    }

    /// With its costs on a device and its view of the device's KV memory.
    pub fn known(
        self,
        backend: &mut dyn Backend,
        arena: &KvArena,
        id: ModelId,
        options: &EngineOptions,
    ) -> Result<Known, HostError> {
        let Self { source, files, text } = self;
        let path = source.path.clone();
        let activate = Self::activate_options(options);
        let cost = backend.cost(&files.spec, &files, &activate);
        let block_bytes = cost.block_bytes;
        if block_bytes == 0 || block_bytes > arena.slab_bytes() {
            let block_tokens = options.block_tokens;
            return Err(HostError::BlockTooLarge { path, block_tokens, block_bytes });
        }
        let kv = backend
            .kv_blocks(&files.spec, arena, activate.block_tokens)
            .map_err(|source| HostError::Backend { path: path.clone(), source })?;
        let positions = kv.blocks() * activate.block_tokens;
        if positions < options.step_tokens_max as usize {
            let (kv_bytes, needed) = (arena.slabs() * arena.slab_bytes(), options.step_tokens_max);
            return Err(HostError::KvTooSmall { path, kv_bytes, positions, needed });
        }
        let own_context = options
            .context_tokens_max
            .unwrap_or(u32::MAX)
            .min(u32::try_from(files.spec.context_tokens_max).unwrap_or(u32::MAX));
        let context = own_context.min(u32::try_from(positions).unwrap_or(u32::MAX));
        if context < own_context {
            tracing::info!(model = %source.name, own_context, context_tokens = context, "context bounded by the KV cache");
        }
        let setup = ModelSetup {
            model: id,
            block_tokens: options.block_tokens,
            slab_blocks: arena.slab_blocks(block_bytes) as u32,
            block_bytes: block_bytes as u64,
            context_tokens_max: context,
            step_tokens_max: options.step_tokens_max,
            step_rows_max: options.step_rows_max,
            runs_ahead: backend.runs_ahead(),
        };
        let served = ServedModel {
            id,
            name: source.name.clone(),
            aliases: source.aliases.clone(),
            text,
            context_tokens_max: context,
            prompt_tokens_max: context - 1,
            architecture: files.spec.architecture.clone(),
            quantization: commonest_type(&files),
            weight_bytes: cost.weight_bytes as u64,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        };
        Ok(Known {
            served: Arc::new(served),
            source,
            kv,
            cost,
            setup,
            options: activate,
            spec: files.spec.clone(),
            weights: Weights::Cold,
            is_unloading: false,
            used: Instant::now(),
            step_cost: StepCost::default(),
            swap_out_bytes: 0,
            swap_in_bytes: 0,
        })
    }
}

/// The tensor type that holds most bytes of the file.
fn commonest_type(files: &ModelFiles) -> String {
    let mut bytes: Vec<(&'static str, usize)> = Vec::new();
    for tensor in files.weights.tensors() {
        let name = tensor.kind.name();
        match bytes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, total)) => *total += tensor.bytes,
            None => bytes.push((name, tensor.bytes)),
        }
    }
    bytes.into_iter().max_by_key(|(_, total)| *total).map_or_else(String::new, |(name, _)| name.to_owned())
}
