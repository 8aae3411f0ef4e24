//! Weight files: named tensors over a bounded, checked map, and the quant block formats.
//!
//! Every length, offset, count, type and name of a file is validated before it is used: a hostile file gives a
//! typed error, never a panic, a hang or a large allocation. `quant/` has one file per block format.
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod error;
pub mod gguf;
pub mod quant;

pub use error::FormatError;
