//! Every tensor of a model by the formula, as numbers, under the names of GGUF files and in the original order of rows.

use crate::random;
use crate::shape::{Family, TinyModel};

/// Largest magnitude of embedding weights and biases.
const EMBEDDING_SCALE: f32 = 0.25;
/// Largest distance of a norm weight from 1.
const NORM_SCALE: f32 = 0.25;

/// A tensor.
pub(crate) struct TinyTensor {
    pub name: String,
    /// Slowest first; matrices have two dimensions, norms and biases one.
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl TinyModel {
    /// All tensors.
    pub(crate) fn tensors(&self) -> Vec<TinyTensor> {
        let (query, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut out = vec![
            self.matrix("token_embd.weight".into(), self.vocab(), self.hidden),
            self.norm("output_norm.weight".into(), self.hidden),
        ];
        if !self.tied {
            out.push(self.matrix("output.weight".into(), self.vocab(), self.hidden));
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            out.push(self.norm(name("attn_norm.weight"), self.hidden));
            out.push(self.matrix(name("attn_q.weight"), query, self.hidden));
            out.push(self.matrix(name("attn_k.weight"), kv, self.hidden));
            out.push(self.matrix(name("attn_v.weight"), kv, self.hidden));
            out.push(self.matrix(name("attn_output.weight"), self.hidden, query));
            if self.family == Family::Qwen2 {
                for (part, rows) in [("attn_q.bias", query), ("attn_k.bias", kv), ("attn_v.bias", kv)] {
                    out.push(self.vector(name(part), rows, |b| b * EMBEDDING_SCALE));
                }
            }
            if self.family == Family::Qwen3 {
                out.push(self.norm(name("attn_q_norm.weight"), self.head_dim));
                out.push(self.norm(name("attn_k_norm.weight"), self.head_dim));
            }
            out.push(self.norm(name("ffn_norm.weight"), self.hidden));
            out.push(self.matrix(name("ffn_gate.weight"), self.mlp_hidden, self.hidden));
            out.push(self.matrix(name("ffn_up.weight"), self.mlp_hidden, self.hidden));
            out.push(self.matrix(name("ffn_down.weight"), self.hidden, self.mlp_hidden));
        }
        out
    }

    fn matrix(&self, name: String, rows: usize, columns: usize) -> TinyTensor {
        let scale = matrix_scale(&name, columns);
        let mut data = random::values(self.seed, &name, rows * columns);
        data.iter_mut().for_each(|w| *w *= scale);
        TinyTensor { name, shape: vec![rows, columns], data }
    }

    fn norm(&self, name: String, width: usize) -> TinyTensor {
        self.vector(name, width, |w| w * NORM_SCALE + 1.0)
    }

    fn vector(&self, name: String, width: usize, of: impl Fn(f32) -> f32) -> TinyTensor {
        let data = random::values(self.seed, &name, width).into_iter().map(of).collect();
        TinyTensor { name, shape: vec![width], data }
    }
}

/// Largest magnitude of a matrix's weights: a power of two, so that scaling is exact, near the one at which a
/// product neither grows nor shrinks (`sqrt(3 / columns)`).
fn matrix_scale(name: &str, columns: usize) -> f32 {
    if name == "token_embd.weight" {
        return EMBEDDING_SCALE;
    }
    if columns <= 256 { 0.125 } else { 0.0625 }
}
