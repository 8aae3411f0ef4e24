//! `bench make-model`: a GGUF file of a real model's shapes with random weights, for speed where no weights are.
//!
//! ```text
//! library   BLOCKS blocks per format, encoded once from N(0, DEVIATION)
//! matrix    rows × (columns / block) picks from the library, written as they are made
//! norms     1
//! ```
//! Blocks repeat, which no kernel notices; nothing but a row is held in memory, so the file may be of any size.
//! Tokenizer and chat template are those of a real file, as other readers need them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use quarry_formats::gguf::{GgufFile, Value, Writer};
use quarry_formats::quant::{self, TensorType};

use crate::random::Random;

/// Different blocks of a format: a power of two, picked by bits.
const BLOCKS: usize = 1024;
/// Of the weights.
const DEVIATION: f64 = 0.02;
/// `general.file_type` of Q4_K_M, for readers that name it.
const FILE_TYPE_Q4_K_M: u64 = 15;

/// A decoder of the Qwen3 family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What a person types.
    pub name: &'static str,
    /// Decoder layers.
    pub layers: usize,
    pub(crate) hidden: usize,
    pub(crate) mlp_hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) context: usize,
    /// The head shares the embedding's weights.
    pub(crate) is_tied: bool,
}

impl Shape {
    /// Known shapes, as their makers published them.
    pub const ALL: [Self; 3] = [
        Self {
            name: "qwen3-0.6b",
            layers: 28,
            hidden: 1024,
            mlp_hidden: 3072,
            heads: 16,
            kv_heads: 8,
            head_dim: 128,
            context: 40_960,
            is_tied: true,
        },
        Self {
            name: "qwen3-4b",
            layers: 36,
            hidden: 2560,
            mlp_hidden: 9728,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            context: 40_960,
            is_tied: true,
        },
        Self {
            name: "qwen3-8b",
            layers: 36,
            hidden: 4096,
            mlp_hidden: 12_288,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            context: 40_960,
            is_tied: false,
        },
    ];

    /// The shape of a name.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let known = || Self::ALL.map(|shape| shape.name).join(", ");
        let found = Self::ALL.into_iter().find(|shape| shape.name == name);
        found.with_context(|| format!("no shape {name:?}; there are {}", known()))
    }
}

/// Which format each matrix has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Q4_K; Q6_K for the embedding or the head and, in half of the layers, for `attn_v` and `ffn_down`.
    Q4KM,
    /// One format for all.
    All(TensorType),
}

impl Mix {
    /// `q4_k_m`, or a format's name.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        if name.eq_ignore_ascii_case("q4_k_m") {
            return Ok(Self::Q4KM);
        }
        let known = || TensorType::ALL.map(|kind| kind.name().to_lowercase()).join(", ");
        let found = TensorType::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
        Ok(Self::All(found.with_context(|| format!("no mix {name:?}; there are q4_k_m, {}", known()))?))
    }

    /// The format of a matrix: `part` is `token_embd`, `head`, or a layer's as GGUF files name it. Rows that are no whole
    /// blocks of a format take the next larger one of smaller blocks, as llama.cpp does.
    pub fn kind(self, part: &str, layer: usize, layers: usize, columns: usize) -> TensorType {
        match self.preferred(part, layer, layers) {
            kind if columns.is_multiple_of(kind.block_elements()) => kind,
            TensorType::Q4K => TensorType::Q5_0,
            TensorType::Q5K => TensorType::Q5_1,
            TensorType::Q6K => TensorType::Q8_0,
            kind => kind,
        }
    }

    fn preferred(self, part: &str, layer: usize, layers: usize) -> TensorType {
        match self {
            Self::All(kind) => kind,
            Self::Q4KM if part == "head" => TensorType::Q6K,
            Self::Q4KM if part == "token_embd" => TensorType::Q4K,
            // The first and the last eighth, and each third layer between them, as llama.cpp counts them.
            Self::Q4KM => {
                let eighth = layers / 8;
                let has_more = layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
                let is_tender = matches!(part, "attn_v" | "ffn_down");
                if has_more && is_tender { TensorType::Q6K } else { TensorType::Q4K }
            }
        }
    }
}

/// A tensor to write.
struct Tensor {
    name: String,
    kind: TensorType,
    shape: Vec<usize>,
}

