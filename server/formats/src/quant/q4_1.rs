//! Q4_1: 32 unsigned 4-bit numbers under one scale and one minimum, 5 bits per weight.
//!
//! ```text
//! byte  0   1    2   3    4 ………………………………………… 19
//!      [d: f16] [m: f16] [qs: 16 bytes        ]
//! low nibble of qs[j]  = element j,  high nibble = element j + 16      (j in 0..16)
//! x = d · q + m
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, half, inverse, to_half};

/// 32 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale, half precision.
    pub d: [u8; 2],
    /// Minimum, half precision.
    pub m: [u8; 2],
    /// Nibbles.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20 && align_of::<BlockQ4_1>() == 1);

impl BlockQ4_1 {
    /// `q` of each element, 0 to 15.
    pub fn integers(&self) -> [u8; 32] {
        std::array::from_fn(|i| self.qs[i % 16] >> (4 * (i / 16)) & 15)
    }
}

impl Block for BlockQ4_1 {
    const KIND: TensorType = TensorType::Q4_1;
    const ELEMENTS: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let (d, m) = (half(self.d), half(self.m));
        for (out, q) in out.iter_mut().zip(self.integers()) {
            *out = d * f32::from(q) + m;
        }
    }

    fn encode(values: &[f32]) -> Self {
        let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let min = values.iter().copied().fold(f32::INFINITY, f32::min);
        let d = (max - min) / 15.0;
        let id = inverse(d);
        let q = |x: f32| (((x - min) * id + 0.5) as u8).min(15);
        let mut qs = [0; 16];
        for (j, byte) in qs.iter_mut().enumerate() {
            *byte = q(values[j]) | q(values[j + 16]) << 4;
        }
        BlockQ4_1 { d: to_half(d), m: to_half(min), qs }
    }
}
