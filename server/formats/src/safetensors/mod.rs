//! safetensors (source: the format's own README): a read-only map, checked once as a whole when it is opened.
//!
//! ```text
//! header bytes u64, little-endian
//! header: JSON { "__metadata__": {…}, "NAME": { "dtype": "BF16", "shape": […], "data_offsets": [begin, end] }, … }
//! tensor data: row-major, one after another without gaps; offsets count from here
//! ```
//! After the checks every [`StoredTensor`] is known to lie inside the file and to be as long as its shape says, and no
//! two share a byte. [`write`] makes small files for tests and generated models.

mod header;
pub mod limits;
mod writer;

use std::collections::HashMap;
use std::path::Path;

use crate::FormatError;
use crate::map::Bytes;
use crate::quant::TensorType;

pub use writer::{Piece, write};

/// Element types that model folders have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StoredType {
    F32,
    F16,
    BF16,
    /// Words that hold packed integers (AWQ).
    I32,
}

impl StoredType {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::BF16, Self::I32];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I32 => "I32",
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// As weights; `None` for words of packed integers.
    pub const fn weights(self) -> Option<TensorType> {
        match self {
            Self::F32 => Some(TensorType::F32),
            Self::F16 => Some(TensorType::F16),
            Self::BF16 => Some(TensorType::BF16),
            Self::I32 => None,
        }
    }
}

/// A tensor's place and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// Element type.
    pub kind: StoredType,
    /// Row-major, slowest first.
    pub shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
}

/// A mapped, checked safetensors file.
pub struct SafetensorsFile {
    bytes: Bytes,
    tensors: Vec<StoredTensor>,
    by_name: HashMap<String, usize>,
}

impl SafetensorsFile {
    /// Maps and checks a file. What [`crate::gguf::GgufFile::open`] says of files that change meanwhile holds here too.
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
        let tensors = header::parse(&bytes)?;
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { bytes, tensors, by_name })
    }

    /// All tensors, in the order of their data.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// A tensor's description and bytes.
    pub fn tensor(&self, name: &str) -> Option<(&StoredTensor, &[u8])> {
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

impl std::fmt::Debug for SafetensorsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SafetensorsFile")
            .field("bytes", &self.bytes.len())
            .field("tensors", &self.tensors.len())
            .finish()
    }
}
