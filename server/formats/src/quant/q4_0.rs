//! Q4_0: 32 signed 4-bit numbers under one scale, 4.5 bits per weight.
//!
//! ```text
//! byte  0   1    2 ………………………………………… 17
//!      [d: f16] [qs: 16 bytes        ]
//! low nibble of qs[j]  = element j,  high nibble = element j + 16      (j in 0..16)
//! x = d · (q − 8)
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, extreme, half, inverse, to_half};

/// 32 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale, half precision.
    pub d: [u8; 2],
    /// Nibbles.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18 && align_of::<BlockQ4_0>() == 1);

impl BlockQ4_0 {
    /// `q − 8` of each element, −8 to 7.
    pub fn integers(&self) -> [i8; 32] {
        std::array::from_fn(|i| (self.qs[i % 16] >> (4 * (i / 16)) & 15) as i8 - 8)
    }
}

impl Block for BlockQ4_0 {
    const KIND: TensorType = TensorType::Q4_0;
    const ELEMENTS: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = half(self.d);
        for (out, q) in out.iter_mut().zip(self.integers()) {
            *out = d * f32::from(q);
        }
    }

    /// The element of largest magnitude becomes −8.
    fn encode(values: &[f32]) -> Self {
        let d = extreme(values) / -8.0;
        let id = inverse(d);
        let q = |x: f32| ((x * id + 8.5) as u8).min(15);
        let mut qs = [0; 16];
        for (j, byte) in qs.iter_mut().enumerate() {
            *byte = q(values[j]) | q(values[j + 16]) << 4;
        }
        BlockQ4_0 { d: to_half(d), qs }
    }
}
