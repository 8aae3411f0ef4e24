//! The paged KV cache.

use quarry_model::spec::DecoderSpec;

/// Shape of a block: `layers × (keys, values) × kv_heads × block_tokens × head_dim` numbers of bf16.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    /// Decoder layers.
    pub layers: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Positions.
    pub block_tokens: usize,
}

impl KvShape {
    /// A model's blocks of so many positions.
    pub fn new(spec: &DecoderSpec, block_tokens: usize) -> Self {
        let DecoderSpec { layers, kv_heads, head_dim, .. } = *spec;
        Self { layers, kv_heads, head_dim, block_tokens }
    }

    /// Bytes of one block.
    pub fn block_bytes(&self) -> usize {
        self.block_tokens * self.position_bytes()
    }

    /// Bytes of one position.
    pub fn position_bytes(&self) -> usize {
        self.layers * 2 * self.kv_heads * self.head_dim * 2
    }
}
