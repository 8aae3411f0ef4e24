//! Architectures: each maps its file's metadata to a [`DecoderSpec`]; tensor names and shapes are one table.
//!
//! A new family is a file like [`qwen3`](self) that sets what differs from [`base`], and a line in
//! [`describe`] and [`SUPPORTED`].

mod base;
mod error;
mod llama;
mod qwen2;
mod qwen3;
mod tensors;

use std::path::Path;
use std::sync::Arc;

use quarry_formats::gguf::GgufFile;

use crate::backend::ModelFiles;
use crate::spec::DecoderSpec;

pub use error::FamilyError;
pub use tensors::tensors;

/// Architectures that can be run, as `general.architecture` names them.
pub const SUPPORTED: [&str; 3] = ["qwen3", "qwen2", "llama"];

impl ModelFiles {
    /// Opens, describes and checks a GGUF file.
    ///
    /// # Errors
    /// [`FamilyError`] names the key or tensor; the file's name is added only by [`FamilyError::Format`] when it
    /// cannot be read at all.
    pub fn open(path: &Path) -> Result<Self, FamilyError> {
        let weights = GgufFile::open(path)?;
        let spec = describe(&weights)?;
        Ok(Self { path: path.to_owned(), weights: Arc::new(weights), spec: Arc::new(spec) })
    }
}

/// The decoder a file holds: its dimensions are possible, and its tensors are exactly those the decoder needs.
///
/// # Errors
/// [`FamilyError::Architecture`] for an unknown one, [`FamilyError::Format`] for missing or mistyped keys,
/// [`FamilyError::Metadata`] for impossible ones, and the tensor that is missing, misshapen or unknown.
pub fn describe(file: &GgufFile) -> Result<DecoderSpec, FamilyError> {
    let spec = match file.metadata_str("general.architecture")? {
        "qwen3" => qwen3::describe(file)?,
        "qwen2" => qwen2::describe(file)?,
        "llama" => llama::describe(file)?,
        found => return Err(FamilyError::Architecture { found: found.to_owned() }),
    };
    base::check(&spec)?;
    tensors::check(file, &spec)?;
    Ok(spec)
}
