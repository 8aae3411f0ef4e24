//! BF16: the upper half of a single (1 sign, 8 exponent, 7 mantissa bits), 16 bits per weight.
//!
//! ```text
//! byte  0    1
//!      [value, little-endian]     x = f32 with bits value << 16
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType};

/// One element; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockBF16 {
    /// The value, little-endian.
    pub value: [u8; 2],
}

const _: () = assert!(size_of::<BlockBF16>() == 2 && align_of::<BlockBF16>() == 1);

impl Block for BlockBF16 {
    const KIND: TensorType = TensorType::BF16;
    const ELEMENTS: usize = 1;

    fn decode(&self, out: &mut [f32]) {
        out[0] = f32::from_bits(u32::from(u16::from_le_bytes(self.value)) << 16);
    }

    fn encode(values: &[f32]) -> Self {
        BlockBF16 { value: half::bf16::from_f32(values[0]).to_le_bytes() }
    }
}
