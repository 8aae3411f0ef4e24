//! What is chosen of how a model is held; the default loses least.

use quarry_formats::quant::TensorType;
use quarry_model::backend::{ActivateOptions, ModelCost};
use quarry_model::spec::DecoderSpec;
use quarry_model::weights::WeightInfo;

use crate::form::Form;
use crate::kv::{KvKind, KvShape};
use crate::scratch::Scratch;
use crate::step::{DecodeBytes, read_by_step};
use crate::weights::weight_bytes;

/// How a model is held on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Keys and values.
    pub kv: KvKind,
    /// Whether a head of 16-bit numbers is rounded to [`Form::Q8`]: 9/16 of the bytes, which every step reads. Errors of
    /// logits in the conformance suite: mean 0.0165 where it was 0.0155, the worst as before.
    pub int8_head: bool,
}

impl Holding {
    /// The form of a head whose file's type this is.
    pub fn head(&self, kind: TensorType) -> Form {
        match Form::of(kind) {
            Form::Bf16 | Form::F16 if self.int8_head => Form::Q8,
            form => form,
        }
    }

    /// What a model with these tensors takes on the device.
    pub fn cost(&self, spec: &DecoderSpec, tensors: &[WeightInfo], options: &ActivateOptions) -> ModelCost {
        ModelCost {
            weight_bytes: weight_bytes(self, spec, tensors),
            block_bytes: KvShape::new(spec, options.block_tokens).of(self.kv).block_bytes(),
            scratch_bytes: Scratch::plan(spec, options, spec.context_tokens_max).bytes,
        }
    }

    /// What a step of `rows` rows of one token reads, each at the end of `positions` positions (its own among them).
    pub fn decode_bytes(
        &self,
        spec: &DecoderSpec,
        tensors: &[WeightInfo],
        rows: usize,
        positions: usize,
    ) -> DecodeBytes {
        read_by_step(self, spec, tensors, rows, positions)
    }
}

/// [`Holding::decode_bytes`] by default.
pub fn decode_bytes(
    spec: &DecoderSpec,
    tensors: &[WeightInfo],
    rows: usize,
    positions: usize,
) -> DecodeBytes {
    Holding::default().decode_bytes(spec, tensors, rows, positions)
}
