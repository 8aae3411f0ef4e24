//! Tensor element types and their block formats, decoded exactly as the `gguf` Python package does.
//!
//! One file per format. A block is a `repr(C)` struct of byte arrays, so it has alignment 1 and a tensor's bytes
//! can be viewed as blocks wherever they lie ([`blocks`]). [`decode`] and [`encode`] are scalar and meant
//! as references; fast paths live in the back ends. The encoders are the simple forms: correct to half a step,
//! without the search for better scales that published files went through.

mod awq4;
mod bf16;
mod f16;
mod f32;
mod iq4_nl;
mod iq4_xs;
mod k_scales;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;

use bytemuck::Pod;

pub use awq4::BlockAWQ4;
pub use bf16::BlockBF16;
pub use f16::BlockF16;
pub use f32::BlockF32;
pub use iq4_nl::{BlockIQ4NL, IQ4_VALUES};
pub use iq4_xs::BlockIQ4XS;
pub use k_scales::unpack_scales;
pub use q2_k::BlockQ2K;
pub use q3_k::BlockQ3K;
pub use q4_0::BlockQ4_0;
pub use q4_1::BlockQ4_1;
pub use q4_k::BlockQ4K;
pub use q5_0::BlockQ5_0;
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5K;
pub use q6_k::BlockQ6K;
pub use q8_0::BlockQ8_0;

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
    Q5_1 = 7,
    Q8_0 = 8,
    Q2K = 10,
    Q3K = 11,
    Q4K = 12,
    Q5K = 13,
    Q6K = 14,
    IQ4NL = 20,
    IQ4XS = 23,
    BF16 = 30,
    /// Not of GGUF files, so its id is none of theirs; see [`BlockAWQ4`].
    AWQ4 = u32::MAX,
}

/// Calls `$call::<Block>($args)` for the block struct of a [`TensorType`].
macro_rules! for_block {
    ($kind:expr, $call:ident($($args:expr),*)) => {
        match $kind {
            TensorType::F32 => $call::<BlockF32>($($args),*),
            TensorType::F16 => $call::<BlockF16>($($args),*),
            TensorType::BF16 => $call::<BlockBF16>($($args),*),
            TensorType::Q4_0 => $call::<BlockQ4_0>($($args),*),
            TensorType::Q4_1 => $call::<BlockQ4_1>($($args),*),
            TensorType::Q5_0 => $call::<BlockQ5_0>($($args),*),
            TensorType::Q5_1 => $call::<BlockQ5_1>($($args),*),
            TensorType::Q8_0 => $call::<BlockQ8_0>($($args),*),
            TensorType::Q2K => $call::<BlockQ2K>($($args),*),
            TensorType::Q3K => $call::<BlockQ3K>($($args),*),
            TensorType::Q4K => $call::<BlockQ4K>($($args),*),
            TensorType::Q5K => $call::<BlockQ5K>($($args),*),
            TensorType::Q6K => $call::<BlockQ6K>($($args),*),
            TensorType::IQ4NL => $call::<BlockIQ4NL>($($args),*),
            TensorType::IQ4XS => $call::<BlockIQ4XS>($($args),*),
            TensorType::AWQ4 => $call::<BlockAWQ4>($($args),*),
        }
    };
}

impl TensorType {
    /// Every supported type of GGUF files.
    pub const ALL: [TensorType; 15] = [
        TensorType::F32,
        TensorType::F16,
        TensorType::BF16,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q8_0,
        TensorType::Q2K,
        TensorType::Q3K,
        TensorType::Q4K,
        TensorType::Q5K,
        TensorType::Q6K,
        TensorType::IQ4NL,
        TensorType::IQ4XS,
    ];

    /// The type with this id in GGUF files, where it is supported.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// Its id in GGUF files.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Elements of one block; rows are whole blocks.
    pub fn block_elements(self) -> usize {
        fn of<B: Block>() -> usize {
            B::ELEMENTS
        }
        for_block!(self, of())
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        for_block!(self, size_of())
    }

    /// Bytes of a row of `elements`, which are whole blocks.
    pub fn row_bytes(self, elements: usize) -> usize {
        elements / self.block_elements() * self.block_bytes()
    }

