//! llama (source: transformers `models/llama/modeling_llama.py`). GGUF files permute query and key rows so that
//! RoPE turns neighbouring dimensions.

use quarry_formats::gguf::GgufFile;

use super::FamilyError;
use super::base::base;
use crate::spec::{DecoderSpec, RopePairing};

pub(super) fn describe(file: &GgufFile) -> Result<DecoderSpec, FamilyError> {
    if file.tensor("rope_freqs.weight").is_some() {
        return Err(FamilyError::Metadata {
            key: "rope_freqs.weight".into(),
            found: "a tensor of frequency factors".into(),
            why: "llama 3.1 frequency scaling is not supported",
        });
    }
    base(file, "llama", RopePairing::Neighbours)
}
