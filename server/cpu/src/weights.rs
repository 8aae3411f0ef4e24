//! A model's weights in packed form: all that is kept of the file once they are packed.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use quarry_formats::quant::{TensorType, decode};
use quarry_model::backend::{BackendError, ModelFiles};
use quarry_model::spec::DecoderSpec;
use quarry_model::weights::{WeightFile, WeightInfo};

use crate::packing::{Arena, PackedMatrix, Storage};
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
    embedding: Embedding,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    pub head: PackedMatrix,
    /// RoPE: angle per position of each pair, and the factor on cos and sin.
    pub frequencies: Vec<f32>,
    pub rope_factor: f32,
}

/// Where a token's first hidden state comes from.
enum Embedding {
    /// Rows as in the file.
    Rows { kind: TensorType, bytes: Storage },
    /// The head's rows.
    Tied,
}

struct Loader<'a> {
    file: &'a WeightFile,
    /// Held for a matrix at a time: steps of other models run in between.
    threads: &'a Mutex<Threads>,
    arena: Arena,
}

impl Loader<'_> {
    fn tensor(&self, name: &str) -> Result<(&WeightInfo, Cow<'_, [u8]>), BackendError> {
        let missing = || BackendError::Tensor { tensor: name.to_owned(), what: "is missing".into() };
        self.file.tensor(name).ok_or_else(missing)
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>, BackendError> {
        let (info, bytes) = self.tensor(name)?;
        let mut out = vec![0.0; info.shape.iter().product()];
        decode(info.kind, &bytes, &mut out);
        Ok(out)
    }

    fn matrix(&mut self, name: &str) -> Result<PackedMatrix, BackendError> {
        let file = self.file;
        let Some((info, bytes)) = file.tensor(name) else {
            return Err(BackendError::Tensor { tensor: name.to_owned(), what: "is missing".into() });
        };
        let &[rows, columns] = &info.shape[..] else {
            let what = format!("has {} dimensions, a matrix has 2", info.shape.len());
            return Err(BackendError::Tensor { tensor: name.to_owned(), what });
        };
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let packed = PackedMatrix::pack(info.kind, rows, columns, &bytes, &mut threads, &mut self.arena)
            .map_err(|error| memory(name, &error))?;
        drop(bytes);
        file.release(name); // the file's pages would else be there beside the packed form until the end
        Ok(packed)
    }
}

impl Weights {
    /// Packs every matrix; `progress` is told the share done.
    pub fn load(
        files: &ModelFiles,
        threads: &Mutex<Threads>,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, BackendError> {
        let spec: &DecoderSpec = &files.spec;
        let mut load = Loader { file: &files.weights, threads, arena: Arena::default() };
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
        let embedding = if spec.tied_head {
            Embedding::Tied
        } else {
            let name = "token_embd.weight";
            let file = load.file;
            let Some((info, bytes)) = file.tensor(name) else {
                return Err(BackendError::Tensor { tensor: name.to_owned(), what: "is missing".into() });
            };
            let kind = info.kind;
            let mut copy = load.arena.zeroed(bytes.len()).map_err(|error| memory(name, &error))?;
            copy.as_mut_slice().copy_from_slice(&bytes);
            drop(bytes);
            file.release(name);
            Embedding::Rows { kind, bytes: copy }
        };
        let head = load.matrix(if spec.tied_head { "token_embd.weight" } else { "output.weight" })?;
        let output_norm = load.vector("output_norm.weight")?;
        progress(1.0);
        let (frequencies, rope_factor) = quarry_model::rope::frequencies(&spec.rope);
        Ok(Self { embedding, layers, output_norm, head, frequencies, rope_factor })
    }

    /// Bytes held: packed matrices and the embedding.
    pub fn bytes(&self) -> usize {
        let layer = |l: &Layer| {
            [&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down]
                .iter()
                .map(|m| m.bytes())
                .sum::<usize>()
        };
        let embedding = match &self.embedding {
            Embedding::Rows { bytes, .. } => bytes.as_slice().len(),
            Embedding::Tied => 0,
        };
        embedding + self.head.bytes() + self.layers.iter().map(layer).sum::<usize>()
    }

    /// A token's embedding.
    pub fn embed(&self, token: u32, out: &mut [f32]) {
        match &self.embedding {
            Embedding::Rows { kind, bytes } => {
                let row = kind.row_bytes(out.len());
                decode(*kind, &bytes.as_slice()[token as usize * row..(token as usize + 1) * row], out);
            }
            Embedding::Tied => self.head.row(token as usize, out),
        }
    }
}

fn memory(tensor: &str, error: &std::io::Error) -> BackendError {
    BackendError::Tensor { tensor: tensor.to_owned(), what: format!("cannot be packed: {error}") }
}
