//! The device as a back end: packs models on the host, uploads them, gives each its view of the KV arena.

use std::sync::{Arc, Mutex};

use quarry_cuda_layout::{Holding, KvShape};
use quarry_model::backend::{
    ActivateOptions, Backend, BackendError, Loader, ModelCost, ModelFiles, Monitor, WarmModel,
};
use quarry_model::copier::{Completions, Copier};
use quarry_model::executor::{ExecError, Executor, KvBlocks};
use quarry_model::kv::KvArena;
use quarry_model::limits::GPU_MEMORY_UTILIZATION_DEFAULT;
use quarry_model::sampler::{SampleRow, Sampled};
use quarry_model::spec::DecoderSpec;

use crate::device::{Device, DeviceId, Memory, Unavailable, backend, exec};
use crate::draws::{DrawRoom, Draws, Place};
use crate::executor::CudaExecutor;
use crate::kv::{CudaKvBlocks, KvCache};
use crate::locked_pool::LockedPool;
use crate::nvml::{self, Nvml};
use crate::prefill::PrefillAttention;
use crate::probe::{Probe, ProbePlan};
use crate::weights::HostWeights;

/// How the device is used.
#[derive(Clone, Debug)]
pub struct CudaOptions {
    /// Which device.
    pub device: DeviceId,
    /// Share of the device's memory that may be taken, above 0 and at most 1.
    pub memory_utilization: f64,
    /// How models are held.
    pub holding: Holding,
    /// Kernels in place of those that were built in; for tests, whose driver is none.
    pub image: Option<&'static [u8]>,
    /// Computes attention of rows with many tokens in place of our own kernel.
    pub prefill_attention: Option<&'static dyn PrefillAttention>,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self {
            device: DeviceId::First,
            memory_utilization: GPU_MEMORY_UTILIZATION_DEFAULT,
            holding: Holding::default(),
            image: None,
            prefill_attention: None,
        }
    }
}

/// One CUDA device.
pub struct CudaBackend {
    device: Arc<Device>,
    copier: Arc<Copier>,
    locked: Arc<Mutex<Option<LockedPool>>>,
    memory_bytes: u64,
    prefill_attention: Option<&'static dyn PrefillAttention>,
    holding: Holding,
}

/// Packs weights into host memory that the device reads by itself.
struct CudaLoader {
    device: Arc<Device>,
    holding: Holding,
}

impl Loader for CudaLoader {
    fn warm(&self, files: &ModelFiles, progress: &mut dyn FnMut(f32)) -> Result<WarmModel, BackendError> {
        let weights = HostWeights::load(files, &self.device, self.holding, progress)?;
        Ok(WarmModel { spec: files.spec.clone(), bytes: weights.bytes(), state: Arc::new(weights) })
    }
}

impl CudaBackend {
    /// Opens a device. Its budget is its share of the memory, or what is free where others have taken more than the rest.
    ///
    /// # Errors
    /// [`Unavailable`] in one line for the user, who may then compute on the CPU.
    pub fn new(options: CudaOptions) -> Result<Self, Unavailable> {
        let device = Device::open(&options.device, options.image)?;
        let (total, free) =
            device.memory().map_err(|error| Unavailable::Driver(crate::device::text(error)))?;
        let copier =
            Copier::start().map_err(|error| Unavailable::Driver(format!("copier thread: {error}")))?;
        let share = (total as f64 * options.memory_utilization.clamp(0.0, 1.0)) as u64;
        let memory_bytes = share.min(free);
        let (device, copier, locked) = (Arc::new(device), Arc::new(copier), Arc::default());
        let (prefill_attention, holding) = (options.prefill_attention, options.holding);
        Ok(Self { device, copier, locked, memory_bytes, prefill_attention, holding })
    }

