//! Logits of transformers' own models on these weights, in f32; with YaRN, of a pass in numpy that agrees with them.

use serde::Deserialize;

use crate::shape::TinyModel;

/// YaRN of the golden logits: factor, and positions before extension.
pub const YARN: (f32, usize) = (4.0, 32);

/// What `golden.py` wrote for one model.
#[derive(Clone, Debug, Deserialize)]
pub struct Golden {
    /// [`TinyModel::name`].
    pub model: String,
    /// One entry per prompt.
    pub prompts: Vec<GoldenPrompt>,
}

/// A prompt and some of its logits.
#[derive(Clone, Debug, Deserialize)]
pub struct GoldenPrompt {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Positions whose logits follow, ascending, the last position among them.
    pub positions: Vec<usize>,
    /// Logits of each position, one per vocabulary entry.
    pub logits: Vec<Vec<f32>>,
}

impl TinyModel {
    /// The golden logits of this model with F32 weights.
    ///
    /// # Panics
    /// For a model that is none of [`TinyModel::all`].
    pub fn golden(&self) -> Golden {
        let json = match self.name {
            "qwen3" => include_str!("../golden/qwen3.json"),
            "qwen3_tied" => include_str!("../golden/qwen3_tied.json"),
            "qwen2" => include_str!("../golden/qwen2.json"),
            "llama" => include_str!("../golden/llama.json"),
            other => panic!("no golden logits for {other}"),
        };
        serde_json::from_str(json).expect("the committed file is what golden.py wrote")
    }

    /// The golden logits of [`TinyModel::qwen3`] with F32 weights and [`YARN`], by `golden_numpy.py`.
    pub fn golden_yarn() -> Golden {
        let json = include_str!("../golden/qwen3_yarn.json");
        serde_json::from_str(json).expect("the committed file is what golden_numpy.py wrote")
    }

    /// Hidden states of [`TinyModel::qwen3`] with F32 weights after the output norm, in place of logits, by `golden_numpy.py`.
    pub fn golden_hidden() -> Golden {
        let json = include_str!("../golden/qwen3_hidden.json");
        serde_json::from_str(json).expect("the committed file is what golden_numpy.py wrote")
    }
}
