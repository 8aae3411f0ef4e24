//! Reference executor on candle-core in f32: the oracle of the conformance suite.
//!
//! Everything is done in the plainest way: weights are decoded to f32 once, rows run one after another, keys and
//! values are plain f32 per block and are gathered for every layer. Nothing is fused, skipped or reordered, so
//! what it computes can be read off [`forward`]. Speed is of no concern.
#![forbid(unsafe_code)]

mod backend;
mod cache;
mod executor;
mod forward;
mod swap;
mod weights;

pub use backend::ReferenceBackend;
