//! F16: IEEE 754 half precision (1 sign, 5 exponent, 10 mantissa bits), 16 bits per weight.
//!
//! ```text
//! byte  0    1
//!      [value, little-endian]     x = value
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType};

/// One element; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockF16 {
    /// The value, little-endian.
    pub value: [u8; 2],
}

const _: () = assert!(size_of::<BlockF16>() == 2 && align_of::<BlockF16>() == 1);

impl Block for BlockF16 {
    const KIND: TensorType = TensorType::F16;
    const ELEMENTS: usize = 1;

    fn decode(&self, out: &mut [f32]) {
        out[0] = super::half(self.value);
    }

    fn encode(values: &[f32]) -> Self {
        BlockF16 { value: super::to_half(values[0]) }
    }
}
