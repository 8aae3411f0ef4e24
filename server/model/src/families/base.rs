//! What all families share: dimensions by their usual keys, rotary scaling, and which values are possible.

use quarry_formats::gguf::GgufFile;

use super::FamilyError;
use crate::spec::{DecoderSpec, RopePairing, RopeScaling, RopeSpec};

/// Widths, heads, vocabulary and context beyond which a file is refused as damaged.
const DIMENSION_MAX: usize = 1 << 22;
/// Layers beyond which a file is refused as damaged.
const LAYERS_MAX: usize = 1024;
/// Base of the rotary frequencies where the file has none (Su et al. 2021).
const THETA_DEFAULT: f32 = 10_000.0;

/// A spec from the keys `ARCHITECTURE.*`; the family sets what differs.
pub(super) fn base(
    file: &GgufFile,
    architecture: &str,
    pairing: RopePairing,
) -> Result<DecoderSpec, FamilyError> {
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| file.metadata_usize(&key(name));
    let optional = |name: &str| file.metadata_opt::<usize>(&key(name));
    let hidden = size("embedding_length")?;
    let heads = size("attention.head_count")?;
    let head_dim = match optional("attention.key_length")? {
        Some(width) => width,
        None => hidden / heads.max(1),
    };
    let context_tokens_max = size("context_length")?;
    let same = optional("attention.value_length")?.is_none_or(|width| width == head_dim);
    refuse(!same, &key("attention.value_length"), "differs", "keys and values must have the same width")?;
    let window = optional("attention.sliding_window")?.unwrap_or(0);
    let narrow = window > 0 && window < context_tokens_max;
    refuse(narrow, &key("attention.sliding_window"), window, "sliding windows are not supported")?;
    let scaling = rope_scaling(file, architecture)?;
    let Some((embedding, _)) = file.tensor("token_embd.weight") else {
        return Err(FamilyError::MissingTensor { name: "token_embd.weight".into() });
    };
    Ok(DecoderSpec {
        architecture: architecture.to_owned(),
        layers: size("block_count")?,
        hidden,
        mlp_hidden: size("feed_forward_length")?,
        heads,
        kv_heads: optional("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        // A file may pad its vocabulary beyond `vocab_size`; rows of the embedding are what is really there.
        vocab: embedding.shape[0],
        context_tokens_max: scaling.context(context_tokens_max),
        norm_epsilon: file.metadata_f32(&key("attention.layer_norm_rms_epsilon"))?,
        rope: RopeSpec {
            theta: file.metadata_opt(&key("rope.freq_base"))?.unwrap_or(THETA_DEFAULT),
            dims: optional("rope.dimension_count")?.unwrap_or(head_dim),
            pairing,
            scaling,
        },
        qk_norm: false,
        qkv_bias: false,
        tied_head: file.tensor("output.weight").is_none(),
    })
}

/// Context extension. A factor without a type is linear, as older files have it.
fn rope_scaling(file: &GgufFile, architecture: &str) -> Result<RopeScaling, FamilyError> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let number = |name: &str| file.metadata_opt::<f32>(&key(name));
    let factor = match number("scaling.factor")? {
        Some(factor) => Some(factor),
        None => number("scale_linear")?,
    };
    let factor = factor.unwrap_or(1.0);
    let kind = file.metadata_opt::<&str>(&key("scaling.type"))?.unwrap_or("linear");
    let scaling = match kind {
        "none" => RopeScaling::None,
        "linear" if factor == 1.0 => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor },
        "yarn" => RopeScaling::Yarn {
            factor,
            original_context: file.metadata_usize(&key("scaling.original_context_length"))?,
            beta_fast: number("scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: number("scaling.yarn_beta_slow")?.unwrap_or(1.0),
            // Section 3.4: the softmax temperature, folded into cos and sin; the file may scale it further.
            attention_factor: number("scaling.attn_factor")?.unwrap_or(1.0) * (0.1 * factor.ln() + 1.0),
        },
        other => {
            return Err(FamilyError::Metadata {
                key: key("scaling.type"),
                found: other.to_owned(),
                why: "known are none, linear and yarn",
            });
        }
    };
    match scaling.problem() {
        Some((name, found, why)) => {
            let name = match name {
                "original_context" => "scaling.original_context_length".to_owned(),
                "beta_fast" => "scaling.yarn_beta_fast".to_owned(),
                "attention_factor" => "scaling.attn_factor".to_owned(),
                other => format!("scaling.{other}"),
            };
            Err(FamilyError::Metadata { key: key(&name), found: found.to_string(), why })
        }
        None => Ok(scaling),
    }
}

fn refuse(bad: bool, key: &str, found: impl ToString, why: &'static str) -> Result<(), FamilyError> {
    if bad {
        return Err(FamilyError::Metadata { key: key.to_owned(), found: found.to_string(), why });
    }
    Ok(())
}

/// Whether such a decoder can exist; `key` names a GGUF key as the file at hand does.
pub(super) fn check(spec: &DecoderSpec, key: &dyn Fn(&str) -> String) -> Result<(), FamilyError> {
    let (layers, width) =
        ((LAYERS_MAX, "must be from 1 to 1024"), (DIMENSION_MAX, "must be from 1 to 4194304"));
    let sizes = [
        ("block_count", spec.layers, layers),
        ("embedding_length", spec.hidden, width),
        ("feed_forward_length", spec.mlp_hidden, width),
        ("attention.head_count", spec.heads, width),
        ("attention.head_count_kv", spec.kv_heads, width),
        ("attention.key_length", spec.head_dim, width),
        ("context_length", spec.context_tokens_max, width),
    ];
    for (name, found, (max, why)) in sizes {
        refuse(found == 0 || found > max, &key(name), found, why)?;
    }
    let uneven = !spec.heads.is_multiple_of(spec.kv_heads);
    refuse(uneven, &key("attention.head_count_kv"), spec.kv_heads, "must divide head_count")?;
    let partial = !spec.head_dim.is_multiple_of(2) || spec.rope.dims != spec.head_dim;
    let found = format!("{} of {}", spec.rope.dims, spec.head_dim);
    refuse(partial, &key("rope.dimension_count"), found, "must be the whole head, an even number")?;
    let theta = spec.rope.theta;
    refuse(!(theta.is_finite() && theta > 1.0), &key("rope.freq_base"), theta, "must be above 1")?;
    let epsilon = spec.norm_epsilon;
    let bad = !(epsilon.is_finite() && epsilon > 0.0);
    refuse(bad, &key("attention.layer_norm_rms_epsilon"), epsilon, "must be above 0")
}
