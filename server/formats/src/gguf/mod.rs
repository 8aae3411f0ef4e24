//! GGUF v2 and v3 files (source: `docs/gguf.md` of ggml): typed metadata and named tensors over one map.
//!
//! [`parse`] checks everything once; afterwards a tensor's bytes are a slice that cannot be out of bounds.

mod map;
mod parse;
mod writer;

use std::collections::HashMap;
use std::path::Path;

pub use map::Bytes;
pub use parse::FormatError;
pub use writer::Writer;

use crate::quant::TensorType;

/// A metadata value. Integers are widened; arrays are homogeneous and one-dimensional.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    String(String),
    U64Array(Vec<u64>),
    I64Array(Vec<i64>),
    F64Array(Vec<f64>),
    BoolArray(Vec<bool>),
    StringArray(Vec<String>),
}

/// A tensor's place and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Element type.
    pub kind: TensorType,
    /// Row-major, slowest first (the file stores it the other way round): `[rows, columns]` for a matrix.
    pub shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
}

/// A mapped, checked GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    bytes: Bytes,
    metadata: HashMap<String, Value>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl GgufFile {
    /// Maps and checks a file.
    ///
    /// # Errors
    /// [`FormatError`] says what is wrong and at which byte or name.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::from_bytes(Bytes::map(path)?)
    }

    /// Checks bytes that are already there.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self, FormatError> {
        let (metadata, tensors) = parse::parse(&bytes)?;
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { bytes, metadata, tensors, by_name })
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

    /// A string value.
    ///
    /// # Errors
    /// [`FormatError::MissingKey`] or [`FormatError::WrongValue`].
    pub fn metadata_str(&self, key: &str) -> Result<&str, FormatError> {
        match self.value(key)? {
            Value::String(value) => Ok(value),
            _ => Err(wrong(key, "a string")),
        }
    }

    /// An integer value that fits.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_str`].
    pub fn metadata_usize(&self, key: &str) -> Result<usize, FormatError> {
        let fit = match *self.value(key)? {
            Value::U64(value) => usize::try_from(value).ok(),
            Value::I64(value) => usize::try_from(value).ok(),
            _ => None,
        };
        fit.ok_or_else(|| wrong(key, "a non-negative integer"))
    }

    /// A number.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_str`].
    pub fn metadata_f32(&self, key: &str) -> Result<f32, FormatError> {
        match *self.value(key)? {
            Value::F64(value) => Ok(value as f32),
            Value::U64(value) => Ok(value as f32),
            Value::I64(value) => Ok(value as f32),
            _ => Err(wrong(key, "a number")),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// As [`GgufFile::metadata_str`].
    pub fn metadata_strings(&self, key: &str) -> Result<&[String], FormatError> {
        match self.value(key)? {
            Value::StringArray(values) => Ok(values),
            _ => Err(wrong(key, "an array of strings")),
        }
    }

    fn value(&self, key: &str) -> Result<&Value, FormatError> {
        self.metadata.get(key).ok_or_else(|| FormatError::MissingKey { key: key.to_owned() })
    }
}

fn wrong(key: &str, expected: &'static str) -> FormatError {
    FormatError::WrongValue { key: key.to_owned(), expected }
}
