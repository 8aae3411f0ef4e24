//! The hub's tensor names (source: transformers, `models/*/modeling_*.py`), and where each of a decoder's tensors is.

use std::collections::HashSet;

use quarry_formats::awq;
use quarry_formats::hub::HubFolder;
use quarry_formats::quant::TensorType;
use quarry_formats::safetensors::StoredType;

use super::quantization::Quantization;
use crate::families::{FamilyError, tensors};
use crate::spec::DecoderSpec;
use crate::weights::{Place, WeightInfo};

/// Our names of a layer's parts and the hub's.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// What models without a head, such as the embedding models, leave out of every name.
const PREFIX: &str = "model.";

/// The hub's name of a tensor of [`tensors`], as this folder has it.
pub(super) fn name_in(folder: &HubFolder, ours: &str) -> String {
    let name = hub_name(ours);
    match name.strip_prefix(PREFIX) {
        Some(short) if is_bare(folder) => short.to_owned(),
        _ => name,
    }
}

/// Whether the folder is a decoder without a head, whose names begin where those of others have `model.`.
pub(super) fn is_bare(folder: &HubFolder) -> bool {
    folder.tensor("embed_tokens.weight").is_some() && folder.tensor("lm_head.weight").is_none()
}

/// The hub's name of a tensor of [`tensors`].
fn hub_name(ours: &str) -> String {
    match ours {
        "token_embd.weight" => return "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => return "model.norm.weight".to_owned(),
        "output.weight" => return "lm_head.weight".to_owned(),
        _ => {}
    }
    let named = ours.strip_prefix("blk.").and_then(|rest| {
        let (layer, rest) = rest.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let (_, hub) = PARTS.iter().find(|(name, _)| *name == part)?;
        Some(format!("model.layers.{layer}.{hub}.{kind}"))
    });
    named.unwrap_or_else(|| ours.to_owned())
}

/// Every tensor of the decoder and its place; the folder has no others but those that mean nothing to it.
pub(super) fn places(
    folder: &HubFolder,
    spec: &DecoderSpec,
    quantization: Quantization,
) -> Result<Vec<(WeightInfo, Place)>, FamilyError> {
    let mut used = HashSet::new();
    let mut found = Vec::new();
    for (ours, shape) in tensors(spec) {
        let name = name_in(folder, &ours);
        let matrix = name.strip_suffix(".weight").filter(|_| quantization == Quantization::Awq);
        let quantized = matrix.filter(|name| folder.tensor(&format!("{name}.qweight")).is_some());
        let (kind, place) = match quantized {
            Some(matrix) => {
                awq_parts(folder, matrix, &shape, &mut used)?;
                (TensorType::AWQ4, Place::Awq(matrix.to_owned()))
            }
            None => {
                let kind = part(folder, &name, &shape, &mut used)?;
                let Some(kind) = kind.weights() else {
                    return Err(FamilyError::Metadata {
                        key: name,
                        found: kind.name().to_owned(),
                        why: "weights must be F32, F16 or BF16",
                    });
                };
                (kind, Place::Stored(name))
            }
        };
        let rows = shape[..shape.len() - 1].iter().product::<usize>();
        let bytes = rows * kind.row_bytes(shape[shape.len() - 1]);
        found.push((WeightInfo { name: ours, kind, shape, bytes }, place));
    }
    let means_nothing = |name: &str| {
        // Some checkpoints store a tied head once more, old ones the frequencies of RoPE.
        (spec.tied_head && name == "lm_head.weight") || name.ends_with(".rotary_emb.inv_freq")
    };
    match folder.tensors().find(|t| !used.contains(&t.name) && !means_nothing(&t.name)) {
        Some(tensor) => Err(FamilyError::UnknownTensor {
            name: tensor.name.clone(),
            architecture: spec.architecture.clone(),
        }),
        None => Ok(found),
    }
}

/// A tensor that must be there in this shape.
fn part(
    folder: &HubFolder,
    name: &str,
    shape: &[usize],
    used: &mut HashSet<String>,
) -> Result<StoredType, FamilyError> {
    match folder.tensor(name) {
        None => Err(FamilyError::MissingTensor { name: name.to_owned() }),
        Some((info, _)) if info.shape != shape => Err(FamilyError::TensorShape {
            name: name.to_owned(),
            found: info.shape.clone(),
            expected: shape.to_vec(),
        }),
        Some((info, _)) => {
            used.insert(name.to_owned());
            Ok(info.kind)
        }
    }
}

/// The three tensors of a quantized matrix `[rows, columns]`.
fn awq_parts(
    folder: &HubFolder,
    name: &str,
    shape: &[usize],
    used: &mut HashSet<String>,
) -> Result<(), FamilyError> {
    let &[rows, columns] = shape else {
        let why = "only matrices can be quantized";
        return Err(FamilyError::Metadata {
            key: format!("{name}.qweight"),
            found: format!("{shape:?}"),
            why,
        });
    };
    if !columns.is_multiple_of(awq::GROUP) || !rows.is_multiple_of(awq::WORD) {
        let why = "AWQ needs whole groups of 128 inputs and whole words of 8 outputs";
        return Err(FamilyError::Metadata {
            key: format!("{name}.qweight"),
            found: format!("{shape:?}"),
            why,
        });
    }
    let (groups, words) = (columns / awq::GROUP, rows / awq::WORD);
    let (words_only, scales): (&[StoredType], _) = (&[StoredType::I32], &[StoredType::F16, StoredType::BF16]);
    let parts = [
        ("qweight", words_only, [columns, words], "must be I32"),
        ("qzeros", words_only, [groups, words], "must be I32"),
        ("scales", scales, [groups, rows], "must be F16 or BF16"),
    ];
    for (kind, allowed, shape, why) in parts {
        let name = format!("{name}.{kind}");
        let found = part(folder, &name, &shape, used)?;
        if !allowed.contains(&found) {
            return Err(FamilyError::Metadata { key: name, found: found.name().to_owned(), why });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{RopePairing, RopeScaling, RopeSpec};

    #[test]
    fn every_tensor_of_every_family_has_a_name_of_the_hub() {
        let rope = RopeSpec { theta: 1e4, dims: 8, pairing: RopePairing::Halves, scaling: RopeScaling::None };
        let spec = DecoderSpec {
            architecture: "qwen3".into(),
            layers: 12,
            hidden: 8,
            mlp_hidden: 8,
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
            vocab: 8,
            context_tokens_max: 8,
            norm_epsilon: 1e-6,
            rope,
            qk_norm: true,
            qkv_bias: true,
            tied_head: false,
        };
        let names: HashSet<String> = tensors(&spec).map(|(name, _)| hub_name(&name)).collect();
        assert_eq!(names.len(), tensors(&spec).count());
        assert!(names.iter().all(|name| name.starts_with("model.") || name == "lm_head.weight"), "{names:?}");
        for name in
            ["model.layers.11.self_attn.k_proj.bias", "model.layers.0.post_attention_layernorm.weight"]
        {
            assert!(names.contains(name), "{name}");
        }
    }
}
