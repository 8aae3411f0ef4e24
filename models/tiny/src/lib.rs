//! Small random models in the exact architectures, for tests: no weights are committed, only the formula.
//!
//! [`TinyModel`] says a model's shape; [`TinyModel::write`] makes a whole GGUF file of it and [`TinyModel::write_hub`] a
//! folder of the model hub, with a tokenizer and a chat template, so that it can be served. Every weight is a function of (seed, tensor name, index) that
//! `golden.py` evaluates as well ([`random`]); that script runs transformers' own models on the same weights in
//! f32 and writes the logits that [`TinyModel::golden`] reads.
#![forbid(unsafe_code)]

mod gguf;
mod golden;
mod hub;
pub mod random;
mod shape;
mod vocabulary;
mod weights;

pub use golden::{Golden, GoldenPrompt, YARN};
pub use hub::HubWeights;
pub use quarry_formats::quant::TensorType;
pub use quarry_formats::safetensors::StoredType;
pub use shape::{Family, TinyModel};
pub use vocabulary::{ENDOFTEXT, IM_END, IM_START, VOCAB};
