//! Folders of the model hub: `config.json` to a [`DecoderSpec`], the hub's tensor names to ours.
//!
//! The families differ in what their `models/FAMILY/configuration_FAMILY.py` of transformers say: [`FAMILIES`]. Query and
//! key rows are in the order of the papers here (GGUF permutes llama's), so every family rotates halves.

mod config;
mod names;
mod quantization;
mod rope;

use quarry_formats::hub::HubFolder;

use super::{FamilyError, base};
use crate::spec::{DecoderSpec, RopePairing, RopeSpec};
use crate::weights::{Place, WeightInfo};
use config::Config;
use quantization::Quantization;

/// What a family's configuration leaves unsaid.
struct Family {
    /// As `model_type` names it.
    name: &'static str,
    qk_norm: bool,
    qkv_bias: bool,
    /// Width of a head where the file has none; `None`: the hidden width over the heads.
    head_dim: Option<usize>,
}

const FAMILIES: [Family; 3] = [
    Family { name: "qwen3", qk_norm: true, qkv_bias: false, head_dim: Some(128) },
    Family { name: "qwen2", qk_norm: false, qkv_bias: true, head_dim: None },
    Family { name: "llama", qk_norm: false, qkv_bias: false, head_dim: None },
];
/// Base of the rotary frequencies where the file has none.
const THETA_DEFAULT: f32 = 10_000.0;

/// The decoder of a folder and where its tensors are.
pub(super) fn describe(folder: &HubFolder) -> Result<(DecoderSpec, Vec<(WeightInfo, Place)>), FamilyError> {
    let config = Config(folder.config());
    let found = config.text("model_type")?.unwrap_or("");
    let Some(family) = FAMILIES.iter().find(|family| family.name == found) else {
        return Err(FamilyError::Architecture { found: found.to_owned() });
    };
    let spec = spec(folder, &config, family)?;
    base::check(&spec, &|key| config_key(key).to_owned())?;
    let quantization = Quantization::of(&config)?;
    let tensors = names::places(folder, &spec, quantization)?;
    Ok((spec, tensors))
}

fn spec(folder: &HubFolder, config: &Config<'_>, family: &Family) -> Result<DecoderSpec, FamilyError> {
    for key in ["attention_bias", "mlp_bias", "use_sliding_window"] {
        config.refuse(config.flag(key)? == Some(true), key, "is not supported")?;
    }
    let activation = config.text("hidden_act")?.unwrap_or("silu");
    config.refuse(activation != "silu", "hidden_act", "only silu is supported")?;
    config.refuse(
        !config.all_are("layer_types", "full_attention"),
        "layer_types",
        "only full_attention is supported",
    )?;
    let hidden = config.size("hidden_size")?;
    let heads = config.size("num_attention_heads")?;
    let head_dim = match (config.optional_size("head_dim")?, family.head_dim) {
        (Some(width), _) | (None, Some(width)) => width,
        (None, None) => hidden / heads.max(1),
    };
    let positions = config.size("max_position_embeddings")?;
    let scaling = rope::scaling(config, positions)?;
    let embedding = names::name_in(folder, "token_embd.weight");
    let Some((embedding, _)) = folder.tensor(&embedding) else {
        return Err(FamilyError::MissingTensor { name: embedding });
    };
    Ok(DecoderSpec {
        architecture: family.name.to_owned(),
        layers: config.size("num_hidden_layers")?,
        hidden,
        mlp_hidden: config.size("intermediate_size")?,
        heads,
        kv_heads: config.optional_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        // Rows that are really there, as for GGUF files; their shape is checked with the others.
        vocab: embedding.shape[..].first().copied().unwrap_or(0),
        context_tokens_max: scaling.context(positions),
        norm_epsilon: config.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope: RopeSpec {
            theta: rope::theta(config)?.unwrap_or(THETA_DEFAULT),
            dims: head_dim,
            pairing: RopePairing::Halves,
            scaling,
        },
        qk_norm: family.qk_norm,
        qkv_bias: family.qkv_bias,
        // A decoder without a head is asked for hidden states; the embedding stands in, so that it can be run.
        tied_head: config.flag("tie_word_embeddings")?.unwrap_or(false) || names::is_bare(folder),
    })
}

/// The key of `config.json` for a key of GGUF files, for messages.
fn config_key(gguf: &str) -> &str {
    match gguf {
        "block_count" => "num_hidden_layers",
        "embedding_length" => "hidden_size",
        "feed_forward_length" => "intermediate_size",
        "attention.head_count" => "num_attention_heads",
        "attention.head_count_kv" => "num_key_value_heads",
        "attention.key_length" => "head_dim",
        "context_length" => "max_position_embeddings",
        "rope.dimension_count" => "head_dim",
        "rope.freq_base" => "rope_theta",
        "attention.layer_norm_rms_epsilon" => "rms_norm_eps",
        other => other,
    }
}
