//! A model's weights in packed form.

use std::sync::Arc;

use quarry_formats::gguf::GgufFile;
use quarry_formats::quant::{TensorType, decode};
use quarry_model::backend::{BackendError, ModelFiles};
use quarry_model::spec::DecoderSpec;

use crate::packed::PackedMatrix;
use crate::threads::Threads;

/// One decoder layer.
pub struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: PackedMatrix,
    pub key: PackedMatrix,
    pub value: PackedMatrix,
    /// Query, key and value biases, one after another; empty where the family has none.
    pub qkv_bias: Vec<f32>,
    /// QK-norm weights; empty where the family has none.
    pub query_norm: Vec<f32>,
    pub key_norm: Vec<f32>,
    pub output: PackedMatrix,
    pub mlp_norm: Vec<f32>,
    pub gate: PackedMatrix,
    pub up: PackedMatrix,
    pub down: PackedMatrix,
}

/// All of a model.
pub struct Weights {
    pub file: Arc<GgufFile>,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    pub head: PackedMatrix,
    /// RoPE: angle per position of each pair, and the factor on cos and sin.
    pub frequencies: Vec<f32>,
    pub rope_factor: f32,
}

struct Loader<'a> {
    file: &'a GgufFile,
    threads: &'a mut Threads,
}

impl Loader<'_> {
    fn tensor(&self, name: &str) -> Result<(TensorType, &[usize], &[u8]), BackendError> {
        match self.file.tensor(name) {
            Some((info, bytes)) => Ok((info.kind, &info.shape, bytes)),
            None => Err(BackendError::Tensor { tensor: name.to_owned(), what: "is missing".into() }),
        }
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>, BackendError> {
        let (kind, shape, bytes) = self.tensor(name)?;
        let mut out = vec![0.0; shape.iter().product()];
        decode(kind, bytes, &mut out);
        Ok(out)
    }

    fn matrix(&mut self, name: &str) -> Result<PackedMatrix, BackendError> {
        let Some((info, bytes)) = self.file.tensor(name) else {
            return Err(BackendError::Tensor { tensor: name.to_owned(), what: "is missing".into() });
        };
        let &[rows, columns] = &info.shape[..] else {
            let what = format!("has {} dimensions, a matrix has 2", info.shape.len());
            return Err(BackendError::Tensor { tensor: name.to_owned(), what });
        };
        Ok(PackedMatrix::pack(info.kind, rows, columns, bytes, self.threads))
    }
}

impl Weights {
    /// Packs every matrix; `progress` is told the share done.
    pub fn load(
        files: &ModelFiles,
        threads: &mut Threads,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, BackendError> {
        let spec: &DecoderSpec = &files.spec;
        let mut load = Loader { file: &files.weights, threads };
        let mut layers = Vec::with_capacity(spec.layers);
        for index in 0..spec.layers {
            let name = |part: &str| format!("blk.{index}.{part}");
            let mut qkv_bias = Vec::new();
            if spec.qkv_bias {
                for part in ["attn_q.bias", "attn_k.bias", "attn_v.bias"] {
                    qkv_bias.extend(load.vector(&name(part))?);
                }
            }
            let norm = |load: &Loader<'_>, part: &str| match spec.qk_norm {
                true => load.vector(&name(part)),
                false => Ok(Vec::new()),
            };
            layers.push(Layer {
                attention_norm: load.vector(&name("attn_norm.weight"))?,
                qkv_bias,
                query_norm: norm(&load, "attn_q_norm.weight")?,
                key_norm: norm(&load, "attn_k_norm.weight")?,
                mlp_norm: load.vector(&name("ffn_norm.weight"))?,
                query: load.matrix(&name("attn_q.weight"))?,
                key: load.matrix(&name("attn_k.weight"))?,
                value: load.matrix(&name("attn_v.weight"))?,
                output: load.matrix(&name("attn_output.weight"))?,
                gate: load.matrix(&name("ffn_gate.weight"))?,
                up: load.matrix(&name("ffn_up.weight"))?,
                down: load.matrix(&name("ffn_down.weight"))?,
            });
            progress((index + 1) as f32 / (spec.layers + 2) as f32);
        }
        let head = load.matrix(if spec.tied_head { "token_embd.weight" } else { "output.weight" })?;
        let output_norm = load.vector("output_norm.weight")?;
        progress(1.0);
        let (frequencies, rope_factor) = quarry_model::rope::frequencies(&spec.rope);
        Ok(Self { file: files.weights.clone(), layers, output_norm, head, frequencies, rope_factor })
    }

    /// Bytes of the packed form.
    pub fn bytes(&self) -> usize {
        let layer = |l: &Layer| {
            [&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down]
                .iter()
                .map(|m| m.bytes())
                .sum::<usize>()
        };
        self.head.bytes() + self.layers.iter().map(layer).sum::<usize>()
    }

    /// A token's embedding, decoded from the file's own format.
    pub fn embed(&self, token: u32, out: &mut [f32]) {
        if let Some((info, bytes)) = self.file.tensor("token_embd.weight") {
            let row = info.kind.row_bytes(out.len());
            decode(info.kind, &bytes[token as usize * row..(token as usize + 1) * row], out);
        }
    }
}
