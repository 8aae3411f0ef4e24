//! Qwen3 (source: transformers `models/qwen3/modeling_qwen3.py`): QK-norm, no biases, head width of its own.

use quarry_formats::gguf::GgufFile;

use super::FamilyError;
use super::base::base;
use crate::spec::{DecoderSpec, RopePairing};

pub(super) fn describe(file: &GgufFile) -> Result<DecoderSpec, FamilyError> {
    Ok(DecoderSpec { qk_norm: true, ..base(file, "qwen3", RopePairing::Halves)? })
}
