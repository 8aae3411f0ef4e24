//! Tensor element types and their block formats, decoded exactly as the `gguf` Python package does.
//!
//! One file per block format: the block byte by byte, the formula, the scalar decode. SIMD lives in the back ends.

pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;

use half::{bf16, f16};

/// Element type of a tensor, with its id in GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum TensorType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q8_0 = 8,
    Q4K = 12,
    Q5K = 13,
    Q6K = 14,
    BF16 = 30,
}

impl TensorType {
    /// Every supported type.
    pub const ALL: [Self; 10] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The type with this id in GGUF files.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == id)
    }

    /// As written by people.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Elements of one block.
    pub fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => q4_0::BYTES,
            Self::Q4_1 => q4_1::BYTES,
            Self::Q5_0 => q5_0::BYTES,
            Self::Q8_0 => q8_0::BYTES,
            Self::Q4K => q4_k::BYTES,
            Self::Q5K => q5_k::BYTES,
            Self::Q6K => q6_k::BYTES,
        }
    }

    /// Bytes of a row of `elements`, which are whole blocks.
    pub fn row_bytes(self, elements: usize) -> usize {
        elements / self.block_elements() * self.block_bytes()
    }
}

/// Decodes whole blocks: `out.len()` elements from `bytes`.
///
/// # Panics
/// When `bytes` is not exactly the encoding of `out.len()` elements, which is the caller's invariant
/// ([`crate::gguf::TensorInfo`] is checked at open).
pub fn decode(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(out.len() % kind.block_elements(), 0, "whole blocks");
    assert_eq!(bytes.len(), kind.row_bytes(out.len()), "bytes of {} elements", out.len());
    match kind {
        TensorType::F32 => each(bytes, out, |b: [u8; 4], o: &mut [f32; 1]| o[0] = f32::from_le_bytes(b)),
        TensorType::F16 => each(bytes, out, |b, o: &mut [f32; 1]| o[0] = f16::from_le_bytes(b).to_f32()),
        TensorType::BF16 => each(bytes, out, |b, o: &mut [f32; 1]| o[0] = bf16::from_le_bytes(b).to_f32()),
        TensorType::Q4_0 => each(bytes, out, |b, o| q4_0::decode(&b, o)),
        TensorType::Q4_1 => each(bytes, out, |b, o| q4_1::decode(&b, o)),
        TensorType::Q5_0 => each(bytes, out, |b, o| q5_0::decode(&b, o)),
        TensorType::Q8_0 => each(bytes, out, |b, o| q8_0::decode(&b, o)),
        TensorType::Q4K => each(bytes, out, |b, o| q4_k::decode(&b, o)),
        TensorType::Q5K => each(bytes, out, |b, o| q5_k::decode(&b, o)),
        TensorType::Q6K => each(bytes, out, |b, o| q6_k::decode(&b, o)),
    }
}

fn each<const B: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    mut decode: impl FnMut([u8; B], &mut [f32; N]),
) {
    for (block, out) in bytes.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        decode(*block, out);
    }
}

/// The half at `at`.
pub(crate) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The eight 6-bit (scale, min) pairs of Q4_K and Q5_K, from their 12 packed bytes:
/// 0–3 in the low 6 bits of bytes 0–3 and 4–7; 4–7 in bytes 8–11 (low and high nibble) with the top two bits of
/// bytes 0–3 and 4–7 above them.
pub fn unpack_scales(packed: &[u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|i| {
        if i < 4 {
            (packed[i] & 63, packed[i + 4] & 63)
        } else {
            let low = packed[i + 4];
            (low & 15 | (packed[i - 4] >> 6) << 4, low >> 4 | (packed[i] >> 6) << 4)
        }
    })
}
