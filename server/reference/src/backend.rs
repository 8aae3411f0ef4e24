//! The reference as a device.

use std::sync::Arc;

use quarry_model::backend::{ActivateOptions, Backend, BackendError, ModelCost, ModelFiles, WarmModel};
use quarry_model::executor::Executor;
use quarry_model::kv::KvArena;
use quarry_model::spec::DecoderSpec;

use crate::cache::BlockShape;
use crate::executor::ReferenceExecutor;
use crate::weights::Weights;

/// The reference back end; keeps nothing between models.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend;

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "reference"
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

    fn warm(&mut self, files: &ModelFiles, progress: &mut dyn FnMut(f32)) -> Result<WarmModel, BackendError> {
        let weights = Weights::load(files)?;
        progress(1.0);
        Ok(WarmModel { spec: files.spec.clone(), bytes: weights.bytes, state: Arc::new(weights) })
    }

    fn activate(
        &mut self,
        model: &WarmModel,
        kv: &KvArena,
        options: &ActivateOptions,
    ) -> Result<Box<dyn Executor>, BackendError> {
        let weights = model.state.clone().downcast::<Weights>().map_err(|_| BackendError::Foreign)?;
        if options.block_tokens == 0 || options.batch_tokens_max == 0 || options.batch_rows_max == 0 {
            let what = "block tokens, batch tokens and batch rows must be above 0";
            return Err(BackendError::Options(what.into()));
        }
        let shape = BlockShape::new(&model.spec, options.block_tokens);
        let lease = kv.lease(options.blocks, shape.bytes()).map_err(|full| BackendError::Memory {
            what: "the KV cache",
            needed_bytes: full.needed.saturating_mul(kv.slab_bytes()),
            free_bytes: full.free * kv.slab_bytes(),
        })?;
        Ok(Box::new(ReferenceExecutor::new(model.spec.clone(), weights, shape, lease, options)))
    }
}
