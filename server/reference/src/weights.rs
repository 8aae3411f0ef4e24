//! A model's weights as f32 tensors.

use candle_core::{Device, Tensor};
use quarry_formats::quant::decode;
use quarry_model::backend::{BackendError, ModelFiles};

/// Weights and bias of one projection of the input.
pub struct Linear {
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

/// One decoder layer.
pub struct Layer {
    pub attention_norm: Tensor,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub query_norm: Option<Tensor>,
    pub key_norm: Option<Tensor>,
    pub output: Linear,
    pub mlp_norm: Tensor,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// All of a model.
pub struct Weights {
    pub embedding: Tensor,
    pub layers: Vec<Layer>,
    pub output_norm: Tensor,
    pub head: Linear,
    /// Bytes of the decoded form.
    pub bytes: usize,
}

struct Loader<'a> {
    files: &'a ModelFiles,
    bytes: usize,
}

impl Loader<'_> {
    fn tensor(&mut self, name: &str) -> Result<Tensor, BackendError> {
        let bad = |what: String| BackendError::Tensor { tensor: name.to_owned(), what };
        let (info, data) = self.files.weights.tensor(name).ok_or_else(|| bad("is missing".into()))?;
        let mut values = vec![0.0_f32; info.shape.iter().product()];
        decode(info.kind, &data, &mut values);
        self.bytes += values.len() * size_of::<f32>();
        Tensor::from_vec(values, info.shape.clone(), &Device::Cpu).map_err(|error| bad(error.to_string()))
    }

    fn optional(&mut self, name: &str, present: bool) -> Result<Option<Tensor>, BackendError> {
        present.then(|| self.tensor(name)).transpose()
    }

    fn linear(&mut self, name: &str, biased: bool) -> Result<Linear, BackendError> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        Ok(Linear { weight, bias: self.optional(&format!("{name}.bias"), biased)? })
    }
}

impl Weights {
    /// Decodes every tensor that the description names.
    pub fn load(files: &ModelFiles) -> Result<Self, BackendError> {
        let spec = &files.spec;
        let mut load = Loader { files, bytes: 0 };
        let embedding = load.tensor("token_embd.weight")?;
        let output_norm = load.tensor("output_norm.weight")?;
        let head = if spec.tied_head { embedding.clone() } else { load.tensor("output.weight")? };
        let mut layers = Vec::with_capacity(spec.layers);
        for layer in 0..spec.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            layers.push(Layer {
                attention_norm: load.tensor(&name("attn_norm.weight"))?,
                query: load.linear(&name("attn_q"), spec.qkv_bias)?,
                key: load.linear(&name("attn_k"), spec.qkv_bias)?,
                value: load.linear(&name("attn_v"), spec.qkv_bias)?,
                query_norm: load.optional(&name("attn_q_norm.weight"), spec.qk_norm)?,
                key_norm: load.optional(&name("attn_k_norm.weight"), spec.qk_norm)?,
                output: load.linear(&name("attn_output"), false)?,
                mlp_norm: load.tensor(&name("ffn_norm.weight"))?,
                gate: load.linear(&name("ffn_gate"), false)?,
                up: load.linear(&name("ffn_up"), false)?,
                down: load.linear(&name("ffn_down"), false)?,
            });
        }
        let head = Linear { weight: head, bias: None };
        Ok(Self { embedding, layers, output_norm, head, bytes: load.bytes })
    }
}
