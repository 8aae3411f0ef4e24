//! Models and their lives: `Cold → Loading → Active`, and back. The only place that knows files and back ends.
//!
//! Every model of the options is opened at start: what clients need to know of it, and what it costs. Weights come and go
//! within one budget of bytes ([`crate::budget`]); a model's KV blocks live in the device's arena all the while, so its
//! conversations and its prefix cache outlive its weights.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quarry_core::ids::ModelId;
use quarry_core::limits::SLAB_BYTES;
use quarry_core::plan::ModelSetup;
use quarry_model::backend::{ActivateOptions, Backend, BackendError, ModelCost, ModelFiles, WarmModel};
use quarry_model::executor::{Executor, KvBlocks};
use quarry_model::families::FamilyError;
use quarry_model::kv::{HostPool, KvArena};
use quarry_model::spec::DecoderSpec;
use quarry_text::{TextError, TextModel};

use crate::budget::Budget;
use crate::drafts::StepCost;
use crate::options::{EngineOptions, ModelSource};

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
        "{path}: kv_bytes {kv_bytes} leaves room for {positions} positions, fewer than one step's {needed}; raise kv_bytes"
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

/// Where a model's weights are.
pub enum Weights {
    /// On disk.
    Cold,
    /// On their way; permille done.
    Loading(Arc<AtomicU32>),
    /// In use.
    Active { warm: WarmModel, executor: Box<dyn Executor> },
    /// They could not be had; the next switch tries again.
    Failed(String),
}

/// A model that is known.
pub struct Known {
    pub served: Arc<ServedModel>,
    pub source: ModelSource,
    /// Its blocks in the device's arena.
    pub kv: Box<dyn KvBlocks>,
    pub cost: ModelCost,
    pub setup: ModelSetup,
    options: ActivateOptions,
    spec: Arc<DecoderSpec>,
    pub weights: Weights,
    /// Its weights go when its requests are answered; new ones are refused.
    pub is_unloading: bool,
    /// When it ran last.
    pub used: Instant,
    /// What its steps took so far.
    pub step_cost: StepCost,
    /// Bytes of its KV swapped out since start.
    pub swap_out_bytes: u64,
    /// Bytes swapped back in.
    pub swap_in_bytes: u64,
}

impl Known {
    /// Whether it can run.
    pub fn is_active(&self) -> bool {
        matches!(self.weights, Weights::Active { .. })
    }

    /// Whether its weights take, or are about to take, memory.
    fn is_held(&self) -> bool {
        matches!(self.weights, Weights::Active { .. } | Weights::Loading(_))
    }
}

/// All models of one device and the memory that they share.
pub struct Registry {
    backend: Box<dyn Backend>,
    arena: KvArena,
    /// Swapped blocks of all models.
    pub host: HostPool,
    pub budget: Budget,
    pub models: Vec<Known>,
}

impl Registry {
    /// Opens every model of the options; no weights are read yet.
    pub fn open(mut backend: Box<dyn Backend>, options: &EngineOptions) -> Result<Self, HostError> {
        if options.models.is_empty() {
            return Err(HostError::NoModel);
        }
        let slabs = options.kv_bytes.div_ceil(SLAB_BYTES);
        let bytes = slabs * SLAB_BYTES;
        let arena = backend.arena(SLAB_BYTES, slabs).map_err(|source| HostError::Arena { bytes, source })?;
        let bytes = options.swap_space_bytes;
        let host =
            HostPool::new(bytes).map_err(|error| HostError::HostPool { bytes, what: error.to_string() })?;
        let mut models = Vec::new();
        for (index, source) in options.models.iter().enumerate() {
            models.push(open_one(&mut *backend, &arena, ModelId(index as u32), source, options)?);
        }
        let scratch = models.iter().map(|known| known.cost.scratch_bytes as u64).max().unwrap_or(0);
        let budget = Budget {
            bytes_max: options.memory_bytes,
            kv_bytes: (slabs * SLAB_BYTES) as u64,
            host_pool_bytes: options.swap_space_bytes as u64,
            scratch_bytes: scratch,
        };
        Ok(Self { backend, arena, host, budget, models })
    }

