//! Writes GGUF v3 files: test fixtures and generated models.
//!
//! [`Writer::tensor`] keeps its data in memory. A model too large for that names its tensors with
//! [`Writer::tensor_later`] and fills each one as it is written ([`Writer::write_with`]).
//!
//! Values are narrowed to what other readers expect of the usual keys: integers that fit are written as 32 bits,
//! floats that are exact in 32 bits as `f32`.

use std::io::{self, Write};

use super::Value;
use super::limits::ALIGNMENT_DEFAULT;
use super::parse::{MAGIC, value_type as t};
use crate::quant::TensorType;

/// Collects metadata and tensors, then writes them in that order.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, TensorType, Vec<usize>, Data)>,
}

/// A tensor's bytes, or how many the writing will bring.
#[derive(Clone, Debug)]
enum Data {
    Here(Vec<u8>),
    Later(usize),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::Here(bytes) => bytes.len(),
            Data::Later(bytes) => *bytes,
        }
    }
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata entry. `general.alignment` is the reader's default; do not set another.
    pub fn metadata(&mut self, key: &str, value: &Value) -> &mut Self {
        self.metadata.push((key.to_owned(), value.clone()));
        self
    }

    /// Adds a tensor: `shape` slowest first, `data` in the encoding of `kind` (see [`crate::quant::encode`]).
    pub fn tensor(&mut self, name: &str, kind: TensorType, shape: &[usize], data: &[u8]) -> &mut Self {
        self.tensors.push((name.to_owned(), kind, shape.to_vec(), Data::Here(data.to_vec())));
        self
    }

    /// Adds a tensor whose data [`Writer::write_with`] asks for; its rows are whole blocks of `kind`.
    pub fn tensor_later(&mut self, name: &str, kind: TensorType, shape: &[usize]) -> &mut Self {
        let bytes = kind.row_bytes(shape.iter().product());
        self.tensors.push((name.to_owned(), kind, shape.to_vec(), Data::Later(bytes)));
        self
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of `out`; `InvalidInput` where a tensor was added without data.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_with(out, &mut |name, _| {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} has no data")))
        })
    }

    /// Writes the file; `fill` writes the data of each tensor that was added without.
    ///
    /// # Errors
    /// Those of `out` and `fill`; `InvalidData` where `fill` writes more or less than the tensor holds.
    pub fn write_with(
        &self,
        out: &mut impl Write,
        fill: &mut dyn FnMut(&str, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(3_u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            string(&mut header, key);
            write_value(&mut header, value);
        }
        let mut offset = 0_usize;
        for (name, kind, shape, data) in &self.tensors {
            string(&mut header, name);
            header.extend((shape.len() as u32).to_le_bytes());
            for &n in shape.iter().rev() {
                header.extend((n as u64).to_le_bytes());
            }
            header.extend(kind.id().to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            offset = (offset + data.len()).next_multiple_of(ALIGNMENT_DEFAULT);
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT_DEFAULT), 0);
        out.write_all(&header)?;
        for (name, _, _, data) in &self.tensors {
            match data {
                Data::Here(bytes) => out.write_all(bytes)?,
                Data::Later(bytes) => {
                    let mut counted = Counted { out: &mut *out, written: 0 };
                    fill(name, &mut counted)?;
                    if counted.written != *bytes {
                        let what = format!("{name} has {bytes} bytes, {} were written", counted.written);
                        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                    }
                }
            }
            let padding = data.len().next_multiple_of(ALIGNMENT_DEFAULT) - data.len();
            out.write_all(&[0; ALIGNMENT_DEFAULT][..padding])?;
        }
        Ok(())
    }

    /// The file's bytes.
    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes).expect("writing to a Vec does not fail");
        bytes
    }
}

/// Counts what goes through.
struct Counted<'a, W> {
    out: &'a mut W,
    written: usize,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U64(n) => scalars(out, false, u64_type(&[*n]), &[*n], u64_bytes),
        Value::U64Array(a) => scalars(out, true, u64_type(a), a, u64_bytes),
        Value::I64(n) => scalars(out, false, i64_type(&[*n]), &[*n], i64_bytes),
        Value::I64Array(a) => scalars(out, true, i64_type(a), a, i64_bytes),
        Value::F64(x) => scalars(out, false, f64_type(&[*x]), &[*x], f64_bytes),
        Value::F64Array(a) => scalars(out, true, f64_type(a), a, f64_bytes),
        Value::Bool(b) => scalars(out, false, t::BOOL, &[*b], |out, _, b| out.push(u8::from(b))),
        Value::BoolArray(a) => scalars(out, true, t::BOOL, a, |out, _, b| out.push(u8::from(b))),
        Value::String(s) => {
            out.extend(t::STRING.to_le_bytes());
            string(out, s);
        }
        Value::StringArray(a) => {
            out.extend(t::ARRAY.to_le_bytes());
            out.extend(t::STRING.to_le_bytes());
            out.extend((a.len() as u64).to_le_bytes());
            a.iter().for_each(|s| string(out, s));
        }
    }
}

fn scalars<T: Copy>(
    out: &mut Vec<u8>,
    is_array: bool,
    kind: u32,
    values: &[T],
    write: impl Fn(&mut Vec<u8>, u32, T),
) {
    if is_array {
        out.extend(t::ARRAY.to_le_bytes());
    }
    out.extend(kind.to_le_bytes());
    if is_array {
        out.extend((values.len() as u64).to_le_bytes());
    }
    values.iter().for_each(|&v| write(out, kind, v));
}

fn u64_type(values: &[u64]) -> u32 {
    if values.iter().all(|&n| u32::try_from(n).is_ok()) { t::U32 } else { t::U64 }
}

fn u64_bytes(out: &mut Vec<u8>, kind: u32, n: u64) {
    if kind == t::U32 { out.extend((n as u32).to_le_bytes()) } else { out.extend(n.to_le_bytes()) }
}

fn i64_type(values: &[i64]) -> u32 {
    if values.iter().all(|&n| i32::try_from(n).is_ok()) { t::I32 } else { t::I64 }
}

fn i64_bytes(out: &mut Vec<u8>, kind: u32, n: i64) {
    if kind == t::I32 { out.extend((n as i32).to_le_bytes()) } else { out.extend(n.to_le_bytes()) }
}

fn f64_type(values: &[f64]) -> u32 {
    if values.iter().all(|&x| f64::from(x as f32).to_bits() == x.to_bits()) { t::F32 } else { t::F64 }
}

fn f64_bytes(out: &mut Vec<u8>, kind: u32, x: f64) {
    if kind == t::F32 { out.extend((x as f32).to_le_bytes()) } else { out.extend(x.to_le_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgufFile;

    #[test]
    fn later_data_is_as_if_it_were_here() {
        let data = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut here = Writer::new();
        here.tensor("a", TensorType::F32, &[2], &data).tensor("b", TensorType::F32, &[2], &data);
        let mut later = Writer::new();
        later.tensor("a", TensorType::F32, &[2], &data).tensor_later("b", TensorType::F32, &[2]);
        let mut written = Vec::new();
        let mut fill = |name: &str, out: &mut dyn Write| {
            assert_eq!(name, "b");
            out.write_all(&data[..4])?;
            out.write_all(&data[4..])
        };
        later.write_with(&mut written, &mut fill).unwrap();
        assert_eq!(written, here.finish());
        assert_eq!(GgufFile::from_bytes(written).unwrap().tensor("b").unwrap().1, data);

        let mut short = |_: &str, out: &mut dyn Write| out.write_all(&data[..7]);
        let refused = later.write_with(&mut Vec::new(), &mut short).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(later.write_to(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
