//! Weight files: named tensors over a bounded, checked map, and the quant block formats.
//!
//! A model is a GGUF file or a folder as the model hub has them; [`ModelFile`] is either. Every length, offset, count,
//! type and name of a file is validated before it is used: a hostile file gives a typed error, never a panic, a hang or
//! a large allocation. `quant/` has one file per block format.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod awq;
mod error;
pub mod gguf;
pub mod hub;
mod map;
mod model_file;
pub mod quant;
pub mod safetensors;

pub use error::FormatError;
pub use model_file::ModelFile;