    /// Loads the first model, and of the others in their order those that still fit.
    pub fn load_first(&mut self, progress: &mut dyn FnMut(&str, f32)) -> Result<(), HostError> {
        for index in 0..self.models.len() {
            let known = &self.models[index];
            let (name, path) = (known.served.name.clone(), known.source.path.clone());
            let needed = known.served.weight_bytes;
            if let Err(what) = self.budget.fits(self.weight_bytes(), needed) {
                if index == 0 {
                    return Err(HostError::TooLarge { path, what });
                }
                tracing::info!(model = %name, %what, "model stays cold until it is asked for");
                continue;
            }
            let known = &self.models[index];
            let begun = Instant::now();
            let warm = known
                .source
                .open()
                .map_err(|error| error.to_string())
                .and_then(|files| {
                    let loader = self.backend.loader();
                    loader.warm(&files, &mut |share| progress(&name, share)).map_err(|e| e.to_string())
                })
                .map_err(|what| HostError::Load { path: path.clone(), what })?;
            let packing_seconds = begun.elapsed().as_secs_f32();
            self.activate(index, warm).map_err(|source| HostError::Backend { path, source })?;
            tracing::info!(model = %name, packing_seconds, "weights packed");
        }
        self.budget.log(self.weight_bytes());
        Ok(())
    }

    /// Bytes of weights that are loaded or on their way.
    pub fn weight_bytes(&self) -> u64 {
        self.models.iter().filter(|known| known.is_held()).map(|known| known.served.weight_bytes).sum()
    }

    /// Whether weights are on their way.
    pub fn is_loading(&self) -> bool {
        self.models.iter().any(|known| matches!(known.weights, Weights::Loading(_)))
    }

    /// The model of an id that this registry gave out.
    pub fn get_mut(&mut self, id: ModelId) -> Option<&mut Known> {
        self.models.get_mut(id.0 as usize)
    }

    /// Reads a model's weights on a thread of its own; `done` is called there.
    pub fn load(
        &mut self,
        id: ModelId,
        done: impl FnOnce(ModelId, Result<WarmModel, String>) + Send + 'static,
    ) -> Result<(), String> {
        let loader = self.backend.loader();
        let known = self.models.get_mut(id.0 as usize).ok_or("no such model")?;
        let share = Arc::new(AtomicU32::new(0));
        known.weights = Weights::Loading(share.clone());
        let source = known.source.clone();
        let work = move || {
            let read = || -> Result<WarmModel, String> {
                let files = source.open().map_err(|error| error.to_string())?;
                let mut progress = |done: f32| share.store((done * 1000.0) as u32, Ordering::Relaxed);
                loader.warm(&files, &mut progress).map_err(|error| error.to_string())
            };
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            done(id, read.unwrap_or_else(|_| Err("reading the weights panicked".into())));
        };
        let spawned = std::thread::Builder::new().name("loader".into()).spawn(work);
        spawned.map(drop).map_err(|error| format!("no thread to load it: {error}"))
    }

    /// Makes the executor of a model whose weights are there.
    pub fn activate(&mut self, index: usize, warm: WarmModel) -> Result<(), BackendError> {
        let Self { backend, models, .. } = self;
        let Some(known) = models.get_mut(index) else { return Err(BackendError::Foreign) };
        let executor = backend.activate(&warm, &*known.kv, &known.options)?;
        let served = &known.served;
        tracing::info!(
            model = %served.name,
            architecture = %served.architecture,
            quantization = %served.quantization,
            weight_bytes = warm.bytes,
            scratch_bytes_max = known.cost.scratch_bytes,
            context_tokens = served.context_tokens_max,
            isa = %executor.caps().isa,
            "model active"
        );
        known.weights = Weights::Active { warm, executor };
        known.used = Instant::now();
        Ok(())
    }

    /// Drops every executor and makes new ones from the warm weights, after a fault left them in doubt.
    pub fn reactivate(&mut self) -> Result<(), BackendError> {
        for index in 0..self.models.len() {
            let weights = std::mem::replace(&mut self.models[index].weights, Weights::Cold);
            match weights {
                Weights::Active { warm, executor } => {
                    drop(executor);
                    self.activate(index, warm)?;
                }
                other => self.models[index].weights = other,
            }
        }
        // What swaps in flight still do must reach nobody.
        for known in &mut self.models {
            known.kv = self.backend.kv_blocks(&known.spec, &self.arena, known.options.block_tokens)?;
        }
        Ok(())
    }
}

fn open_one(
    backend: &mut dyn Backend,
    arena: &KvArena,
    id: ModelId,
    source: &ModelSource,
    options: &EngineOptions,
) -> Result<Known, HostError> {
    let path = source.path.clone();
    let files =
        source.open().map_err(|source| HostError::File { path: path.clone(), source: Box::new(source) })?;
    let text = TextModel::open(files.weights.file())
        .map_err(|source| HostError::Text { path: path.clone(), source: Box::new(source) })?;
    let activate = ActivateOptions {
        block_tokens: options.block_tokens as usize,
        batch_tokens_max: options.step_tokens_max as usize,
        batch_rows_max: options.step_rows_max as usize,
    };
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
        let (kv_bytes, needed) = (options.kv_bytes, options.step_tokens_max);
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
        source: source.clone(),
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
