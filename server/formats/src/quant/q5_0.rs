//! Q5_0: 32 signed 5-bit numbers under one scale, 5.5 bits per weight.
//!
//! ```text
//! byte  0   1    2 ……… 5       6 ………………………………………… 21
//!      [d: f16] [qh: 4 bytes] [qs: 16 bytes        ]
//! low nibble of qs[j] = low bits of element j,  high nibble = of element j + 16      (j in 0..16)
//! bit i of qh (little-endian u32) = bit 4 of element i                               (i in 0..32)
//! x = d · (q − 16)
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, extreme, half, inverse, to_half};

/// 32 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Scale, half precision.
    pub d: [u8; 2],
    /// Fifth bits.
    pub qh: [u8; 4],
    /// Nibbles.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22 && align_of::<BlockQ5_0>() == 1);

impl BlockQ5_0 {
    /// `q − 16` of each element, −16 to 15.
    pub fn integers(&self) -> [i8; 32] {
        let qh = u32::from_le_bytes(self.qh);
        std::array::from_fn(|i| {
            let low = self.qs[i % 16] >> (4 * (i / 16)) & 15;
            let high = (qh >> i & 1) as u8;
            (low | high << 4) as i8 - 16
        })
    }
}

impl Block for BlockQ5_0 {
    const KIND: TensorType = TensorType::Q5_0;
    const ELEMENTS: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = half(self.d);
        for (out, q) in out.iter_mut().zip(self.integers()) {
            *out = d * f32::from(q);
        }
    }

    /// The element of largest magnitude becomes −16.
    fn encode(values: &[f32]) -> Self {
        let d = extreme(values) / -16.0;
        let id = inverse(d);
        let q = |x: f32| ((x * id + 16.5) as u8).min(31);
        let (mut qh, mut qs) = (0_u32, [0; 16]);
        for (i, &x) in values.iter().enumerate() {
            let q = q(x);
            qh |= u32::from(q >> 4) << i;
            qs[i % 16] |= (q & 15) << (4 * (i / 16));
        }
        BlockQ5_0 { d: to_half(d), qh: qh.to_le_bytes(), qs }
    }
}
