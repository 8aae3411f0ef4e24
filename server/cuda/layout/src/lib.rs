//! How a model lies in the memory of a CUDA device, in bytes: weights, KV blocks, scratch, and what a decode step reads.
//!
//! Pure arithmetic, in a crate of its own: the back end places memory by it, and a program without the back end says by
//! the same functions which model a card will hold (`quarry models fit`).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod draws;
mod form;
mod kv;
mod scratch;
mod step;
mod weights;

use quarry_model::backend::{ActivateOptions, ModelCost};
use quarry_model::spec::DecoderSpec;
use quarry_model::weights::WeightInfo;

pub use draws::{DrawRoom, LOGPROB_WORDS, ROW_WORDS};
pub use form::{COLUMNS, Form, GROUP, TILE};
pub use kv::KvShape;
pub use scratch::{HEAD_ROWS, SPLIT, Scratch};
pub use step::{DecodeBytes, decode_bytes};
pub use weights::{ALIGN, Places, weight_bytes};

/// What a model with these tensors takes on the device.
pub fn cost(spec: &DecoderSpec, tensors: &[WeightInfo], options: &ActivateOptions) -> ModelCost {
    ModelCost {
        weight_bytes: weight_bytes(spec, tensors),
        block_bytes: KvShape::new(spec, options.block_tokens).block_bytes(),
        scratch_bytes: Scratch::plan(spec, options, spec.context_tokens_max).bytes,
    }
}
