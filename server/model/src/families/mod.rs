//! Architectures: each maps its file's metadata to a [`DecoderSpec`]; tensor names and shapes are one table.
//!
//! A new family is a file like `qwen3.rs` that sets what differs from `base.rs`, a line in [`describe`] and [`SUPPORTED`],
//! and a line in `hub/` for the model hub's folders.

mod base;
mod error;
mod hub;
mod llama;
mod qwen2;
mod qwen3;
mod tensors;

use std::path::Path;
use std::sync::Arc;

use quarry_formats::ModelFile;
use quarry_formats::gguf::{GgufFile, TensorInfo};

use crate::backend::ModelFiles;
use crate::spec::{DecoderSpec, RopeScaling};
use crate::weights::{Place, WeightFile, WeightInfo};

pub use error::FamilyError;
pub use tensors::tensors;

/// Architectures that can be run, as `general.architecture` names them.
pub const SUPPORTED: [&str; 3] = ["qwen3", "qwen2", "llama"];

impl ModelFiles {
    /// Opens, describes and checks a GGUF file, or a folder of the model hub.
    ///
    /// # Errors
    /// [`FamilyError`] names the key or tensor; the file's name is added only by [`FamilyError::Format`] when it
    /// cannot be read at all.
    pub fn open(path: &Path) -> Result<Self, FamilyError> {
        let file = ModelFile::open(path)?;
        let (spec, tensors) = match &file {
            ModelFile::Gguf(file) => (describe(file)?, as_they_lie(file)),
            ModelFile::Hub(folder) => hub::describe(folder)?,
        };
        let weights = Arc::new(WeightFile::new(file, tensors));
        Ok(Self { path: path.to_owned(), weights, spec: Arc::new(spec) })
    }

    /// The same model with YaRN switched on: a context of `factor` times `original_context` positions, which is the
    /// file's own context where it is not given.
    ///
    /// # Errors
    /// [`FamilyError::Metadata`] for a model that has a scaling already, and for an impossible factor or context.
    pub fn with_yarn(mut self, factor: f32, original_context: Option<usize>) -> Result<Self, FamilyError> {
        let bad = |key: &str, found: String, why| FamilyError::Metadata { key: key.to_owned(), found, why };
        let rope = &self.spec.rope.scaling;
        if *rope != RopeScaling::None {
            return Err(bad(
                "rope_scaling",
                rope.name().to_owned(),
                "the model's own files already extend its context",
            ));
        }
        let original = original_context.unwrap_or(self.spec.context_tokens_max);
        let scaling = RopeScaling::yarn(factor, original);
        if let Some((key, found, why)) = scaling.problem() {
            return Err(bad(&format!("rope_scaling.{key}"), found.to_string(), why));
        }
        let mut spec = (*self.spec).clone();
        spec.context_tokens_max = scaling.context(0);
        spec.rope.scaling = scaling;
        base::check(&spec, &|key| format!("rope_scaling: {key}"))?;
        self.spec = Arc::new(spec);
        Ok(self)
    }
}

/// A GGUF file's tensors have our names.
fn as_they_lie(file: &GgufFile) -> Vec<(WeightInfo, Place)> {
    let place = |t: &TensorInfo| {
        let info = WeightInfo { name: t.name.clone(), kind: t.kind, shape: t.shape.clone(), bytes: t.bytes };
        (info, Place::Stored(t.name.clone()))
    };
    file.tensors().iter().map(place).collect()
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
    base::check(&spec, &|key| format!("{}.{key}", spec.architecture))?;
    tensors::check(file, &spec)?;
    Ok(spec)
}
