//! Header, metadata and tensor descriptions.
//!
//! ```text
//! "GGUF" · version u32 · tensors u64 · entries u64
//! entries × ( key string · type u32 · value )
//! tensors × ( name string · dimensions u32 · dimensions × u64, fastest first · type u32 · offset u64 )
//! zero bytes to a multiple of general.alignment
//! tensor data: each tensor at its offset from here
//! ```
//! Strings are a `u64` length and UTF-8 bytes; arrays a `u32` element type, a `u64` count and the elements.
//! Source: ggml's docs/gguf.md. Versions 2 and 3 differ only in that 3 allows big-endian files, which we refuse.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;

use super::cursor::Cursor;
use super::layout::{self, RawTensor};
use super::limits;
use super::{TensorInfo, Value};
use crate::FormatError;
use crate::quant::TensorType;

/// `GGUF`.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Type ids of metadata values.
pub(super) mod value_type {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// A file's description, every part of it checked.
pub(super) struct Parsed {
    pub metadata: HashMap<String, Value>,
    pub tensors: Vec<TensorInfo>,
    pub by_name: HashMap<String, usize>,
}

/// Bytes of the smallest metadata entry: one-byte key, type, one-byte value.
const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// Bytes of the smallest tensor description: one-byte name, one dimension.
const TENSOR_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, FormatError> {
    let mut cursor = Cursor::new(bytes);
    let found = cursor.array::<4>(&"magic")?;
    if found != MAGIC {
        return Err(FormatError::Magic { found });
    }
    let version = cursor.u32(&"version")?;
    if !matches!(version, 2 | 3) {
        let big_endian = matches!(version.swap_bytes(), 2 | 3);
        return Err(FormatError::Version { version, big_endian });
    }
    let tensor_limit = ("TENSORS_MAX", limits::TENSORS_MAX);
    let tensor_count = cursor.count(&"tensor count", TENSOR_BYTES_MIN, tensor_limit)?;
    let entry_limit = ("METADATA_ENTRIES_MAX", limits::METADATA_ENTRIES_MAX);
    let entry_count = cursor.count(&"metadata count", ENTRY_BYTES_MIN, entry_limit)?;

    let mut metadata = HashMap::new();
    for _ in 0..entry_count {
        let key = cursor.name(&"metadata key", ("KEY_BYTES_MAX", limits::KEY_BYTES_MAX))?;
        let kind = cursor.u32(&key)?;
        let value = value(&mut cursor, key, kind)?;
        match metadata.entry(key.to_owned()) {
            Entry::Occupied(_) => {
                return Err(FormatError::Duplicate { what: "metadata key", name: key.to_owned() });
            }
            Entry::Vacant(free) => free.insert(value),
        };
    }
    let mut raw = Vec::new();
    for _ in 0..tensor_count {
        raw.push(tensor(&mut cursor)?);
    }
    let alignment = layout::alignment(metadata.get("general.alignment"))?;
    let tensors = layout::place(raw, cursor.at(), alignment, bytes.len())?;
    let mut by_name = HashMap::new();
    for (index, info) in tensors.iter().enumerate() {
        if by_name.insert(info.name.clone(), index).is_some() {
            return Err(FormatError::Duplicate { what: "tensor", name: info.name.clone() });
        }
    }
    Ok(Parsed { metadata, tensors, by_name })
}

/// One metadata value; integers and floats are widened.
fn value(cursor: &mut Cursor<'_>, key: &str, kind: u32) -> Result<Value, FormatError> {
    use value_type as t;
    Ok(match kind {
        t::U8 | t::U16 | t::U32 | t::U64 => Value::U64(unsigned(cursor, &key, kind)?),
        t::I8 | t::I16 | t::I32 | t::I64 => Value::I64(signed(cursor, &key, kind)?),
        t::F32 | t::F64 => Value::F64(float(cursor, &key, kind)?),
        t::BOOL => Value::Bool(boolean(cursor, key)?),
        t::STRING => Value::String(text(cursor, &key)?),
        t::ARRAY => {
            let kind = cursor.u32(&key)?;
            array(cursor, key, kind)?
        }
        _ => return Err(bad(cursor, key, "unknown value type", kind)),
    })
}

fn array(cursor: &mut Cursor<'_>, key: &str, kind: u32) -> Result<Value, FormatError> {
    use value_type as t;
    let what = format_args!("array {key}").to_string();
    let bytes_min = match kind {
        t::U8 | t::I8 | t::BOOL => 1,
        t::U16 | t::I16 => 2,
        t::U32 | t::I32 | t::F32 => 4,
        t::U64 | t::I64 | t::F64 | t::STRING => 8,
        t::ARRAY => return Err(bad(cursor, key, "arrays of arrays are not supported", kind)),
        _ => return Err(bad(cursor, key, "unknown array element type", kind)),
    };
    let count = cursor.elements(&what, bytes_min)?;
    Ok(match kind {
        t::U8 | t::U16 | t::U32 | t::U64 => Value::U64Array(repeat(count, || unsigned(cursor, &what, kind))?),
        t::I8 | t::I16 | t::I32 | t::I64 => Value::I64Array(repeat(count, || signed(cursor, &what, kind))?),
        t::F32 | t::F64 => Value::F64Array(repeat(count, || float(cursor, &what, kind))?),
        t::BOOL => Value::BoolArray(repeat(count, || boolean(cursor, key))?),
        _ => Value::StringArray(repeat(count, || text(cursor, &what))?),
    })
}

/// Reads `count` elements; memory grows as they are really there.
fn repeat<T>(count: usize, mut read: impl FnMut() -> Result<T, FormatError>) -> Result<Vec<T>, FormatError> {
    (0..count).map(|_| read()).collect()
}

fn unsigned(cursor: &mut Cursor<'_>, what: &dyn Display, kind: u32) -> Result<u64, FormatError> {
    use value_type as t;
    Ok(match kind {
        t::U8 => u64::from(cursor.array::<1>(what)?[0]),
        t::U16 => u64::from(u16::from_le_bytes(cursor.array(what)?)),
        t::U32 => u64::from(cursor.u32(what)?),
        _ => cursor.u64(what)?,
    })
}

fn signed(cursor: &mut Cursor<'_>, what: &dyn Display, kind: u32) -> Result<i64, FormatError> {
    use value_type as t;
    Ok(match kind {
        t::I8 => i64::from(i8::from_le_bytes(cursor.array(what)?)),
        t::I16 => i64::from(i16::from_le_bytes(cursor.array(what)?)),
        t::I32 => i64::from(i32::from_le_bytes(cursor.array(what)?)),
        _ => i64::from_le_bytes(cursor.array(what)?),
    })
}

fn float(cursor: &mut Cursor<'_>, what: &dyn Display, kind: u32) -> Result<f64, FormatError> {
    Ok(match kind {
        value_type::F32 => f64::from(f32::from_le_bytes(cursor.array(what)?)),
        _ => f64::from_le_bytes(cursor.array(what)?),
    })
}

fn boolean(cursor: &mut Cursor<'_>, key: &str) -> Result<bool, FormatError> {
    match cursor.array::<1>(&key)?[0] {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(bad(cursor, key, "a bool is neither 0 nor 1", u32::from(other))),
    }
}

fn text(cursor: &mut Cursor<'_>, what: &dyn Display) -> Result<String, FormatError> {
    cursor.string(what, ("STRING_BYTES_MAX", limits::STRING_BYTES_MAX)).map(str::to_owned)
}

fn bad(cursor: &Cursor<'_>, key: &str, problem: &'static str, found: u32) -> FormatError {
    FormatError::Metadata { key: key.to_owned(), at: cursor.at(), problem, found: u64::from(found) }
}

fn tensor(cursor: &mut Cursor<'_>) -> Result<RawTensor, FormatError> {
    let limit = ("TENSOR_NAME_BYTES_MAX", limits::TENSOR_NAME_BYTES_MAX);
    let name = cursor.name(&"tensor name", limit)?.to_owned();
    let dimensions = cursor.u32(&name)?;
    if dimensions == 0 || dimensions as usize > limits::DIMENSIONS_MAX {
        let problem = format!("{dimensions} dimensions, 1 to {} are possible", limits::DIMENSIONS_MAX);
        return Err(FormatError::Tensor { tensor: name, problem });
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.u64(&name)?);
    }
    shape.reverse();
    let id = cursor.u32(&name)?;
    let Some(kind) = TensorType::from_id(id) else {
        let supported = TensorType::ALL.map(TensorType::name).join(", ");
        let type_name = TensorType::name_of_unsupported(id);
        return Err(FormatError::TensorType { tensor: name, id, type_name, supported });
    };
    let offset = cursor.u64(&name)?;
    Ok(RawTensor { name, kind, shape, offset })
}
