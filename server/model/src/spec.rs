//! One decoder, described by data. A family is a mapping from file metadata to this (at most 120 lines).

/// A pre-norm decoder with grouped-query attention and a gated MLP (SiLU).
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// The family's name as in the file (`qwen3`, `qwen2`, `llama`).
    pub architecture: String,
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub mlp_hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; `heads * head_dim` need not equal `hidden`.
    pub head_dim: usize,
    /// Rows of the embedding and of the head.
    pub vocab: usize,
    /// Positions the model was trained for (scaled by `rope.scaling` where present).
    pub context_tokens_max: usize,
    /// Epsilon of every RMS norm.
    pub norm_epsilon: f32,
    /// Rotary embedding.
    pub rope: RopeSpec,
    /// RMS norm over each query and key head before RoPE (Qwen3).
    pub qk_norm: bool,
    /// Bias on the query, key and value projections (Qwen2).
    pub qkv_bias: bool,
    /// The head shares the embedding's weights.
    pub tied_head: bool,
}

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f32,
    /// Dimensions rotated, from the first; `head_dim` in all supported families.
    pub dims: usize,
    /// Which dimensions form a pair.
    pub pairing: RopePairing,
    /// Context extension.
    pub scaling: RopeScaling,
}

/// Which dimensions are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// `(i, i + dims/2)`: Qwen2, Qwen3 (GPT-NeoX order).
    Halves,
    /// `(2i, 2i + 1)`: llama as GGUF files permute it.
    Neighbours,
}

/// Context extension.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor.
        factor: f32,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    Yarn {
        /// Extension factor.
        factor: f32,
        /// Positions before extension.
        original_context: usize,
        /// Ramp bounds, in rotations.
        beta_fast: f32,
        /// Ramp bounds, in rotations.
        beta_slow: f32,
        /// Multiplies cos and sin.
        attention_factor: f32,
    },
}
