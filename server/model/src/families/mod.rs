//! Architectures: each maps its file's metadata to a [`DecoderSpec`]; tensor names and shapes are one table.

mod llama;
mod qwen2;
mod qwen3;

use std::path::Path;
use std::sync::Arc;

use quarry_formats::FormatError;
use quarry_formats::gguf::GgufFile;

use crate::backend::ModelFiles;
use crate::spec::{DecoderSpec, RopePairing, RopeScaling, RopeSpec};

/// Architectures that can be run, as `general.architecture` names them.
pub const SUPPORTED: [&str; 3] = ["qwen3", "qwen2", "llama"];

/// Layers, heads and widths beyond which a file is refused as damaged.
const DIMENSION_MAX: usize = 1 << 20;

/// Why a file is no model we can run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FamilyError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("architecture {found:?} is not supported; supported are {SUPPORTED:?}")]
    Architecture { found: String },
    #[error("tensor {name:?} is missing")]
    MissingTensor { name: String },
    #[error("tensor {name:?} has shape {found:?}, the metadata says {expected:?}")]
    TensorShape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("{key} is {found}: {why}")]
    Metadata { key: String, found: String, why: &'static str },
}

impl ModelFiles {
    /// Opens, describes and checks a GGUF file.
    ///
    /// # Errors
    /// [`FamilyError`] names the key or tensor.
    pub fn open(path: &Path) -> Result<Self, FamilyError> {
        let weights = GgufFile::open(path)?;
        let spec = describe(&weights)?;
        check_tensors(&weights, &spec)?;
        Ok(Self { path: path.to_owned(), weights: Arc::new(weights), spec: Arc::new(spec) })
    }
}

/// The decoder a file holds.
///
/// # Errors
/// [`FamilyError::Architecture`] for an unknown one, [`FamilyError::Format`] for missing keys.
pub fn describe(file: &GgufFile) -> Result<DecoderSpec, FamilyError> {
    let spec = match file.metadata_str("general.architecture")? {
        "qwen3" => qwen3::describe(file)?,
        "qwen2" => qwen2::describe(file)?,
        "llama" => llama::describe(file)?,
        found => return Err(FamilyError::Architecture { found: found.to_owned() }),
    };
    check_spec(&spec)?;
    Ok(spec)
}

/// What all families share: dimensions by their usual keys; the family sets what differs.
fn base(file: &GgufFile, architecture: &str, pairing: RopePairing) -> Result<DecoderSpec, FamilyError> {
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| file.metadata_usize(&key(name));
    let hidden = size("embedding_length")?;
    let heads = size("attention.head_count")?;
    let head_dim = size("attention.key_length").unwrap_or(hidden / heads.max(1));
    let vocab = match file.tensor("token_embd.weight") {
        Some((info, _)) => info.shape.first().copied().unwrap_or(0),
        None => return Err(FamilyError::MissingTensor { name: "token_embd.weight".into() }),
    };
    Ok(DecoderSpec {
        architecture: architecture.to_owned(),
        layers: size("block_count")?,
        hidden,
        mlp_hidden: size("feed_forward_length")?,
        heads,
        kv_heads: size("attention.head_count_kv").unwrap_or(heads),
        head_dim,
        vocab,
        context_tokens_max: size("context_length")?,
        norm_epsilon: file.metadata_f32(&key("attention.layer_norm_rms_epsilon"))?,
        rope: RopeSpec {
            theta: file.metadata_f32(&key("rope.freq_base")).unwrap_or(10_000.0),
            dims: size("rope.dimension_count").unwrap_or(head_dim),
            pairing,
            scaling: rope_scaling(file, architecture)?,
        },
        qk_norm: false,
        qkv_bias: false,
        tied_head: file.tensor("output.weight").is_none(),
    })
}

fn rope_scaling(file: &GgufFile, architecture: &str) -> Result<RopeScaling, FamilyError> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let kind = file.metadata_str(&key("type")).unwrap_or("none");
    match kind {
        "none" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: file.metadata_f32(&key("factor"))? }),
        "yarn" => {
            let factor = file.metadata_f32(&key("factor"))?;
            Ok(RopeScaling::Yarn {
                factor,
                original_context: file.metadata_usize(&key("original_context_length"))?,
                beta_fast: file.metadata_f32(&key("yarn_beta_fast")).unwrap_or(32.0),
                beta_slow: file.metadata_f32(&key("yarn_beta_slow")).unwrap_or(1.0),
                attention_factor: file.metadata_f32(&key("attn_factor")).unwrap_or(0.1 * factor.ln() + 1.0),
            })
        }
        other => Err(FamilyError::Metadata {
            key: key("type"),
            found: other.to_owned(),
            why: "known are none, linear and yarn",
        }),
    }
}

