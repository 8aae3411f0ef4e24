//! The shapes: small, but awkward where real ones are (head width of its own, one KV head, odd vocabulary).

use crate::vocabulary::VOCAB;

/// An architecture as `general.architecture` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// QK-norm, head width of its own, no biases.
    Qwen3,
    /// Biases on query, key and value.
    Qwen2,
    /// RoPE over neighbouring dimensions: query and key rows are permuted in the file.
    Llama,
}

impl Family {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Family::Qwen3 => "qwen3",
            Family::Qwen2 => "qwen2",
            Family::Llama => "llama",
        }
    }
}

/// A small random model. Rows of all matrices are multiples of 256 elements, so that every quantization fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TinyModel {
    /// Names the golden file.
    pub name: &'static str,
    /// The architecture.
    pub family: Family,
    /// Of all random streams.
    pub seed: u64,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub mlp_hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The head shares the embedding's weights.
    pub tied: bool,
    /// RoPE base.
    pub theta: f32,
    /// Epsilon of the norms.
    pub norm_epsilon: f32,
    /// Positions.
    pub context: usize,
}

impl TinyModel {
    const BASE: TinyModel = TinyModel {
        name: "",
        family: Family::Qwen3,
        seed: 0,
        layers: 2,
        hidden: 256,
        mlp_hidden: 512,
        heads: 8,
        kv_heads: 2,
        head_dim: 64,
        tied: false,
        theta: 1_000_000.0,
        norm_epsilon: 1e-6,
        context: 4096,
    };

    /// Qwen3: `heads × head_dim` is twice `hidden`, own head.
    pub const fn qwen3() -> Self {
        Self { name: "qwen3", seed: 3, ..Self::BASE }
    }

    /// Qwen3 with a tied head and one KV head of 128.
    pub const fn qwen3_tied() -> Self {
        Self { name: "qwen3_tied", seed: 33, heads: 4, kv_heads: 1, head_dim: 128, tied: true, ..Self::BASE }
    }

    /// Qwen2: biases.
    pub const fn qwen2() -> Self {
        Self { name: "qwen2", family: Family::Qwen2, seed: 2, heads: 4, ..Self::BASE }
    }

    /// llama: heads of 32, tied head.
    pub const fn llama() -> Self {
        Self {
            name: "llama",
            family: Family::Llama,
            seed: 1,
            kv_heads: 4,
            head_dim: 32,
            tied: true,
            theta: 100_000.0,
            norm_epsilon: 1e-5,
            ..Self::BASE
        }
    }

    /// All of them.
    pub const fn all() -> [Self; 4] {
        [Self::qwen3(), Self::qwen3_tied(), Self::qwen2(), Self::llama()]
    }

    /// Rows of the embedding.
    pub const fn vocab(&self) -> usize {
        VOCAB
    }
}
