//! Models and their lives: opened, warmed, activated. The only place that knows files and back ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quarry_core::ids::ModelId;
use quarry_core::plan::ModelSetup;
use quarry_formats::FormatError;
use quarry_model::backend::{ActivateOptions, Backend, BackendError, ModelFiles, WarmModel};
use quarry_model::executor::Executor;
use quarry_model::families::FamilyError;
use quarry_model::kv::KvArena;
use quarry_text::{TextError, TextModel};

use crate::drafts::StepCost;
use crate::options::{EngineOptions, ModelSource, SLAB_BYTES};

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
    /// Bytes held.
    pub weight_bytes: u64,
    /// Seconds since 1970 when it became active.
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
    Format { path: PathBuf, source: Box<FormatError> },
    #[error("{path}: {source}")]
    Text { path: PathBuf, source: Box<TextError> },
    #[error("{path}: {source}")]
    Backend { path: PathBuf, source: BackendError },
    #[error(
        "{path}: one KV block of {block_tokens} positions is {block_bytes} bytes, more than a slab of {SLAB_BYTES}; use a smaller block"
    )]
    BlockTooLarge { path: PathBuf, block_tokens: u32, block_bytes: usize },
    #[error(
        "{path}: kv_bytes {kv_bytes} leaves room for {positions} positions, fewer than one step's {needed}; raise kv_bytes"
    )]
    KvTooSmall { path: PathBuf, kv_bytes: usize, positions: usize, needed: u32 },
    #[error("the engine thread could not start: {0}")]
    Thread(std::io::Error),
}

/// A warm model with its executor.
pub struct Hosted {
    pub served: Arc<ServedModel>,
    pub warm: WarmModel,
    pub options: ActivateOptions,
    pub executor: Box<dyn Executor>,
    /// What its steps took so far.
    pub cost: StepCost,
    /// Bytes of its KV swapped out since start.
    pub swap_out_bytes: u64,
    /// Bytes swapped back in.
    pub swap_in_bytes: u64,
}

/// All models of one device.
pub struct ModelHost {
    pub backend: Box<dyn Backend>,
    pub arena: KvArena,
    pub models: Vec<Hosted>,
}

impl ModelHost {
    /// Opens, warms and activates every model of `options`; the KV arena is divided evenly among them.
    pub fn load(
        mut backend: Box<dyn Backend>,
        options: &EngineOptions,
        progress: &mut dyn FnMut(&str, f32),
    ) -> Result<Self, HostError> {
        if options.models.is_empty() {
            return Err(HostError::NoModel);
        }
        let arena = KvArena::new(SLAB_BYTES, options.kv_bytes.div_ceil(SLAB_BYTES));
        let slabs_each = arena.slabs_total() / options.models.len();
        let mut models = Vec::new();
        for (index, source) in options.models.iter().enumerate() {
            let id = ModelId(index as u32);
            models.push(load_one(&mut *backend, &arena, slabs_each, id, source, options, progress)?);
        }
        Ok(Self { backend, arena, models })
    }

    /// The hosted model of an id that this host gave out.
    pub fn get_mut(&mut self, id: ModelId) -> Option<&mut Hosted> {
        self.models.get_mut(id.0 as usize)
    }

    /// Drops every executor and makes new ones from the warm weights, after a panic left them in doubt.
    pub fn reactivate(&mut self) -> Result<(), BackendError> {
        let Self { backend, arena, models } = self;
        let mut fresh = Vec::new();
        for hosted in models.drain(..) {
            let Hosted { served, warm, options, executor, cost, swap_out_bytes, swap_in_bytes } = hosted;
            drop(executor); // its lease must be back before the new one is taken
            let executor = backend.activate(&warm, arena, &options)?;
            fresh.push(Hosted { served, warm, options, executor, cost, swap_out_bytes, swap_in_bytes });
        }
        *models = fresh;
        Ok(())
    }
}

