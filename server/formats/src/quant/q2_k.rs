//! Q2_K: 256 unsigned 2-bit numbers in sixteen sub-blocks of 16, each with a 4-bit scale and minimum,
//! 2.625 bits per weight.
//!
//! ```text
//! byte  0 ……………… 15        16 ………………………… 79     80  81    82   83
//!      [scales: 16 bytes] [qs: 64 bytes     ] [d: f16] [dmin: f16]
//! two halves h of 128 elements; element 128·h + 32·g + l = bits 2·g .. 2·g + 2 of qs[32·h + l]
//!                                                                         (g in 0..4, l in 0..32)
//! low nibble of scales[s] = scale of sub-block s,  high nibble = its minimum             (s in 0..16)
//! x = (d · scale[s]) · q − (dmin · minimum[s])        with s = element / 16
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, half, k_scales};

/// 256 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ2K {
    /// Scales and minimums of the sub-blocks.
    pub scales: [u8; 16],
    /// Two bits each.
    pub qs: [u8; 64],
    /// Scale of the scales, half precision.
    pub d: [u8; 2],
    /// Scale of the minimums, half precision.
    pub dmin: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ2K>() == 84 && align_of::<BlockQ2K>() == 1);

/// Where element `i` lies: byte and shift in `qs`. Q3_K has its low bits in the same places.
pub(super) fn place(i: usize) -> (usize, usize) {
    (i / 128 * 32 + i % 32, 2 * (i / 32 % 4))
}

impl BlockQ2K {
    /// `q` of each element, 0 to 3.
    pub fn integers(&self) -> [u8; 256] {
        std::array::from_fn(|i| {
            let (at, shift) = place(i);
            self.qs[at] >> shift & 3
        })
    }

    /// The sixteen scales and the sixteen minimums, each 0 to 15.
    pub fn sub_scales(&self) -> ([u8; 16], [u8; 16]) {
        (self.scales.map(|byte| byte & 15), self.scales.map(|byte| byte >> 4))
    }
}

impl Block for BlockQ2K {
    const KIND: TensorType = TensorType::Q2K;
    const ELEMENTS: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let (scales, mins) = self.sub_scales();
        for (i, (out, q)) in out.iter_mut().zip(self.integers()).enumerate() {
            let (scale, min) = (scales[i / 16], mins[i / 16]);
            *out = d * f32::from(scale) * f32::from(q) - dmin * f32::from(min);
        }
    }

    fn encode(values: &[f32]) -> Self {
        let k_scales::Quantized { d, dmin, scales, mins, q } = k_scales::quantize::<16>(values, 3, 15);
        let mut qs = [0; 64];
        for (i, &q) in q.iter().enumerate() {
            let (at, shift) = place(i);
            qs[at] |= q << shift;
        }
        BlockQ2K { scales: std::array::from_fn(|s| scales[s] | mins[s] << 4), qs, d, dmin }
    }
}
