//! The model as a GGUF file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use quarry_formats::gguf::{Value, Writer};
use quarry_formats::quant::{self, TensorType};

use crate::shape::{Family, TinyModel};
use crate::{random, vocabulary};

/// Largest magnitude of embedding weights and biases.
const EMBEDDING_SCALE: f32 = 0.25;
/// Largest distance of a norm weight from 1.
const NORM_SCALE: f32 = 0.25;

impl TinyModel {
    /// Writes the model; matrices and embedding as `kind`, norms and biases as F32.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&self, path: &Path, kind: TensorType) -> io::Result<()> {
        let mut writer = Writer::new();
        self.metadata(&mut writer);
        self.tensors(&mut writer, kind);
        let mut out = BufWriter::new(File::create(path)?);
        writer.write_to(&mut out)?;
        out.flush()
    }

    fn metadata(&self, writer: &mut Writer) {
        let architecture = self.family.name();
        let mut text = |key: &str, value: &str| {
            writer.metadata(key, &Value::String(value.to_owned()));
        };
        text("general.architecture", architecture);
        text("general.name", &format!("tiny random {}", self.name));
        text("tokenizer.ggml.model", "gpt2");
        text("tokenizer.ggml.pre", if self.family == Family::Llama { "smollm" } else { "qwen2" });
        text("tokenizer.chat_template", vocabulary::CHAT_TEMPLATE);
        let mut size = |key: &str, value: usize| {
            writer.metadata(&format!("{architecture}.{key}"), &Value::U64(value as u64));
        };
        size("block_count", self.layers);
        size("context_length", self.context);
        size("embedding_length", self.hidden);
        size("feed_forward_length", self.mlp_hidden);
        size("attention.head_count", self.heads);
        size("attention.head_count_kv", self.kv_heads);
        size("attention.key_length", self.head_dim);
        size("attention.value_length", self.head_dim);
        if self.family == Family::Llama {
            size("rope.dimension_count", self.head_dim);
        }
        let mut real = |key: &str, value: f32| {
            writer.metadata(&format!("{architecture}.{key}"), &Value::F64(f64::from(value)));
        };
        real("rope.freq_base", self.theta);
        real("attention.layer_norm_rms_epsilon", self.norm_epsilon);
        writer
            .metadata("tokenizer.ggml.tokens", &Value::StringArray(vocabulary::tokens()))
            .metadata("tokenizer.ggml.merges", &Value::StringArray(vocabulary::merges()))
            .metadata("tokenizer.ggml.token_type", &Value::I64Array(vocabulary::token_types()))
            .metadata("tokenizer.ggml.eos_token_id", &Value::U64(u64::from(vocabulary::IM_END)))
            .metadata("tokenizer.ggml.bos_token_id", &Value::U64(u64::from(vocabulary::ENDOFTEXT)))
            .metadata("tokenizer.ggml.padding_token_id", &Value::U64(u64::from(vocabulary::ENDOFTEXT)))
            .metadata("tokenizer.ggml.add_bos_token", &Value::Bool(false));
    }

    fn tensors(&self, writer: &mut Writer, kind: TensorType) {
        let (query, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        self.matrix(writer, kind, "token_embd.weight", self.vocab(), self.hidden, None);
        self.norm(writer, "output_norm.weight", self.hidden);
        if !self.tied {
            self.matrix(writer, kind, "output.weight", self.vocab(), self.hidden, None);
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let permute = |heads: usize| (self.family == Family::Llama).then_some(heads);
            self.norm(writer, &name("attn_norm.weight"), self.hidden);
            self.matrix(writer, kind, &name("attn_q.weight"), query, self.hidden, permute(self.heads));
            self.matrix(writer, kind, &name("attn_k.weight"), kv, self.hidden, permute(self.kv_heads));
            self.matrix(writer, kind, &name("attn_v.weight"), kv, self.hidden, None);
            self.matrix(writer, kind, &name("attn_output.weight"), self.hidden, query, None);
            if self.family == Family::Qwen2 {
                for (part, rows) in [("attn_q.bias", query), ("attn_k.bias", kv), ("attn_v.bias", kv)] {
                    let mut bias = random::values(self.seed, &name(part), rows);
                    bias.iter_mut().for_each(|b| *b *= EMBEDDING_SCALE);
                    writer.tensor(
                        &name(part),
                        TensorType::F32,
                        &[rows],
                        &quant::encode(TensorType::F32, &bias),
                    );
                }
            }
            if self.family == Family::Qwen3 {
                self.norm(writer, &name("attn_q_norm.weight"), self.head_dim);
                self.norm(writer, &name("attn_k_norm.weight"), self.head_dim);
            }
            self.norm(writer, &name("ffn_norm.weight"), self.hidden);
            self.matrix(writer, kind, &name("ffn_gate.weight"), self.mlp_hidden, self.hidden, None);
            self.matrix(writer, kind, &name("ffn_up.weight"), self.mlp_hidden, self.hidden, None);
            self.matrix(writer, kind, &name("ffn_down.weight"), self.hidden, self.mlp_hidden, None);
        }
    }

    /// A matrix in the order of the original checkpoint; with `heads`, its rows permuted within each head as
    /// llama files have them: row `(half, i)` of a head becomes row `(i, half)`.
    fn matrix(
        &self,
        writer: &mut Writer,
        kind: TensorType,
        name: &str,
        rows: usize,
        columns: usize,
        heads: Option<usize>,
    ) {
        let scale = matrix_scale(name, columns);
        let mut data = random::values(self.seed, name, rows * columns);
        data.iter_mut().for_each(|w| *w *= scale);
        if let Some(heads) = heads {
            let (width, plain) = (rows / heads, data.clone());
            for row in 0..rows {
                let (head, within) = (row / width, row % width);
                let from = head * width + within % 2 * (width / 2) + within / 2;
                let source = &plain[from * columns..(from + 1) * columns];
                data[row * columns..(row + 1) * columns].copy_from_slice(source);
            }
        }
        writer.tensor(name, kind, &[rows, columns], &quant::encode(kind, &data));
    }

    fn norm(&self, writer: &mut Writer, name: &str, width: usize) {
        let mut weights = random::values(self.seed, name, width);
        weights.iter_mut().for_each(|w| *w = *w * NORM_SCALE + 1.0);
        writer.tensor(name, TensorType::F32, &[width], &quant::encode(TensorType::F32, &weights));
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
