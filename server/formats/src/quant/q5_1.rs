//! Q5_1: 32 unsigned 5-bit numbers under one scale and one minimum, 6 bits per weight.
//!
//! ```text
//! byte  0   1    2   3    4 ……… 7       8 ………………………………………… 23
//!      [d: f16] [m: f16] [qh: 4 bytes] [qs: 16 bytes        ]
//! low nibble of qs[j] = low bits of element j,  high nibble = of element j + 16      (j in 0..16)
//! bit i of qh (little-endian u32) = bit 4 of element i                               (i in 0..32)
//! x = d · q + m
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, half, inverse, to_half};

/// 32 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// Scale, half precision.
    pub d: [u8; 2],
    /// Minimum, half precision.
    pub m: [u8; 2],
    /// Fifth bits.
    pub qh: [u8; 4],
    /// Nibbles.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24 && align_of::<BlockQ5_1>() == 1);

impl BlockQ5_1 {
    /// `q` of each element, 0 to 31.
    pub fn integers(&self) -> [u8; 32] {
        let qh = u32::from_le_bytes(self.qh);
        std::array::from_fn(|i| {
            let low = self.qs[i % 16] >> (4 * (i / 16)) & 15;
            let high = (qh >> i & 1) as u8;
            low | high << 4
        })
    }
}

impl Block for BlockQ5_1 {
    const KIND: TensorType = TensorType::Q5_1;
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
        let d = (max - min) / 31.0;
        let id = inverse(d);
        let q = |x: f32| (((x - min) * id + 0.5) as u8).min(31);
        let (mut qh, mut qs) = (0_u32, [0; 16]);
        for (i, &x) in values.iter().enumerate() {
            let q = q(x);
            qh |= u32::from(q >> 4) << i;
            qs[i % 16] |= (q & 15) << (4 * (i / 16));
        }
        BlockQ5_1 { d: to_half(d), m: to_half(min), qh: qh.to_le_bytes(), qs }
    }
}