fn check_spec(spec: &DecoderSpec) -> Result<(), FamilyError> {
    let sizes = [
        ("block_count", spec.layers),
        ("embedding_length", spec.hidden),
        ("feed_forward_length", spec.mlp_hidden),
        ("attention.head_count", spec.heads),
        ("attention.head_count_kv", spec.kv_heads),
        ("attention.key_length", spec.head_dim),
        ("context_length", spec.context_tokens_max),
        ("vocabulary", spec.vocab),
    ];
    let bad = |key: &str, found: String, why| {
        let key = format!("{}.{key}", spec.architecture);
        Err(FamilyError::Metadata { key, found, why })
    };
    for (key, found) in sizes {
        if found == 0 || found > DIMENSION_MAX {
            return bad(key, found.to_string(), "must be between 1 and 1048576");
        }
    }
    if spec.heads % spec.kv_heads != 0 {
        return bad("attention.head_count_kv", spec.kv_heads.to_string(), "must divide head_count");
    }
    if spec.head_dim % 2 != 0 || spec.rope.dims != spec.head_dim {
        let found = format!("{} of {}", spec.rope.dims, spec.head_dim);
        return bad("rope.dimension_count", found, "must be the whole head, an even number");
    }
    if !(spec.rope.theta.is_finite() && spec.rope.theta > 1.0) {
        return bad("rope.freq_base", spec.rope.theta.to_string(), "must be above 1");
    }
    if !(spec.norm_epsilon.is_finite() && spec.norm_epsilon > 0.0) {
        return bad("attention.layer_norm_rms_epsilon", spec.norm_epsilon.to_string(), "must be above 0");
    }
    Ok(())
}

/// Every tensor a decoder needs: name and shape.
pub fn tensors(spec: &DecoderSpec) -> Vec<(String, Vec<usize>)> {
    let (query, kv) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
    let mut all = vec![
        ("token_embd.weight".to_owned(), vec![spec.vocab, spec.hidden]),
        ("output_norm.weight".to_owned(), vec![spec.hidden]),
    ];
    if !spec.tied_head {
        all.push(("output.weight".to_owned(), vec![spec.vocab, spec.hidden]));
    }
    for layer in 0..spec.layers {
        let mut add = |name: &str, shape: &[usize]| all.push((format!("blk.{layer}.{name}"), shape.to_vec()));
        add("attn_norm.weight", &[spec.hidden]);
        add("attn_q.weight", &[query, spec.hidden]);
        add("attn_k.weight", &[kv, spec.hidden]);
        add("attn_v.weight", &[kv, spec.hidden]);
        add("attn_output.weight", &[spec.hidden, query]);
        if spec.qkv_bias {
            add("attn_q.bias", &[query]);
            add("attn_k.bias", &[kv]);
            add("attn_v.bias", &[kv]);
        }
        if spec.qk_norm {
            add("attn_q_norm.weight", &[spec.head_dim]);
            add("attn_k_norm.weight", &[spec.head_dim]);
        }
        add("ffn_norm.weight", &[spec.hidden]);
        add("ffn_gate.weight", &[spec.mlp_hidden, spec.hidden]);
        add("ffn_up.weight", &[spec.mlp_hidden, spec.hidden]);
        add("ffn_down.weight", &[spec.hidden, spec.mlp_hidden]);
    }
    all
}

fn check_tensors(file: &GgufFile, spec: &DecoderSpec) -> Result<(), FamilyError> {
    for (name, expected) in tensors(spec) {
        match file.tensor(&name) {
            None => return Err(FamilyError::MissingTensor { name }),
            Some((info, _)) if info.shape != expected => {
                return Err(FamilyError::TensorShape { name, found: info.shape.clone(), expected });
            }
            Some(_) => {}
        }
    }
    Ok(())
}
