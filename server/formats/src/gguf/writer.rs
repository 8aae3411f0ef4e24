//! Writing GGUF v3, for small generated models and tests.

use super::Value;
use crate::quant::TensorType;

/// Collects metadata and tensors, then gives the file's bytes.
#[derive(Default)]
pub struct Writer {
    metadata: Vec<u8>,
    metadata_count: u64,
    headers: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

const ALIGNMENT: usize = 32;

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata value. Unsigned integers are written as u32 where they fit, floats as f32.
    pub fn metadata(&mut self, key: &str, value: &Value) -> &mut Self {
        string(&mut self.metadata, key);
        self.metadata_count += 1;
        let out = &mut self.metadata;
        match value {
            Value::U64(v) => match u32::try_from(*v) {
                Ok(v) => scalar(out, 4, &v.to_le_bytes()),
                Err(_) => scalar(out, 10, &v.to_le_bytes()),
            },
            Value::I64(v) => scalar(out, 11, &v.to_le_bytes()),
            Value::F64(v) => scalar(out, 6, &(*v as f32).to_le_bytes()),
            Value::Bool(v) => scalar(out, 7, &[u8::from(*v)]),
            Value::String(v) => {
                out.extend(8u32.to_le_bytes());
                string(out, v);
            }
            Value::U64Array(v) => array(out, 10, v, |out, v| out.extend(v.to_le_bytes())),
            Value::I64Array(v) => array(out, 11, v, |out, v| out.extend(v.to_le_bytes())),
            Value::F64Array(v) => array(out, 6, v, |out, v| out.extend((*v as f32).to_le_bytes())),
            Value::BoolArray(v) => array(out, 7, v, |out, v| out.push(u8::from(*v))),
            Value::StringArray(v) => array(out, 8, v, |out, v| string(out, v)),
        }
        self
    }

    /// Adds a tensor; `shape` slowest first, `bytes` encoded as `kind`.
    pub fn tensor(&mut self, name: &str, kind: TensorType, shape: &[usize], bytes: &[u8]) -> &mut Self {
        string(&mut self.headers, name);
        self.headers.extend((shape.len() as u32).to_le_bytes());
        for &dimension in shape.iter().rev() {
            self.headers.extend((dimension as u64).to_le_bytes());
        }
        self.headers.extend((kind as u32).to_le_bytes());
        self.headers.extend((self.data.len() as u64).to_le_bytes());
        self.tensor_count += 1;
        self.data.extend_from_slice(bytes);
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self
    }

    /// The whole file.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(self.tensor_count.to_le_bytes());
        out.extend(self.metadata_count.to_le_bytes());
        out.extend(&self.metadata);
        out.extend(&self.headers);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(&self.data);
        out
    }
}

fn string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

fn scalar(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
}

fn array<T>(out: &mut Vec<u8>, kind: u32, values: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((values.len() as u64).to_le_bytes());
    for value in values {
        write(out, value);
    }
}