/// Writes the model to `out`; tokenizer and vocabulary are those of `tokenizer`. Returns the file's bytes.
pub fn write(shape: &Shape, mix: Mix, tokenizer: &GgufFile, out: &Path) -> anyhow::Result<u64> {
    let vocab = tokenizer.metadata_strings("tokenizer.ggml.tokens").context("the tokenizer's file")?.len();
    if shape.layers == 0 || vocab == 0 {
        bail!("a model has at least one layer and one token");
    }
    let tensors = tensors(shape, mix, vocab);
    let mut writer = Writer::new();
    metadata(&mut writer, shape, mix, tokenizer);
    for tensor in &tensors {
        writer.tensor_later(&tensor.name, tensor.kind, &tensor.shape);
    }
    let mut libraries: Vec<(TensorType, Vec<u8>)> = Vec::new();
    let mut random = Random::new(0x5eed);
    let mut fill = |name: &str, out: &mut dyn Write| -> io::Result<()> {
        let tensor = tensors.iter().find(|tensor| tensor.name == name);
        let Some(tensor) = tensor else { return Err(io::Error::other(format!("{name} is unknown"))) };
        let [rows, columns] = tensor.shape[..] else {
            return out.write_all(&quant::encode(TensorType::F32, &vec![1.0; tensor.shape[0]]));
        };
        if libraries.iter().all(|(kind, _)| *kind != tensor.kind) {
            libraries.push((tensor.kind, library(tensor.kind, &mut random)));
        }
        let library = libraries.iter().find(|(kind, _)| *kind == tensor.kind);
        let library = library.map(|(_, blocks)| &blocks[..]).unwrap_or_default();
        matrix(tensor.kind, library, rows, columns, &mut random, out)
    };
    let file = File::create(out).with_context(|| out.display().to_string())?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    writer.write_with(&mut file, &mut fill).with_context(|| out.display().to_string())?;
    file.flush()?;
    Ok(file.get_ref().metadata()?.len())
}

fn metadata(writer: &mut Writer, shape: &Shape, mix: Mix, tokenizer: &GgufFile) {
    writer.metadata("general.architecture", &Value::String("qwen3".to_owned()));
    writer.metadata("general.name", &Value::String(format!("random {}", shape.name)));
    writer.metadata("general.quantization_version", &Value::U64(2));
    if mix == Mix::Q4KM {
        writer.metadata("general.file_type", &Value::U64(FILE_TYPE_Q4_K_M));
    }
    let mut size = |key: &str, value: usize| {
        writer.metadata(&format!("qwen3.{key}"), &Value::U64(value as u64));
    };
    size("block_count", shape.layers);
    size("context_length", shape.context);
    size("embedding_length", shape.hidden);
    size("feed_forward_length", shape.mlp_hidden);
    size("attention.head_count", shape.heads);
    size("attention.head_count_kv", shape.kv_heads);
    size("attention.key_length", shape.head_dim);
    size("attention.value_length", shape.head_dim);
    writer.metadata("qwen3.rope.freq_base", &Value::F64(1e6));
    // As f32, so that it is written as one: other readers take no f64 here.
    writer.metadata("qwen3.attention.layer_norm_rms_epsilon", &Value::F64(f64::from(1e-6_f32)));
    let mut own: Vec<_> =
        tokenizer.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")).collect();
    own.sort_by_key(|(key, _)| *key);
    for (key, value) in own {
        writer.metadata(key, value);
    }
}

