//! The tensors of a decoder: one table of names, shapes, and when they are there.

use std::collections::HashSet;

use quarry_formats::gguf::GgufFile;

use super::FamilyError;
use crate::spec::DecoderSpec;

/// Whether a spec calls for a tensor.
type When = fn(&DecoderSpec) -> bool;
/// The shape it has then, slowest first.
type Shape = fn(&DecoderSpec) -> Vec<usize>;

fn query(spec: &DecoderSpec) -> usize {
    spec.heads * spec.head_dim
}

fn key_value(spec: &DecoderSpec) -> usize {
    spec.kv_heads * spec.head_dim
}

/// Tensors of the whole model.
const MODEL: [(&str, When, Shape); 3] = [
    ("token_embd.weight", |_| true, |s| vec![s.vocab, s.hidden]),
    ("output_norm.weight", |_| true, |s| vec![s.hidden]),
    ("output.weight", |s| !s.tied_head, |s| vec![s.vocab, s.hidden]),
];

/// Tensors of one layer, without their `blk.N.`.
const LAYER: [(&str, When, Shape); 14] = [
    ("attn_norm.weight", |_| true, |s| vec![s.hidden]),
    ("attn_q.weight", |_| true, |s| vec![query(s), s.hidden]),
    ("attn_k.weight", |_| true, |s| vec![key_value(s), s.hidden]),
    ("attn_v.weight", |_| true, |s| vec![key_value(s), s.hidden]),
    ("attn_q.bias", |s| s.qkv_bias, |s| vec![query(s)]),
    ("attn_k.bias", |s| s.qkv_bias, |s| vec![key_value(s)]),
    ("attn_v.bias", |s| s.qkv_bias, |s| vec![key_value(s)]),
    ("attn_q_norm.weight", |s| s.qk_norm, |s| vec![s.head_dim]),
    ("attn_k_norm.weight", |s| s.qk_norm, |s| vec![s.head_dim]),
    ("attn_output.weight", |_| true, |s| vec![s.hidden, query(s)]),
    ("ffn_norm.weight", |_| true, |s| vec![s.hidden]),
    ("ffn_gate.weight", |_| true, |s| vec![s.mlp_hidden, s.hidden]),
    ("ffn_up.weight", |_| true, |s| vec![s.mlp_hidden, s.hidden]),
    ("ffn_down.weight", |_| true, |s| vec![s.hidden, s.mlp_hidden]),
];

/// Every tensor that `spec` calls for, with its shape, slowest first; made as it is asked for.
pub fn tensors(spec: &DecoderSpec) -> impl Iterator<Item = (String, Vec<usize>)> {
    let called_for = |(_, when, _): &&(&str, When, Shape)| when(spec);
    let model = MODEL.iter().filter(called_for).map(|(name, _, shape)| ((*name).to_owned(), shape(spec)));
    let layers = (0..spec.layers).flat_map(move |layer| {
        LAYER
            .iter()
            .filter(|(_, when, _)| when(spec))
            .map(move |(name, _, shape)| (format!("blk.{layer}.{name}"), shape(spec)))
    });
    model.chain(layers)
}

/// The file has exactly these tensors.
pub(super) fn check(file: &GgufFile, spec: &DecoderSpec) -> Result<(), FamilyError> {
    let mut known = HashSet::new();
    for (name, expected) in tensors(spec) {
        match file.tensor(&name) {
            None => return Err(FamilyError::MissingTensor { name }),
            Some((info, _)) if info.shape != expected => {
                return Err(FamilyError::TensorShape { name, found: info.shape.clone(), expected });
            }
            Some(_) => known.insert(name),
        };
    }
    match file.tensors().iter().find(|info| !known.contains(&info.name)) {
        Some(info) => Err(FamilyError::UnknownTensor {
            name: info.name.clone(),
            architecture: spec.architecture.clone(),
        }),
        None => Ok(()),
    }
}
