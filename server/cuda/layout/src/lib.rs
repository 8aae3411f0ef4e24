//! How a model lies in the memory of a CUDA device, in bytes: weights, KV blocks, scratch, and what a decode step reads.
//!
//! Pure arithmetic, in a crate of its own: the back end places memory by it, and a program without the back end says by
//! the same functions which model a card will hold (`quarry models fit`).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod draws;
mod form;
mod holding;
mod kv;
mod scratch;
mod step;
mod weights;

pub use draws::{DrawRoom, LOGPROB_WORDS, ROW_WORDS};
pub use form::{COLUMNS, Form, GROUP, TILE};
pub use holding::{Holding, decode_bytes};
pub use kv::{KvKind, KvShape};
pub use scratch::{HEAD_ROWS, SPLIT, Scratch};
pub use step::DecodeBytes;
pub use weights::{ALIGN, Places};
