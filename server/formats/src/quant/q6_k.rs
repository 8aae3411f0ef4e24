//! Q6_K: 256 signed 6-bit numbers in sixteen sub-blocks of 16, each with an 8-bit scale, 6.5625 bits per weight.
//!
//! ```text
//! byte  0 ………………………… 127    128 ………………… 191   192 ……………… 207     208 209
//!      [ql: 128 bytes    ] [qh: 64 bytes  ] [scales: 16 × i8] [d: f16]
//! two halves h of 128 elements; element 128·h + 32·g + l, g in 0..4, l in 0..32:
//!   low 4 bits  = nibble g / 2 of ql[64·h + 32·(g % 2) + l]        (nibble 0 is the low one)
//!   high 2 bits = bits 2·g .. 2·g + 2 of qh[32·h + l]
//! x = (d · scale[element / 16]) · (q − 32)
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, half, inverse, k_scales};

/// 256 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// Low four bits.
    pub ql: [u8; 128],
    /// High two bits.
    pub qh: [u8; 64],
    /// Scales of the sub-blocks.
    pub scales: [i8; 16],
    /// Scale of the scales, half precision.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ6K>() == 210 && align_of::<BlockQ6K>() == 1);

/// Where element `i` lies: byte and shift in `ql`, byte and shift in `qh`.
fn place(i: usize) -> ((usize, usize), (usize, usize)) {
    let (h, g, l) = (i / 128, i / 32 % 4, i % 32);
    ((64 * h + 32 * (g % 2) + l, 4 * (g / 2)), (32 * h + l, 2 * g))
}

impl BlockQ6K {
    /// `q − 32` of each element, −32 to 31.
    pub fn integers(&self) -> [i8; 256] {
        std::array::from_fn(|i| {
            let ((low_at, low_shift), (high_at, high_shift)) = place(i);
            let low = self.ql[low_at] >> low_shift & 15;
            let high = self.qh[high_at] >> high_shift & 3;
            (low | high << 4) as i8 - 32
        })
    }
}

impl Block for BlockQ6K {
    const KIND: TensorType = TensorType::Q6K;
    const ELEMENTS: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let d = half(self.d);
        for (i, (out, q)) in out.iter_mut().zip(self.integers()).enumerate() {
            *out = d * f32::from(self.scales[i / 16]) * f32::from(q);
        }
    }

    /// In each sub-block the element of largest magnitude becomes about −32.
    fn encode(values: &[f32]) -> Self {
        let k_scales::Signed { d, scales, steps } = k_scales::signed::<16>(values, -32.0, 128.0);
        let (mut ql, mut qh) = ([0; 128], [0; 64]);
        for (i, &x) in values.iter().enumerate() {
            let q = (x * inverse(steps[i / 16])).round().clamp(-32.0, 31.0) as i8 + 32;
            let ((low_at, low_shift), (high_at, high_shift)) = place(i);
            ql[low_at] |= (q as u8 & 15) << low_shift;
            qh[high_at] |= (q as u8 >> 4) << high_shift;
        }
        BlockQ6K { ql, qh, scales, d }
    }
}
