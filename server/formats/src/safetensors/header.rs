//! The header: JSON within bounds, then every tensor's place by checked arithmetic.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::limits::{DIMENSIONS_MAX, HEADER_BYTES_MAX, TENSOR_NAME_BYTES_MAX, TENSORS_MAX};
use super::{StoredTensor, StoredType};
use crate::FormatError;

/// The key that describes the file and no tensor.
const METADATA: &str = "__metadata__";
/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// A tensor as the header describes it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Name and description of every tensor, in the header's order. Names may still occur twice.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<IgnoredAny>()?;
                    } else if entries.len() == TENSORS_MAX {
                        return Err(A::Error::custom(format!(
                            "more than TENSORS_MAX = {TENSORS_MAX} tensors"
                        )));
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Every tensor of a file, checked, in the order of their data.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<StoredTensor>, FormatError> {
    let truncated = |what: &str, at, needed| FormatError::Truncated {
        what: what.to_owned(),
        at,
        needed,
        left: bytes.len() - at,
    };
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(truncated("header length", 0, LENGTH_BYTES as u64));
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX as u64 {
        return Err(FormatError::Limit {
            what: "header length".into(),
            at: 0,
            found: length,
            limit_name: "HEADER_BYTES_MAX",
            limit: HEADER_BYTES_MAX as u64,
        });
    }
    if length > rest.len() as u64 {
        return Err(truncated("header", LENGTH_BYTES, length));
    }
    // At most the rest of the file, so it fits.
    let (header, data) = rest.split_at(length as usize);
    let header: Header = serde_json::from_slice(header)
        .map_err(|error| FormatError::Json { what: "header".into(), problem: error.to_string() })?;
    place(header, LENGTH_BYTES + length as usize, data.len())
}

fn place(header: Header, data_start: usize, data_bytes: usize) -> Result<Vec<StoredTensor>, FormatError> {
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for (name, entry) in header.0 {
        check_name(&name)?;
        if !names.insert(name.clone()) {
            return Err(FormatError::Duplicate { what: "tensor", name });
        }
        match checked(&entry, data_bytes) {
            Ok((kind, shape, begin, bytes)) => {
                tensors.push(StoredTensor { name, kind, shape, offset: data_start + begin, bytes });
            }
            Err(problem) => return Err(FormatError::Tensor { tensor: name, problem }),
        }
    }
    tensors.sort_by_key(|tensor| tensor.offset);
    // "The byte buffer needs to be entirely indexed, and cannot contain holes": so nothing hides between tensors.
    let mut end = data_start;
    for tensor in &tensors {
        if tensor.offset != end {
            let how =
                if tensor.offset < end { "overlaps the tensor before it" } else { "leaves a gap before it" };
            let problem = format!("its data at byte {} {how}, which ends at byte {end}", tensor.offset);
            return Err(FormatError::Tensor { tensor: tensor.name.clone(), problem });
        }
        end += tensor.bytes;
    }
    if end != data_start + data_bytes {
        let left = data_start + data_bytes - end;
        let problem = format!("{left} bytes after the last tensor belong to none");
        return Err(FormatError::Json { what: "header".into(), problem });
    }
    Ok(tensors)
}

fn check_name(name: &str) -> Result<(), FormatError> {
    let bad = |expected| FormatError::Text { what: "tensor name".into(), at: LENGTH_BYTES, expected };
    if name.len() > TENSOR_NAME_BYTES_MAX {
        return Err(bad("at most TENSOR_NAME_BYTES_MAX = 256 bytes long"));
    }
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(bad("a name without control characters"));
    }
    Ok(())
}

/// Type, shape, first byte within the data, bytes; or what is wrong.
fn checked(entry: &Entry, data_bytes: usize) -> Result<(StoredType, Vec<usize>, usize, usize), String> {
    let Some(kind) = StoredType::ALL.into_iter().find(|kind| kind.name() == entry.dtype) else {
        let supported = StoredType::ALL.map(StoredType::name).join(", ");
        // A hostile name is not repeated at length.
        let found: String = entry.dtype.chars().take(16).collect();
        return Err(format!("element type {found:?} is not supported; supported: {supported}"));
    };
    if entry.shape.len() > DIMENSIONS_MAX {
        let found = entry.shape.len();
        return Err(format!("{found} dimensions are over the limit DIMENSIONS_MAX = {DIMENSIONS_MAX}"));
    }
    let shape: Option<Vec<usize>> = entry.shape.iter().map(|&n| usize::try_from(n).ok()).collect();
    let bytes = shape.as_ref().and_then(|s| s.iter().try_fold(kind.bytes(), |all, &n| all.checked_mul(n)));
    let (Some(shape), Some(bytes)) = (shape, bytes) else {
        return Err(format!("shape {:?} has more bytes than can be counted", entry.shape));
    };
    if bytes == 0 {
        return Err(format!("shape {shape:?} has no elements"));
    }
    let [begin, end] = entry.data_offsets;
    if begin > end || end > data_bytes as u64 {
        return Err(format!(
            "its data from {begin} to {end} is not within the file's {data_bytes} bytes of data"
        ));
    }
    if end - begin != bytes as u64 {
        let found = end - begin;
        return Err(format!("{found} bytes of data, but shape {shape:?} of {} has {bytes}", kind.name()));
    }
    Ok((kind, shape, begin as usize, bytes))
}
