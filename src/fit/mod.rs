//! Which models a CUDA device holds, with which context, and what bounds their speed: `quarry models fit`, docs/GPU.md.
//!
//! A known model's dimensions are in its manifest, so none of its files is needed; a file or folder is read where one is
//! named. Sizes are the CUDA back end's own (`quarry_cuda_layout`), the room beside them is the engine's ledger's
//! (`quarry_runtime::kv_slabs`). Nothing here knows a device: speeds are bounds, not measurements.

mod bounds;
mod cards;
mod ledger;
mod page;
mod report;
mod table;

use std::path::Path;

use anyhow::Context as _;
use quarry_bench::make_model::Mix;
use quarry_formats::quant::TensorType;
use quarry_model::backend::{ModelCost, ModelFiles};
use quarry_model::families::tensors;
use quarry_model::spec::{DecoderSpec, RopePairing, RopeScaling, RopeSpec};
use quarry_model::weights::WeightInfo;
use quarry_models::{Decoder, Manifest};

pub use bounds::Load;
pub use ledger::Terms;
pub use page::page;
pub use report::{json, text};

/// A model whose tensors are known, though perhaps not their values.
pub struct Candidate {
    pub name: String,
    pub quantization: String,
    pub spec: DecoderSpec,
    pub tensors: Vec<WeightInfo>,
}

impl Candidate {
    /// From what the registry knows; `None` where that is too little.
    pub fn known(manifest: &Manifest) -> Option<Self> {
        let spec = spec(manifest, &manifest.decoder?);
        let tensors: Option<Vec<WeightInfo>> = tensors(&spec)
            .map(|(name, shape)| {
                let kind = kind(&manifest.quantization, &spec, &name, &shape)?;
                let (columns, rows) = shape.split_last()?;
                let bytes = rows.iter().product::<usize>() * kind.row_bytes(*columns);
                Some(WeightInfo { name, kind, shape, bytes })
            })
            .collect();
        let (name, quantization) = (manifest.name.clone(), manifest.quantization.clone());
        Some(Self { name, quantization, spec, tensors: tensors? })
    }

    /// From a GGUF file or a hub folder.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let files = ModelFiles::open(path).with_context(|| path.display().to_string())?;
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let tensors = files.weights.tensors().to_vec();
        let commonest = tensors.iter().max_by_key(|tensor| tensor.bytes).map(|tensor| tensor.kind.name());
        let quantization = commonest.unwrap_or_default().to_owned();
        Ok(Self { name, quantization, spec: (*files.spec).clone(), tensors })
    }

    /// What it takes on a CUDA device.
    pub fn cost(&self, terms: &Terms) -> ModelCost {
        terms.holding.cost(&self.spec, &self.tensors, &terms.options)
    }
}

fn spec(manifest: &Manifest, decoder: &Decoder) -> DecoderSpec {
    let Decoder { layers, hidden, mlp_hidden, heads, kv_heads, head_dim, vocab, tied_head } = *decoder;
    DecoderSpec {
        architecture: manifest.architecture.clone(),
        layers,
        hidden,
        mlp_hidden,
        heads,
        kv_heads,
        head_dim,
        vocab,
        context_tokens_max: manifest.context_tokens as usize,
        // Neither takes memory.
        norm_epsilon: 1e-6,
        rope: RopeSpec {
            theta: 1e6,
            dims: head_dim,
            pairing: RopePairing::Halves,
            scaling: RopeScaling::None,
        },
        qk_norm: manifest.architecture == "qwen3",
        qkv_bias: manifest.architecture == "qwen2",
        tied_head,
    }
}

/// The type of a tensor in files of a quantization; `None` where we do not know such files.
fn kind(quantization: &str, spec: &DecoderSpec, name: &str, shape: &[usize]) -> Option<TensorType> {
    let &[_, columns] = shape else { return Some(TensorType::F32) };
    let layer_part = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    if quantization == "AWQ" {
        // Head and embedding stay as they were.
        return Some(if layer_part.is_some() { TensorType::AWQ4 } else { TensorType::F16 });
    }
    let mix = Mix::named(quantization).ok()?;
    let (layer, part) = match layer_part {
        Some((layer, part)) => (layer.parse().ok()?, part.strip_suffix(".weight")?),
        None if name == "output.weight" || spec.tied_head => (0, "head"),
        None => (0, "token_embd"),
    };
    let mix = match mix {
        // llama.cpp gives a head 6 bits where the rest has fewer.
        Mix::All(kind) if part == "head" && 8 * kind.block_bytes() < 6 * kind.block_elements() => {
            Mix::All(TensorType::Q6K)
        }
        mix => mix,
    };
    Some(mix.kind(part, layer, spec.layers, columns))
}

#[cfg(test)]
mod tests {
    use quarry_models::Registry;

    use super::*;

    /// The dimensions in the manifests and the mixes of types give files of the length that is known.
    #[test]
    fn described_models_are_as_long_as_their_files() {
        let mut compared = 0;
        for manifest in Registry::new("unused").manifests() {
            let model = Candidate::known(manifest).expect("every manifest says what its model is");
            let Some(bytes) = manifest.bytes else { continue };
            let tensors: usize = model.tensors.iter().map(|tensor| tensor.bytes).sum();
            let rest = bytes as f64 - tensors as f64;
            // Metadata: the vocabulary and its merges.
            assert!((0.0..7e6).contains(&rest), "{}: {tensors} of {bytes}", manifest.name);
            compared += 1;
        }
        assert_eq!(compared, 3);
    }
}