    /// Its name as the format's description writes it (`Q4_K`).
    pub const fn name(self) -> &'static str {
        match self {
            TensorType::F32 => "F32",
            TensorType::F16 => "F16",
            TensorType::BF16 => "BF16",
            TensorType::Q4_0 => "Q4_0",
            TensorType::Q4_1 => "Q4_1",
            TensorType::Q5_0 => "Q5_0",
            TensorType::Q5_1 => "Q5_1",
            TensorType::Q8_0 => "Q8_0",
            TensorType::Q2K => "Q2_K",
            TensorType::Q3K => "Q3_K",
            TensorType::Q4K => "Q4_K",
            TensorType::Q5K => "Q5_K",
            TensorType::Q6K => "Q6_K",
            TensorType::IQ4NL => "IQ4_NL",
            TensorType::IQ4XS => "IQ4_XS",
            TensorType::AWQ4 => "AWQ4",
        }
    }

    /// The name of a format that exists but is not supported here, for messages.
    pub(crate) fn name_of_unsupported(id: u32) -> &'static str {
        match id {
            9 => "Q8_1",
            15 => "Q8_K",
            16..=19 | 21 | 22 | 29 => "of the IQ family",
            24..=27 => "of integers",
            28 => "F64",
            34 | 35 => "of the TQ family",
            39 => "MXFP4",
            _ => "unknown",
        }
    }
}

/// A block of a format: as many bytes as in the file, alignment 1.
pub trait Block: Pod {
    /// The element type it belongs to.
    const KIND: TensorType;
    /// Elements it holds.
    const ELEMENTS: usize;

    /// Decodes into `out`, which has [`Block::ELEMENTS`] elements.
    fn decode(&self, out: &mut [f32]);

    /// Encodes `values`, of which there are [`Block::ELEMENTS`].
    fn encode(values: &[f32]) -> Self;
}

/// A row's bytes as blocks.
///
/// # Panics
/// If `bytes` is not a whole number of blocks; rows of a checked file are.
pub fn blocks<B: Block>(bytes: &[u8]) -> &[B] {
    bytemuck::cast_slice(bytes)
}

/// Decodes whole blocks: `out[i]` is element `i`, bit for bit what `gguf.quants.dequantize` gives.
///
/// # Panics
/// If `bytes` are not exactly the blocks of `out.len()` elements; rows of a checked file are.
pub fn decode(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    check_whole(kind, out.len());
    assert_eq!(bytes.len(), kind.row_bytes(out.len()), "bytes of {} {} elements", out.len(), kind.name());
    fn all<B: Block>(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in blocks::<B>(bytes).iter().zip(out.chunks_exact_mut(B::ELEMENTS)) {
            block.decode(out);
        }
    }
    for_block!(kind, all(bytes, out));
}

/// Encodes whole blocks, for tests and generated models.
///
/// # Panics
/// If `values` are not whole blocks.
pub fn encode(kind: TensorType, values: &[f32]) -> Vec<u8> {
    check_whole(kind, values.len());
    fn all<B: Block>(values: &[f32]) -> Vec<u8> {
        let blocks: Vec<B> = values.chunks_exact(B::ELEMENTS).map(B::encode).collect();
        bytemuck::cast_slice(&blocks).to_vec()
    }
    for_block!(kind, all(values))
}

fn check_whole(kind: TensorType, elements: usize) {
    assert!(
        elements.is_multiple_of(kind.block_elements()),
        "{elements} are not whole {} blocks",
        kind.name()
    );
}

/// A little-endian half-precision number as `f32`.
pub(crate) fn half(bytes: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(bytes).to_f32()
}

/// An `f32` as a little-endian half-precision number, rounded to nearest even.
pub(crate) fn to_half(value: f32) -> [u8; 2] {
    half::f16::from_f32(value).to_le_bytes()
}

/// The element of largest magnitude (the first of equals), with its sign.
pub(crate) fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0_f32, |best, &v| if v.abs() > best.abs() { v } else { best })
}

/// `1 / x`, and 0 for 0: a block of zeros.
pub(crate) fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}
