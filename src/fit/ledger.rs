//! What a device has left for KV beside a model, or beside two: the engine's own rule, in tokens.

use quarry_cuda_layout::{Holding, KvKind};
use quarry_model::backend::{ActivateOptions, ModelCost};
use quarry_runtime::limits::SLAB_BYTES;
use quarry_runtime::{Budget, kv_slabs};

use super::Candidate;
use crate::config::{KvCacheType, ServerConfig};

/// What of the configuration says how much memory is taken, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub options: ActivateOptions,
    /// How the device holds models.
    pub holding: Holding,
    /// Share of the device's memory.
    pub utilization: f64,
    /// Slabs of KV memory, where somebody set them.
    kv_slabs: Option<u64>,
    context_tokens_max: usize,
}

/// A model that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    pub kv_bytes: u64,
    /// Positions of this model that the KV memory holds.
    pub positions: usize,
    /// The longest conversation.
    pub context_tokens: usize,
}

/// How two models share a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// The weights of both are there, and so many bytes of KV.
    AtOnce { kv_bytes: u64 },
    /// The weights of one are there and so many bytes of KV; the other's are warm in host memory.
    InTurns { kv_bytes: u64 },
}

impl Terms {
    pub fn of(server: &ServerConfig) -> Self {
        Self {
            options: ActivateOptions {
                block_tokens: server.block_tokens as usize,
                batch_tokens_max: server.step_tokens_max as usize,
                batch_rows_max: server.step_rows_max as usize,
            },
            holding: Holding {
                kv: if server.kv_cache_type == KvCacheType::Int8 { KvKind::Int8 } else { KvKind::Bf16 },
                int8_head: server.int8_head,
            },
            utilization: server.gpu_memory_utilization,
            kv_slabs: server.kv_cache.map(|bytes| bytes.0.div_ceil(SLAB_BYTES as u64)),
            context_tokens_max: server.context_tokens_max.map_or(usize::MAX, |tokens| tokens as usize),
        }
    }

    /// Bytes that may be taken of a device's memory.
    pub fn budget_bytes(&self, device_bytes: u64) -> u64 {
        (device_bytes as f64 * self.utilization) as u64
    }

    /// The books of a device beside these models; its KV memory is what the engine would take.
    fn budget(&self, device_bytes: u64, costs: &[ModelCost]) -> Budget {
        let device_bytes_max = self.budget_bytes(device_bytes);
        let slabs = self.kv_slabs.unwrap_or_else(|| u64::from(kv_slabs(device_bytes_max, costs)));
        let scratch = costs.iter().map(|cost| cost.scratch_bytes as u64).max();
        Budget {
            device_bytes_max: Some(device_bytes_max),
            kv_bytes: slabs * SLAB_BYTES as u64,
            scratch_bytes: scratch.unwrap_or(0),
            ..Budget::default()
        }
    }

    /// A model alone on a device; `None` where it cannot run there.
    pub fn fit(&self, device_bytes: u64, model: &Candidate) -> Option<Fit> {
        let cost = model.cost(self);
        let budget = self.budget(device_bytes, &[cost]);
        if !budget.holds(cost.weight_bytes as u64) {
            return None;
        }
        let blocks = (budget.kv_bytes / SLAB_BYTES as u64) as usize * (SLAB_BYTES / cost.block_bytes.max(1));
        let positions = blocks * self.options.block_tokens;
        let own = model.spec.context_tokens_max.min(self.context_tokens_max);
        // The engine asks for room for one step at least.
        (positions >= self.options.batch_tokens_max).then_some(Fit {
            kv_bytes: budget.kv_bytes,
            positions,
            context_tokens: own.min(positions),
        })
    }

    /// Two models on a device; `None` where one of them cannot run there.
    pub fn pair(&self, device_bytes: u64, models: [&Candidate; 2]) -> Option<Pair> {
        self.fit(device_bytes, models[0]).and(self.fit(device_bytes, models[1]))?;
        let costs = models.map(|model| model.cost(self));
        let budget = self.budget(device_bytes, &costs);
        let kv_bytes = budget.kv_bytes;
        let weights = costs.iter().map(|cost| cost.weight_bytes as u64).sum();
        Some(if budget.holds(weights) { Pair::AtOnce { kv_bytes } } else { Pair::InTurns { kv_bytes } })
    }
}