fn tensors(shape: &Shape, mix: Mix, vocab: usize) -> Vec<Tensor> {
    let (hidden, mlp) = (shape.hidden, shape.mlp_hidden);
    let (query, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let norm = |name: String, width: usize| Tensor { name, kind: TensorType::F32, shape: vec![width] };
    let matrix = |layer: usize, part: &str, rows: usize, columns: usize| Tensor {
        name: format!("blk.{layer}.{part}.weight"),
        kind: mix.kind(part, layer, shape.layers, columns),
        shape: vec![rows, columns],
    };
    let head = mix.kind("head", 0, shape.layers, hidden);
    let embedding = if shape.is_tied { head } else { mix.kind("token_embd", 0, shape.layers, hidden) };
    let mut all = vec![
        Tensor { name: "token_embd.weight".to_owned(), kind: embedding, shape: vec![vocab, hidden] },
        norm("output_norm.weight".to_owned(), hidden),
    ];
    if !shape.is_tied {
        all.push(Tensor { name: "output.weight".to_owned(), kind: head, shape: vec![vocab, hidden] });
    }
    for layer in 0..shape.layers {
        all.push(norm(format!("blk.{layer}.attn_norm.weight"), hidden));
        all.push(matrix(layer, "attn_q", query, hidden));
        all.push(matrix(layer, "attn_k", kv, hidden));
        all.push(matrix(layer, "attn_v", kv, hidden));
        all.push(norm(format!("blk.{layer}.attn_q_norm.weight"), shape.head_dim));
        all.push(norm(format!("blk.{layer}.attn_k_norm.weight"), shape.head_dim));
        all.push(matrix(layer, "attn_output", hidden, query));
        all.push(norm(format!("blk.{layer}.ffn_norm.weight"), hidden));
        all.push(matrix(layer, "ffn_gate", mlp, hidden));
        all.push(matrix(layer, "ffn_up", mlp, hidden));
        all.push(matrix(layer, "ffn_down", hidden, mlp));
    }
    all
}

fn library(kind: TensorType, random: &mut Random) -> Vec<u8> {
    let count = BLOCKS * kind.block_elements();
    let values: Vec<f32> = (0..count).map(|_| (random.normal() * DEVIATION) as f32).collect();
    quant::encode(kind, &values)
}

fn matrix(
    kind: TensorType,
    library: &[u8],
    rows: usize,
    columns: usize,
    random: &mut Random,
    out: &mut dyn Write,
) -> io::Result<()> {
    let bytes = kind.block_bytes();
    let mut row = Vec::with_capacity(kind.row_bytes(columns));
    for _ in 0..rows {
        row.clear();
        for _ in 0..columns / kind.block_elements() {
            let at = (random.bits() as usize % BLOCKS) * bytes;
            row.extend_from_slice(&library[at..at + bytes]);
        }
        out.write_all(&row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quarry_cpu::{CpuBackend, CpuOptions};
    use quarry_model::backend::ModelFiles;
    use quarry_tiny::TinyModel;

    use super::*;
    use crate::random::Random;

    #[test]
    fn the_mix_is_half_and_half() {
        let more = |part| (0..28).filter(|&l| Mix::Q4KM.kind(part, l, 28, 1024) == TensorType::Q6K).count();
        assert_eq!((more("ffn_down"), more("attn_v"), more("attn_q")), (14, 14, 0));
        assert_eq!(
            Mix::Q4KM.kind("head", 0, 24, 896),
            TensorType::Q8_0,
            "896 columns are no whole blocks of 256"
        );
        assert_eq!(Mix::named("Q8_0").unwrap(), Mix::All(TensorType::Q8_0));
        assert!(Mix::named("q9").is_err() && Shape::named("gpt").is_err());
    }

    #[test]
    fn a_made_model_loads_and_its_logits_are_finite() {
        let dir = tempfile::tempdir().unwrap();
        let (tiny, made) = (dir.path().join("tiny.gguf"), dir.path().join("made.gguf"));
        TinyModel::qwen3().write(&tiny, TensorType::Q8_0).unwrap();
        let tokenizer = GgufFile::open(&tiny).unwrap();
        for is_tied in [true, false] {
            let shape = Shape { layers: 2, is_tied, ..Shape::named("qwen3-0.6b").unwrap() };
            let bytes = write(&shape, Mix::Q4KM, &tokenizer, &made).unwrap();
            assert_eq!(bytes, std::fs::metadata(&made).unwrap().len());
            let files = ModelFiles::open(&made).unwrap();
            assert_eq!((files.spec.hidden, files.spec.layers, files.spec.tied_head), (1024, 2, is_tied));
            let tokens = Random::new(1).tokens(files.spec.vocab, 20);
            let mut cpu = CpuBackend::new(CpuOptions { threads: 1, isa: None }).unwrap();
            let report = crate::perplexity::run(&files, &mut cpu, None, &tokens, None, 20, &mut |_, _| ());
            // Weights that know nothing: about as perplexed as a die with so many sides.
            let found = report.unwrap().perplexity;
            assert!(found > 1.0 && found < 20.0 * files.spec.vocab as f64, "{found}");
        }
    }
}
