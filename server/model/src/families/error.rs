//! Why a file is no model we can run.

use quarry_formats::FormatError;

use super::SUPPORTED;

/// Why a file is no model we can run.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// The file itself is bad, or lacks a key.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// No mapping for it.
    #[error("architecture {found:?} is not supported; supported: {}", SUPPORTED.join(", "))]
    Architecture {
        /// As the file names it.
        found: String,
    },
    /// The decoder needs a tensor that is not there.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the metadata says.
    #[error("tensor {name} has shape {found:?}, the metadata says {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// In the file, slowest first.
        found: Vec<usize>,
        /// By the metadata, slowest first.
        expected: Vec<usize>,
    },
    /// The file has a tensor that the decoder would not use: what it computes would not be this model.
    #[error("tensor {name} has no place in a {architecture} decoder")]
    UnknownTensor {
        /// Its name.
        name: String,
        /// The file's architecture.
        architecture: String,
    },
    /// A metadata value is impossible or not supported.
    #[error("{key} is {found}: {why}")]
    Metadata {
        /// Which.
        key: String,
        /// Its value.
        found: String,
        /// What would do.
        why: &'static str,
    },
}
