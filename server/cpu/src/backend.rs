//! The CPU as a device: packs models, gives each its view of the KV arena, makes executors.

use std::sync::{Arc, Mutex, PoisonError};

use quarry_model::backend::{
    ActivateOptions, Backend, BackendError, Loader, ModelCost, ModelFiles, WarmModel,
};
use quarry_model::copier::{Completions, Copier};
use quarry_model::executor::{Executor, KvBlocks};
use quarry_model::kv::KvArena;
use quarry_model::spec::DecoderSpec;
use quarry_model::weights::WeightInfo;

use crate::executor::CpuExecutor;
use crate::forward;
use crate::isa::{Isa, Kernels};
use crate::kernels::vector::LANES;
use crate::kv::{KvCache, KvShape};
use crate::packing::{Form, GROUP, Layout, TILE};
use crate::swap::CpuKvBlocks;
use crate::threads::Threads;
use crate::topology;
use crate::weights::Weights;

/// How the CPU is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads; 0 takes one per physical core within the process's affinity and quota.
    pub threads: usize,
    /// Instruction set; `None` takes the best there is.
    pub isa: Option<Isa>,
}

/// The CPU.
pub struct CpuBackend {
    kernels: Kernels,
    threads: Arc<Mutex<Threads>>,
    copier: Arc<Copier>,
}

/// Packs weights on the threads of the steps, a tensor at a time.
struct CpuLoader {
    threads: Arc<Mutex<Threads>>,
}

impl Loader for CpuLoader {
    fn warm(&self, files: &ModelFiles, progress: &mut dyn FnMut(f32)) -> Result<WarmModel, BackendError> {
        let weights = Weights::load(files, &self.threads, progress)?;
        Ok(WarmModel { spec: files.spec.clone(), bytes: weights.bytes(), state: Arc::new(weights) })
    }
}

impl CpuBackend {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`BackendError::Options`] for an instruction set that this machine lacks.
    pub fn new(options: CpuOptions) -> Result<Self, BackendError> {
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let kernels = Kernels::new(isa)
            .ok_or_else(|| BackendError::Options(format!("this machine has no {}", isa.name())))?;
        let count = if options.threads == 0 { topology::threads() } else { options.threads };
        // Fewer or more threads than cores: the system's scheduler knows better where they run.
        let threads = match topology::cores() {
            Some(cores) if cores.len() == count => Threads::kept(cores.clone()),
            _ => Threads::new(count),
        };
        let copier =
            Copier::start().map_err(|error| BackendError::Device(format!("copier thread: {error}")))?;
        Ok(Self { kernels, threads: Arc::new(Mutex::new(threads)), copier: Arc::new(copier) })
    }
}

impl CpuBackend {
    /// Threads that share a step.
    pub fn threads(&self) -> usize {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).count()
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn own_memory_bytes(&self) -> Option<u64> {
        None
    }

    fn cost(&self, spec: &DecoderSpec, files: &ModelFiles, options: &ActivateOptions) -> ModelCost {
        let packed = |shape: &[usize], kind| match *shape {
            [rows, columns] => {
                rows.div_ceil(TILE) * Layout::new(Form::of(kind), columns.div_ceil(GROUP)).bytes
            }
            _ => 4 * shape.iter().product::<usize>(),
        };
        let weight = |t: &WeightInfo| match t.name.as_str() {
            "token_embd.weight" if !spec.tied_head => t.bytes,
            _ => packed(&t.shape, t.kind),
        };
        ModelCost {
            weight_bytes: files.weights.tensors().iter().map(weight).sum(),
            block_bytes: KvShape::new(spec, options.block_tokens).block_bytes(),
            scratch_bytes: forward::scratch_bytes(spec, options),
        }
    }

    fn loader(&self) -> Arc<dyn Loader> {
        Arc::new(CpuLoader { threads: self.threads.clone() })
    }

    fn arena(&mut self, slab_bytes: usize, slabs: usize) -> Result<KvArena, BackendError> {
        KvArena::host(slab_bytes, slabs).map_err(|error| BackendError::Device(error.to_string()))
    }

    fn kv_blocks(
        &mut self,
        spec: &DecoderSpec,
        arena: &KvArena,
        block_tokens: usize,
    ) -> Result<Box<dyn KvBlocks>, BackendError> {
        if block_tokens == 0 || !block_tokens.is_multiple_of(LANES) {
            return Err(BackendError::Options(format!(
                "blocks of {block_tokens} positions: the CPU's kernels read {LANES} keys at a time, so a multiple of {LANES} is needed"
            )));
        }
        let shape = KvShape::new(spec, block_tokens);
        arena.check_block(shape.block_bytes())?;
        let cache = KvCache::new(shape, arena).ok_or(BackendError::Foreign)?;
        let (copier, completions) = (self.copier.clone(), Completions::default());
        Ok(Box::new(CpuKvBlocks { cache: Arc::new(cache), copier, completions }))
    }

    fn activate(
        &mut self,
        model: &WarmModel,
        kv: &dyn KvBlocks,
        options: &ActivateOptions,
    ) -> Result<Box<dyn Executor>, BackendError> {
        let weights = model.state.clone().downcast::<Weights>().map_err(|_| BackendError::Foreign)?;
        let cache = kv.state().downcast::<KvCache>().map_err(|_| BackendError::Foreign)?;
        options.check(cache.shape.head.block_tokens)?;
        let (kernels, threads) = (self.kernels, self.threads.clone());
        Ok(Box::new(CpuExecutor::new(model.spec.clone(), weights, kernels, threads, cache, options)))
    }
}
