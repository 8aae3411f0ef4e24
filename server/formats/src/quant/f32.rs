//! F32: IEEE 754 single precision, 32 bits per weight.
//!
//! ```text
//! byte  0    1    2    3
//!      [value, little-endian]     x = value
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType};

/// One element; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockF32 {
    /// The value, little-endian.
    pub value: [u8; 4],
}

const _: () = assert!(size_of::<BlockF32>() == 4 && align_of::<BlockF32>() == 1);

impl Block for BlockF32 {
    const KIND: TensorType = TensorType::F32;
    const ELEMENTS: usize = 1;

    fn decode(&self, out: &mut [f32]) {
        out[0] = f32::from_le_bytes(self.value);
    }

    fn encode(values: &[f32]) -> Self {
        BlockF32 { value: values[0].to_le_bytes() }
    }
}
