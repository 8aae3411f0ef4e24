//! The model as a GGUF file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use quarry_formats::gguf::{Value, Writer};
use quarry_formats::quant::{self, TensorType};

use crate::shape::{Family, TinyModel};
use crate::vocabulary;
use crate::weights::TinyTensor;

impl TinyModel {
    /// Writes the model; matrices and embedding as `kind`, norms and biases as F32.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&self, path: &Path, kind: TensorType) -> io::Result<()> {
        let mut writer = Writer::new();
        self.metadata(&mut writer);
        self.write_tensors(&mut writer, kind);
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

    fn write_tensors(&self, writer: &mut Writer, kind: TensorType) {
        for TinyTensor { name, shape, mut data } in self.tensors() {
            let heads =
                match name.rsplit_once('.').map_or("", |(start, _)| start.rsplit('.').next().unwrap_or("")) {
                    "attn_q" => self.heads,
                    "attn_k" => self.kv_heads,
                    _ => 0,
                };
            if self.family == Family::Llama && heads > 0 {
                data = permuted(&data, heads, shape[0], shape[1]);
            }
            let kind = if shape.len() == 2 { kind } else { TensorType::F32 };
            writer.tensor(&name, kind, &shape, &quant::encode(kind, &data));
        }
    }
}

/// Rows permuted within each head as llama files have them: row `(half, i)` of a head becomes row `(i, half)`.
fn permuted(plain: &[f32], heads: usize, rows: usize, columns: usize) -> Vec<f32> {
    let width = rows / heads;
    let source = |row: usize| {
        let (head, within) = (row / width, row % width);
        let from = head * width + within % 2 * (width / 2) + within / 2;
        &plain[from * columns..(from + 1) * columns]
    };
    (0..rows).flat_map(source).copied().collect()
}
