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
    /// By wavelength, as llama 3.1 (source: transformers `modeling_rope_utils.py`).
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f32,
        /// Positions before extension.
        original_context: usize,
        /// Turns within the original context up to which a frequency is divided.
        low_frequency_factor: f32,
        /// Turns from which on it is kept.
        high_frequency_factor: f32,
    },
}

impl RopeScaling {
    /// YaRN with the paper's constants (sections 3.2 and 3.4).
    pub fn yarn(factor: f32, original_context: usize) -> Self {
        let attention_factor = 0.1 * factor.ln() + 1.0;
        Self::Yarn { factor, original_context, beta_fast: 32.0, beta_slow: 1.0, attention_factor }
    }

    /// Its name in files.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Linear { .. } => "linear",
            Self::Yarn { .. } => "yarn",
            Self::Llama3 { .. } => "llama3",
        }
    }

    /// Positions of a model whose file says `positions`: YaRN's are the extended ones, whether the file counts them or not.
    pub fn context(&self, positions: usize) -> usize {
        match *self {
            // The cast saturates.
            Self::Yarn { factor, original_context, .. } => {
                positions.max((f64::from(factor) * original_context as f64) as usize)
            }
            _ => positions,
        }
    }

    /// The parameter that is impossible, its value, and what would do.
    pub fn problem(&self) -> Option<(&'static str, f64, &'static str)> {
        let extends = |factor: f32| {
            let bad = !(factor.is_finite() && factor >= 1.0);
            bad.then_some(("factor", f64::from(factor), "must be 1 or more"))
        };
        let original =
            |positions: usize| (positions == 0).then_some(("original_context", 0.0, "must be above 0"));
        let above = |name, high: f32, low: f32| {
            let bad = !(high.is_finite() && low > 0.0 && high > low);
            bad.then_some((name, f64::from(high), "must be above its lower bound, which must be above 0"))
        };
        match *self {
            Self::None => None,
            Self::Linear { factor } => extends(factor),
            Self::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor: a } => {
                extends(factor)
                    .or_else(|| original(original_context))
                    .or_else(|| above("beta_fast", beta_fast, beta_slow))
                    .or_else(|| {
                        let bad = !(a.is_finite() && a > 0.0);
                        bad.then_some(("attention_factor", f64::from(a), "must be above 0"))
                    })
            }
            Self::Llama3 {
                factor,
                original_context,
                low_frequency_factor: low,
                high_frequency_factor: high,
            } => extends(factor)
                .or_else(|| original(original_context))
                .or_else(|| above("high_freq_factor", high, low)),
        }
    }
}
