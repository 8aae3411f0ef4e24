//! The reference as a device.

use std::sync::{Arc, Mutex, PoisonError};

use quarry_model::backend::{
    ActivateOptions, Backend, BackendError, Loader, ModelCost, ModelFiles, WarmModel,
};
use quarry_model::executor::{Executor, KvBlocks};
use quarry_model::kv::KvArena;
use quarry_model::spec::DecoderSpec;

use crate::cache::{BlockShape, Cache};
use crate::executor::ReferenceExecutor;
use crate::swap::ReferenceKvBlocks;
use crate::weights::Weights;

/// The reference back end; keeps nothing between models.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend;

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn own_memory_bytes(&self) -> Option<u64> {
        None
    }

    fn cost(&self, spec: &DecoderSpec, files: &ModelFiles, options: &ActivateOptions) -> ModelCost {
        let elements: usize = files.weights.tensors().iter().map(|t| t.shape.iter().product::<usize>()).sum();
        let row = 4 * spec.hidden + 2 * spec.mlp_hidden + 3 * spec.heads * spec.head_dim + spec.vocab;
        ModelCost {
            weight_bytes: elements * size_of::<f32>(),
            block_bytes: BlockShape::new(spec, options.block_tokens).bytes(),
            scratch_bytes: options.batch_tokens_max * row * size_of::<f32>(),
        }
    }

    fn loader(&self) -> Arc<dyn Loader> {
        Arc::new(*self)
    }

    fn arena(&mut self, slab_bytes: usize, slabs: usize) -> Result<KvArena, BackendError> {
        // Blocks are vectors of their own.
        Ok(KvArena::new(slab_bytes, slabs, Arc::new(*self)))
    }

    fn kv_blocks(
        &mut self,
        spec: &DecoderSpec,
        arena: &KvArena,
        block_tokens: usize,
    ) -> Result<Box<dyn KvBlocks>, BackendError> {
        if block_tokens == 0 {
            return Err(BackendError::Options("blocks of no position".into()));
        }
        arena.storage::<Self>().ok_or(BackendError::Foreign)?;
        let shape = BlockShape::new(spec, block_tokens);
        arena.check_block(shape.bytes())?;
        let blocks = arena.slabs() * arena.slab_blocks(shape.bytes());
        Ok(Box::new(ReferenceKvBlocks::new(Cache::new(shape, blocks))))
    }

    fn activate(
        &mut self,
        model: &WarmModel,
        kv: &dyn KvBlocks,
        options: &ActivateOptions,
    ) -> Result<Box<dyn Executor>, BackendError> {
        let weights = model.state.clone().downcast::<Weights>().map_err(|_| BackendError::Foreign)?;
        let cache = kv.state().downcast::<Mutex<Cache>>().map_err(|_| BackendError::Foreign)?;
        let block_tokens = cache.lock().unwrap_or_else(PoisonError::into_inner).shape.tokens;
        options.check(block_tokens)?;
        Ok(Box::new(ReferenceExecutor::new(model.spec.clone(), weights, cache, options)))
    }
}

impl Loader for ReferenceBackend {
    fn warm(&self, files: &ModelFiles, progress: &mut dyn FnMut(f32)) -> Result<WarmModel, BackendError> {
        let weights = Weights::load(files)?;
        progress(1.0);
        Ok(WarmModel { spec: files.spec.clone(), bytes: weights.bytes, state: Arc::new(weights) })
    }
}
