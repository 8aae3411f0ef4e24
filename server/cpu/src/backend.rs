//! The CPU as a device: packs models, leases KV, makes executors.

use std::sync::{Arc, Mutex, PoisonError};

use quarry_model::backend::{ActivateOptions, Backend, BackendError, ModelCost, ModelFiles, WarmModel};
use quarry_model::executor::Executor;
use quarry_model::kv::KvArena;
use quarry_model::spec::DecoderSpec;

use crate::executor::CpuExecutor;
use crate::isa::{Isa, Kernels};
use crate::kv::KvShape;
use crate::packed::GROUP;
use crate::threads::Threads;
use crate::weights::Weights;

/// How the CPU is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads; 0 takes one per core.
    pub threads: usize,
    /// Instruction set; `None` takes the best there is.
    pub isa: Option<Isa>,
}

/// The CPU.
pub struct CpuBackend {
    kernels: Kernels,
    threads: Arc<Mutex<Threads>>,
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
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if options.threads == 0 { cores } else { options.threads };
        Ok(Self { kernels, threads: Arc::new(Mutex::new(Threads::new(count))) })
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn cost(&self, spec: &DecoderSpec, files: &ModelFiles, options: &ActivateOptions) -> ModelCost {
        let elements: usize = files.weights.tensors().iter().map(|t| t.shape.iter().product::<usize>()).sum();
        let row =
            spec.hidden * 2 + spec.mlp_hidden * 2 + (spec.heads + 2 * spec.kv_heads) * spec.head_dim * 2;
        ModelCost {
            // A byte per weight and one or two f32 per group.
            weight_bytes: elements + elements / GROUP * 6,
            block_bytes: KvShape::new(spec, options.block_tokens).block_bytes(),
            scratch_bytes: options.batch_tokens_max * row * 4 + options.batch_rows_max * spec.vocab * 4,
        }
    }

    fn warm(&mut self, files: &ModelFiles, progress: &mut dyn FnMut(f32)) -> Result<WarmModel, BackendError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let weights = Weights::load(files, &mut threads, progress)?;
        Ok(WarmModel { spec: files.spec.clone(), bytes: weights.bytes(), state: Arc::new(weights) })
    }

    fn activate(
        &mut self,
        model: &WarmModel,
        kv: &KvArena,
        options: &ActivateOptions,
    ) -> Result<Box<dyn Executor>, BackendError> {
        let weights = model.state.clone().downcast::<Weights>().map_err(|_| BackendError::Foreign)?;
        if options.block_tokens == 0 || options.batch_tokens_max == 0 || options.batch_rows_max == 0 {
            return Err(BackendError::Options(
                "block tokens, batch tokens and batch rows must be above 0".into(),
            ));
        }
        let shape = KvShape::new(&model.spec, options.block_tokens);
        let lease = kv.lease(options.blocks, shape.block_bytes()).map_err(|full| BackendError::Memory {
            what: "the KV cache",
            needed_bytes: full.needed.saturating_mul(kv.slab_bytes()),
            free_bytes: full.free * kv.slab_bytes(),
        })?;
        let (kernels, threads) = (self.kernels, self.threads.clone());
        Ok(Box::new(CpuExecutor::new(model.spec.clone(), weights, kernels, threads, shape, lease, options)))
    }
}
