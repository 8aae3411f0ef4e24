//! The paged KV cache.

use quarry_model::spec::DecoderSpec;

/// Positions of an int8 block whose numbers lie before their scales, and what a row of numbers is padded to: a multiple
/// of 16 bytes, which is what kernels copy at a time. A block has a multiple of so many positions.
const STEP: usize = 16;

/// How keys and values are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvKind {
    /// bfloat16: rounded to 8 significant bits.
    #[default]
    Bf16,
    /// Integers of 8 bits with an f32 scale for each key and each value of a head: off by at most 1/254 of its largest
    /// number. Errors of logits in the conformance suite, in parts of the largest: mean 0.020, worst 0.057; of bf16 0.015
    /// and 0.045 (of which most is activations of 8 bits).
    Int8,
}

impl KvKind {
    /// As the log says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of one key or value of a head, its scale among them.
    fn bytes(self, head_dim: usize) -> usize {
        match self {
            Self::Bf16 => 2 * head_dim,
            Self::Int8 => head_dim.next_multiple_of(STEP) + size_of::<f32>(),
        }
    }
}

/// Shape of a block: `layers × (keys, values) × kv_heads × block_tokens × head_dim` numbers. Of int8, 16 rows of integers,
/// each padded to 16, are followed by their 16 scales, and so on.
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
    /// How a number is held.
    pub kind: KvKind,
}

impl KvShape {
    /// A model's blocks of so many positions, of bf16.
    pub fn new(spec: &DecoderSpec, block_tokens: usize) -> Self {
        let DecoderSpec { layers, kv_heads, head_dim, .. } = *spec;
        Self { layers, kv_heads, head_dim, block_tokens, kind: KvKind::Bf16 }
    }

    /// The same of another kind.
    pub fn of(self, kind: KvKind) -> Self {
        Self { kind, ..self }
    }

    /// Bytes of one block.
    pub fn block_bytes(&self) -> usize {
        self.block_tokens * self.position_bytes()
    }

    /// Bytes of one position.
    pub fn position_bytes(&self) -> usize {
        self.layers * 2 * self.kv_heads * self.kind.bytes(self.head_dim)
    }
}
