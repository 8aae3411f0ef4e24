//! Qwen2 and Qwen2.5 (source: transformers `models/qwen2/modeling_qwen2.py`): biases on query, key and value.

use quarry_formats::gguf::GgufFile;

use super::FamilyError;
use super::base::base;
use crate::spec::{DecoderSpec, RopePairing};

pub(super) fn describe(file: &GgufFile) -> Result<DecoderSpec, FamilyError> {
    Ok(DecoderSpec { qkv_bias: true, ..base(file, "qwen2", RopePairing::Halves)? })
}
