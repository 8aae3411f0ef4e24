//! Where tensors lie: sizes by checked arithmetic, offsets inside the file, aligned, not overlapping.

use super::limits::{ALIGNMENT_DEFAULT, ALIGNMENT_MAX};
use super::{TensorInfo, Value};
use crate::FormatError;
use crate::quant::TensorType;

/// A tensor description as read: `offset` counts from the start of the tensor data.
pub(super) struct RawTensor {
    pub name: String,
    pub kind: TensorType,
    /// Slowest first.
    pub shape: Vec<u64>,
    pub offset: u64,
}

/// The file's alignment: a power of two from 8 to [`ALIGNMENT_MAX`].
pub(super) fn alignment(value: Option<&Value>) -> Result<usize, FormatError> {
    match value {
        None => Ok(ALIGNMENT_DEFAULT),
        Some(&Value::U64(n)) if n.is_power_of_two() && (8..=ALIGNMENT_MAX as u64).contains(&n) => {
            Ok(n as usize)
        }
        Some(other) => Err(FormatError::ValueType {
            key: "general.alignment".into(),
            expected: "a power of two from 8 to ALIGNMENT_MAX",
            found: other.describe(),
        }),
    }
}

/// Checks every tensor against the file: `header_end` bytes are read, `file_bytes` are there.
pub(super) fn place(
    raw: Vec<RawTensor>,
    header_end: usize,
    alignment: usize,
    file_bytes: usize,
) -> Result<Vec<TensorInfo>, FormatError> {
    // A file without tensors may end without padding.
    let data_start = header_end.next_multiple_of(alignment);
    let mut tensors = Vec::new();
    for tensor in raw {
        let (shape, bytes) = match size(&tensor) {
            Ok(size) => size,
            Err(problem) => return Err(FormatError::Tensor { tensor: tensor.name, problem }),
        };
        if tensor.offset % alignment as u64 != 0 {
            let problem = format!("offset {} is not a multiple of {alignment}", tensor.offset);
            return Err(FormatError::Tensor { tensor: tensor.name, problem });
        }
        let offset = usize::try_from(tensor.offset).ok().and_then(|o| o.checked_add(data_start));
        let inside = offset.filter(|o| o.checked_add(bytes).is_some_and(|end| end <= file_bytes));
        let Some(offset) = inside else {
            let problem = format!(
                "{bytes} bytes at offset {} after byte {data_start} lie past the end of the file ({file_bytes} bytes)",
                tensor.offset
            );
            return Err(FormatError::Tensor { tensor: tensor.name, problem });
        };
        tensors.push(TensorInfo { name: tensor.name, kind: tensor.kind, shape, offset, bytes });
    }
    overlap(&tensors)?;
    Ok(tensors)
}

/// Shape and bytes of a tensor, or what is wrong with them.
fn size(tensor: &RawTensor) -> Result<(Vec<usize>, usize), String> {
    let shape: Option<Vec<usize>> = tensor.shape.iter().map(|&n| usize::try_from(n).ok()).collect();
    let elements = shape.as_ref().and_then(|s| s.iter().try_fold(1_usize, |all, &n| all.checked_mul(n)));
    let (Some(shape), Some(elements)) = (shape, elements) else {
        return Err(format!("shape {:?} has more elements than can be counted", tensor.shape));
    };
    if elements == 0 {
        return Err(format!("shape {shape:?} has no elements"));
    }
    let columns = *shape.last().expect("the parser refuses tensors without dimensions");
    let block = tensor.kind.block_elements();
    if !columns.is_multiple_of(block) {
        let name = tensor.kind.name();
        return Err(format!("rows of {columns} elements are not whole {name} blocks of {block}"));
    }
    let bytes = (elements / block).checked_mul(tensor.kind.block_bytes());
    bytes
        .map(|b| (shape, b))
        .ok_or_else(|| format!("{elements} elements have more bytes than can be counted"))
}

/// No two tensors share a byte.
fn overlap(tensors: &[TensorInfo]) -> Result<(), FormatError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    for pair in order.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if before.offset + before.bytes > after.offset {
            return Err(FormatError::Tensor {
                tensor: after.name.clone(),
                problem: format!(
                    "its data at byte {} overlaps {} ({} bytes at byte {})",
                    after.offset, before.name, before.bytes, before.offset
                ),
            });
        }
    }
    Ok(())
}