    /// Draws from `samples.len() × vocab` logits as an executor does; and how many of the rows the host drew. For tests.
    ///
    /// # Errors
    /// The device's failure.
    #[doc(hidden)]
    pub fn draw(
        &self,
        logits: &[f32],
        vocab: usize,
        samples: &[SampleRow<'_>],
    ) -> Result<(Vec<Sampled>, usize), ExecError> {
        let room = DrawRoom::plan(samples.len(), vocab);
        let begin = room.bytes.next_multiple_of(256);
        let memory = self.device.allocate(begin + logits.len() * 4).map_err(exec)?;
        let place = Place { device: &self.device, memory: &memory, logits: begin, room: 0 };
        let (mut draws, mut out) = (Draws::new(room, &self.device).map_err(exec)?, Vec::new());
        memory.write(begin, bytemuck::cast_slice(logits), &self.device.compute).map_err(exec)?;
        draws.send(place, samples).map_err(exec)?;
        draws.queue(place, samples).map_err(exec)?;
        draws.collect(place, samples, &mut out).map_err(exec)?;
        Ok((out, draws.host_rows))
    }

    /// What the device does at most, measured now.
    ///
    /// # Errors
    /// The device's failure, for want of memory too.
    pub fn probe(&self, plan: ProbePlan) -> Result<Probe, ExecError> {
        crate::probe::probe(&self.device, plan).map_err(exec)
    }

    /// Its UUID as NVML has it, `GPU-…`.
    pub fn device_uuid(&self) -> &str {
        &self.device.uuid
    }

    /// What the device is called.
    pub fn device_name(&self) -> &str {
        &self.device.name
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn monitor(&self) -> Option<Arc<dyn Monitor>> {
        match Nvml::open(nvml::LIBRARY, &self.device.name, &self.device.uuid) {
            Ok(nvml) => Some(Arc::new(nvml)),
            Err(why) => {
                tracing::debug!(%why, "no figures of the device");
                None
            }
        }
    }

    fn own_memory_bytes(&self) -> Option<u64> {
        Some(self.memory_bytes)
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn cost(&self, spec: &DecoderSpec, files: &ModelFiles, options: &ActivateOptions) -> ModelCost {
        self.holding.cost(spec, files.weights.tensors(), options)
    }

    fn loader(&self) -> Arc<dyn Loader> {
        Arc::new(CudaLoader { device: self.device.clone(), holding: self.holding })
    }

    fn arena(&mut self, slab_bytes: usize, slabs: usize) -> Result<KvArena, BackendError> {
        let slab_bytes = slab_bytes.next_multiple_of(quarry_model::kv::SLAB_ALIGN);
        let (_, free) = self.device.memory().map_err(backend)?;
        let needed_bytes = slab_bytes.saturating_mul(slabs);
        let memory = self.device.allocate(needed_bytes).map_err(|error| match error.0 {
            cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                BackendError::Memory { what: "the KV cache", needed_bytes, free_bytes: free as usize }
            }
            _ => backend(error),
        })?;
        Ok(KvArena::new(slab_bytes, slabs, Arc::new(memory)))
    }

    fn kv_blocks(
        &mut self,
        spec: &DecoderSpec,
        arena: &KvArena,
        block_tokens: usize,
    ) -> Result<Box<dyn KvBlocks>, BackendError> {
        let shape = KvShape::new(spec, block_tokens).of(self.holding.kv);
        if block_tokens == 0 || !block_tokens.is_multiple_of(16) {
            let what = format!("blocks of {block_tokens} positions: the kernels need a multiple of 16");
            return Err(BackendError::Options(what));
        }
        arena.check_block(shape.block_bytes())?;
        let cache = KvCache::new(shape, arena).ok_or(BackendError::Foreign)?;
        Ok(Box::new(CudaKvBlocks {
            cache: Arc::new(cache),
            device: self.device.clone(),
            copier: self.copier.clone(),
            completions: Completions::default(),
            locked: self.locked.clone(),
        }))
    }

    fn activate(
        &mut self,
        model: &WarmModel,
        kv: &dyn KvBlocks,
        options: &ActivateOptions,
    ) -> Result<Box<dyn Executor>, BackendError> {
        let weights = model.state.clone().downcast::<HostWeights>().map_err(|_| BackendError::Foreign)?;
        let cache = kv.state().downcast::<KvCache>().map_err(|_| BackendError::Foreign)?;
        options.check(cache.shape.block_tokens)?;
        let (device, spec) = (self.device.clone(), model.spec.clone());
        let executor = CudaExecutor::new(device, spec, weights, cache, options, self.prefill_attention)?;
        Ok(Box::new(executor))
    }
}

/// The arena's storage.
const _: fn() = || {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<Memory>();
};