impl Hosted {
    /// Bounds for the scheduler.
    pub fn setup(&self, options: &EngineOptions) -> ModelSetup {
        let caps = self.executor.caps();
        ModelSetup {
            model: self.served.id,
            block_tokens: caps.block_tokens as u32,
            blocks: caps.blocks as u32,
            block_bytes: caps.block_bytes as u64,
            context_tokens_max: self.served.context_tokens_max,
            step_tokens_max: options.step_tokens_max.min(caps.batch_tokens_max as u32),
            step_rows_max: options.step_rows_max.min(caps.batch_rows_max as u32),
            // Every served model has its own executor and pool: a switch moves nothing.
            pool_stays: true,
        }
    }
}

fn load_one(
    backend: &mut dyn Backend,
    arena: &KvArena,
    slabs: usize,
    id: ModelId,
    source: &ModelSource,
    options: &EngineOptions,
    progress: &mut dyn FnMut(&str, f32),
) -> Result<Hosted, HostError> {
    let path = source.path.clone();
    let files =
        source.open().map_err(|source| HostError::File { path: path.clone(), source: Box::new(source) })?;
    let text = TextModel::open(files.weights.file())
        .map_err(|source| HostError::Text { path: path.clone(), source: Box::new(source) })?;
    let broken = |source| HostError::Backend { path: path.clone(), source };
    let begun = Instant::now();
    let warm = backend.warm(&files, &mut |share| progress(&source.name, share)).map_err(broken)?;
    let packing_seconds = begun.elapsed().as_secs_f32();
    let mut activate = ActivateOptions {
        block_tokens: options.block_tokens as usize,
        blocks: 0,
        batch_tokens_max: options.step_tokens_max as usize,
        batch_rows_max: options.step_rows_max as usize,
    };
    let cost = backend.cost(&files.spec, &files, &activate);
    let block_bytes = cost.block_bytes;
    if block_bytes == 0 || block_bytes > SLAB_BYTES {
        let block_tokens = options.block_tokens;
        return Err(HostError::BlockTooLarge { path, block_tokens, block_bytes });
    }
    let context = options
        .context_tokens_max
        .unwrap_or(u32::MAX)
        .min(u32::try_from(files.spec.context_tokens_max).unwrap_or(u32::MAX));
    activate.blocks = slabs * (SLAB_BYTES / block_bytes);
    let positions = activate.blocks * activate.block_tokens;
    if positions < options.step_tokens_max as usize {
        let (kv_bytes, needed) = (options.kv_bytes, options.step_tokens_max);
        return Err(HostError::KvTooSmall { path, kv_bytes, positions, needed });
    }
    let own_context = context;
    let context = context.min(u32::try_from(positions).unwrap_or(u32::MAX));
    if context < own_context {
        tracing::info!(model = %source.name, own_context, context_tokens = context, "context bounded by the KV cache");
    }
    let executor = backend.activate(&warm, arena, &activate).map_err(broken)?;
    let served = ServedModel {
        id,
        name: source.name.clone(),
        aliases: source.aliases.clone(),
        text,
        context_tokens_max: context,
        prompt_tokens_max: context - 1,
        architecture: files.spec.architecture.clone(),
        quantization: commonest_type(&files),
        weight_bytes: warm.bytes as u64,
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
    };
    tracing::info!(
        model = %served.name,
        architecture = %served.architecture,
        quantization = %served.quantization,
        weight_bytes = served.weight_bytes,
        kv_blocks = activate.blocks,
        kv_bytes_max = activate.blocks * block_bytes,
        scratch_bytes_max = cost.scratch_bytes,
        packing_seconds,
        context_tokens = context,
        isa = %executor.caps().isa,
        "model active"
    );
    let cost = StepCost::default();
    Ok(Hosted {
        served: Arc::new(served),
        warm,
        options: activate,
        executor,
        cost,
        swap_out_bytes: 0,
        swap_in_bytes: 0,
    })
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
