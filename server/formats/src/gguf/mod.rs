//! GGUF v2 and v3 (source: ggml's docs/gguf.md).

use std::collections::HashMap;

use crate::quant::TensorType;

/// A metadata value. Arrays are homogeneous.
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
    /// Row-major, slowest first (GGUF stores it the other way round): `[rows, columns]` for a matrix.
    pub shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
}

/// A mapped, checked GGUF file.
pub struct GgufFile {
    map: memmap2::Mmap,
    metadata: HashMap<String, Value>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl GgufFile {
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
        Some((info, &self.map[info.offset..info.offset + info.bytes]))
    }
}
