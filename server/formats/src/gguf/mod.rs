//! GGUF v2 and v3 (source: ggml's docs/gguf.md): a read-only map, checked once as a whole when it is opened.
//!
//! [`GgufFile::open`] maps a file, [`GgufFile::from_bytes`] takes bytes in memory; both run the same checks, so
//! that afterwards every [`TensorInfo`] is known to lie inside the file and [`GgufFile::tensor`] cannot fail on
//! bounds. [`Writer`] makes small files for tests and generated models.

mod cursor;
mod layout;
pub mod limits;
mod metadata;
mod parse;
mod writer;

use std::collections::HashMap;
use std::path::Path;

pub use crate::FormatError;
use crate::map::Bytes;
use crate::quant::TensorType;
use parse::Parsed;

pub use metadata::{FromValue, Value};
pub use writer::Writer;

/// A tensor's place and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Element type.
    pub kind: TensorType,
    /// Row-major, slowest first (GGUF stores it the other way round): `[rows, columns]` for a matrix.
    pub shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
}

/// A mapped, checked GGUF file.
pub struct GgufFile {
    bytes: Bytes,
    metadata: HashMap<String, Value>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl GgufFile {
    /// Maps and checks a file. The file must not be truncated or rewritten while this value lives: reading past
    /// a shortened end ends the process (SIGBUS). Replacing it by rename, or unlinking it, is safe.
    ///
    /// # Errors
    /// [`FormatError::Open`] from the operating system, else [`FormatError::Content`] with what is wrong where.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::checked(Bytes::map(path)?).map_err(|error| error.within(path))
    }

    /// Checks a file that is in memory.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, FormatError> {
        Self::checked(Bytes::Owned(bytes))
    }

    fn checked(bytes: Bytes) -> Result<Self, FormatError> {
        let Parsed { metadata, tensors, by_name } = parse::parse(&bytes)?;
        Ok(GgufFile { bytes, metadata, tensors, by_name })
    }

    /// All metadata.
    pub fn metadata(&self) -> &HashMap<String, Value> {
        &self.metadata
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor's description and bytes.
    pub fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = &self.tensors[*self.by_name.get(name)?];
        Some((info, &self.bytes[info.offset..info.offset + info.bytes]))
    }

    /// Lets a tensor's memory go until it is read again.
    pub fn release(&self, name: &str) {
        if let Some(&index) = self.by_name.get(name) {
            let info = &self.tensors[index];
            self.bytes.release(info.offset..info.offset + info.bytes);
        }
    }
}

impl std::fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufFile")
            .field("bytes", &self.bytes.len())
            .field("metadata", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish()
    }
}
