//! Reading the header: every length, offset, count, type and name is validated before it is used.
//!
//! Memory taken is bounded by the bytes actually present: a count only lets elements be read, never reserved.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::{TensorInfo, Value};
use crate::quant::TensorType;

/// Metadata entries at most; real files have under 100.
pub const METADATA_MAX: u64 = 4_096;
/// Tensors at most; the largest dense models have under 2,000.
pub const TENSORS_MAX: u64 = 65_536;
/// Elements of one metadata array at most; the largest vocabularies have 262,144.
pub const ARRAY_MAX: u64 = 2_097_152;
/// Bytes of one metadata string at most (chat templates are the longest).
pub const STRING_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a key or tensor name at most; ggml's own bound on tensor names is 64.
pub const NAME_BYTES_MAX: u64 = 256;
/// Dimensions at most, as in ggml.
pub const DIMENSIONS_MAX: u32 = 4;
/// Alignment used when the file names none.
const ALIGNMENT_DEFAULT: u64 = 32;

/// What is wrong with a weight file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FormatError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("not a GGUF file: it begins with {found:02x?}")]
    Magic { found: Vec<u8> },
    #[error("GGUF version {found}; versions 2 and 3 are supported")]
    Version { found: u32 },
    #[error("the file ends at byte {len}, {needed} bytes are needed at byte {at} for {what}")]
    Truncated { what: &'static str, at: usize, needed: u64, len: usize },
    #[error("{what} is {found}, at most {max} are accepted")]
    TooMany { what: &'static str, found: u64, max: u64 },
    #[error("{what} at byte {at} is not UTF-8")]
    Utf8 { what: &'static str, at: usize },
    #[error("{what} {name:?} appears twice")]
    Duplicate { what: &'static str, name: String },
    #[error("{what} at byte {at} is empty")]
    EmptyName { what: &'static str, at: usize },
    #[error("metadata {key:?} has value type {found}; known are 0 to 12")]
    ValueType { key: String, found: u32 },
    #[error("metadata {key:?} is an array of arrays")]
    NestedArray { key: String },
    #[error("metadata {key:?} is missing")]
    MissingKey { key: String },
    #[error("metadata {key:?} is not {expected}")]
    WrongValue { key: String, expected: &'static str },
    #[error("general.alignment is {found}, not a power of two between 8 and 65536")]
    Alignment { found: u64 },
    #[error(
        "tensor {name:?} has element type {found}; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q8_0, Q4_K, Q5_K, Q6_K"
    )]
    TensorType { name: String, found: u32 },
    #[error("tensor {name:?}: {what}")]
    Shape { name: String, what: String },
    #[error("tensor {name:?} spans bytes {start}..{end}, the file has {len}")]
    OutOfFile { name: String, start: u64, end: u64, len: usize },
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap { first: String, second: String },
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64, what: &'static str) -> Result<&'a [u8], FormatError> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(n) {
            Ok(n) if n <= left => {
                let taken = &self.bytes[self.at..self.at + n];
                self.at += n;
                Ok(taken)
            }
            _ => Err(FormatError::Truncated { what, at: self.at, needed: n, len: self.bytes.len() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FormatError> {
        let taken = self.take(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(taken);
        Ok(out)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, FormatError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &'static str, max: u64) -> Result<u64, FormatError> {
        let found = self.u64(what)?;
        if found > max { Err(FormatError::TooMany { what, found, max }) } else { Ok(found) }
    }

    fn string(&mut self, what: &'static str, max: u64) -> Result<String, FormatError> {
        let len = self.count(what, max)?;
        let at = self.at;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| FormatError::Utf8 { what, at })
    }

    fn name(&mut self, what: &'static str) -> Result<String, FormatError> {
        let at = self.at;
        let name = self.string(what, NAME_BYTES_MAX)?;
        if name.is_empty() { Err(FormatError::EmptyName { what, at }) } else { Ok(name) }
    }
}

type Parsed = (HashMap<String, Value>, Vec<TensorInfo>);

/// Reads header, metadata and tensor table, and checks every tensor's span.
pub fn parse(bytes: &[u8]) -> Result<Parsed, FormatError> {
    let mut r = Reader { bytes, at: 0 };
    let magic = r.take(4, "the magic")?;
    if magic != b"GGUF" {
        return Err(FormatError::Magic { found: magic.to_vec() });
    }
    let version = r.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(FormatError::Version { found: version });
    }
    let tensor_count = r.count("the tensor count", TENSORS_MAX)?;
    let metadata_count = r.count("the metadata count", METADATA_MAX)?;
    let mut metadata = HashMap::new();
    for _ in 0..metadata_count {
        let key = r.name("a metadata key")?;
        let value = read_value(&mut r, &key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(FormatError::Duplicate { what: "metadata key", name: key });
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT_DEFAULT,
        Some(Value::U64(a)) if a.is_power_of_two() && (8..=65_536).contains(a) => *a,
        Some(Value::U64(found)) => return Err(FormatError::Alignment { found: *found }),
        Some(_) => {
            return Err(FormatError::WrongValue {
                key: "general.alignment".into(),
                expected: "an unsigned integer",
            });
        }
    };
    let mut headers = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..tensor_count {
        let header = read_tensor(&mut r)?;
        if !names.insert(header.0.name.clone()) {
            return Err(FormatError::Duplicate { what: "tensor", name: header.0.name });
        }
        headers.push(header);
    }
    let data = (r.at as u64).next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(headers.len());
    for (mut info, offset) in headers {
        if offset % alignment != 0 {
            let what = format!("its offset {offset} is not a multiple of the alignment {alignment}");
            return Err(FormatError::Shape { name: info.name, what });
        }
        let start = data.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(info.bytes as u64));
        match (start, end) {
            (Some(start), Some(end)) if end <= bytes.len() as u64 => info.offset = start as usize,
            _ => {
                let (start, end) = (start.unwrap_or(u64::MAX), end.unwrap_or(u64::MAX));
                return Err(FormatError::OutOfFile { name: info.name, start, end, len: bytes.len() });
            }
        }
        tensors.push(info);
    }
    check_overlap(&tensors)?;
    Ok((metadata, tensors))
}

fn read_value(r: &mut Reader<'_>, key: &str) -> Result<Value, FormatError> {
    let kind = r.u32("a value type")?;
    if kind != 9 {
        return read_scalar(r, key, kind);
    }
    let kind = r.u32("an array's element type")?;
    let count = r.count("an array's length", ARRAY_MAX)?;
    let what = "an array element";
    macro_rules! array {
        ($variant:ident, $read:expr) => {{
            let mut values = Vec::new();
            for _ in 0..count {
                values.push($read);
            }
            Ok(Value::$variant(values))
        }};
    }
    match kind {
        0 => array!(U64Array, u64::from(r.array::<1>(what)?[0])),
        1 => array!(I64Array, i64::from(r.array::<1>(what)?[0] as i8)),
        2 => array!(U64Array, u64::from(u16::from_le_bytes(r.array(what)?))),
        3 => array!(I64Array, i64::from(i16::from_le_bytes(r.array(what)?))),
        4 => array!(U64Array, u64::from(r.u32(what)?)),
        5 => array!(I64Array, i64::from(i32::from_le_bytes(r.array(what)?))),
        6 => array!(F64Array, f64::from(f32::from_le_bytes(r.array(what)?))),
        7 => array!(BoolArray, r.array::<1>(what)?[0] != 0),
        8 => array!(StringArray, r.string(what, STRING_BYTES_MAX)?),
        9 => Err(FormatError::NestedArray { key: key.to_owned() }),
        10 => array!(U64Array, r.u64(what)?),
        11 => array!(I64Array, i64::from_le_bytes(r.array(what)?)),
        12 => array!(F64Array, f64::from_le_bytes(r.array(what)?)),
        found => Err(FormatError::ValueType { key: key.to_owned(), found }),
    }
}

fn read_scalar(r: &mut Reader<'_>, key: &str, kind: u32) -> Result<Value, FormatError> {
    let what = "a metadata value";
    Ok(match kind {
        0 => Value::U64(u64::from(r.array::<1>(what)?[0])),
        1 => Value::I64(i64::from(r.array::<1>(what)?[0] as i8)),
        2 => Value::U64(u64::from(u16::from_le_bytes(r.array(what)?))),
        3 => Value::I64(i64::from(i16::from_le_bytes(r.array(what)?))),
        4 => Value::U64(u64::from(r.u32(what)?)),
        5 => Value::I64(i64::from(i32::from_le_bytes(r.array(what)?))),
        6 => Value::F64(f64::from(f32::from_le_bytes(r.array(what)?))),
        7 => Value::Bool(r.array::<1>(what)?[0] != 0),
        8 => Value::String(r.string(what, STRING_BYTES_MAX)?),
        10 => Value::U64(r.u64(what)?),
        11 => Value::I64(i64::from_le_bytes(r.array(what)?)),
        12 => Value::F64(f64::from_le_bytes(r.array(what)?)),
        found => return Err(FormatError::ValueType { key: key.to_owned(), found }),
    })
}

/// A tensor's header, with its offset from the data section.
fn read_tensor(r: &mut Reader<'_>) -> Result<(TensorInfo, u64), FormatError> {
    let name = r.name("a tensor name")?;
    let dimensions = r.u32("a tensor's dimension count")?;
    if dimensions == 0 || dimensions > DIMENSIONS_MAX {
        return Err(FormatError::Shape { name, what: format!("{dimensions} dimensions, 1 to {DIMENSIONS_MAX} are known") });
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(r.u64("a tensor's dimension")?);
    }
    let id = r.u32("a tensor's element type")?;
    let offset = r.u64("a tensor's offset")?;
    let Some(kind) = TensorType::from_id(id) else {
        return Err(FormatError::TensorType { name, found: id });
    };
    let columns = shape[0];
    if shape.contains(&0) || columns % kind.block_elements() as u64 != 0 {
        let what = format!("shape {shape:?} (fastest first) is not whole blocks of {}", kind.block_elements());
        return Err(FormatError::Shape { name, what });
    }
    let elements = shape.iter().try_fold(1u64, |product, &d| product.checked_mul(d));
    let bytes = elements
        .map(|n| n / kind.block_elements() as u64)
        .and_then(|blocks| blocks.checked_mul(kind.block_bytes() as u64))
        .and_then(|bytes| usize::try_from(bytes).ok());
    let dims: Option<Vec<usize>> = shape.iter().rev().map(|&d| usize::try_from(d).ok()).collect();
    match (bytes, dims) {
        (Some(bytes), Some(shape)) => Ok((TensorInfo { name, kind, shape, offset: 0, bytes }, offset)),
        _ => Err(FormatError::Shape { what: format!("shape {shape:?} is too large"), name }),
    }
}

fn check_overlap(tensors: &[TensorInfo]) -> Result<(), FormatError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    for pair in order.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            let (first, second) = (pair[0].name.clone(), pair[1].name.clone());
            return Err(FormatError::Overlap { first, second });
        }
    }
    Ok(())
}
