//! Q3_K: 256 signed 3-bit numbers in sixteen sub-blocks of 16, each with a 6-bit scale, 3.4375 bits per weight.
//!
//! ```text
//! byte  0 ………………… 31     32 ……………………… 95     96 …………………… 107      108 109
//!      [hmask: 32 bytes] [qs: 64 bytes    ] [scales: 12 bytes] [d: f16]
//! low 2 bits of an element: as in Q2_K
//! bit s of hmask[l] = bit 2 of element 32·s + l                                   (s in 0..8, l in 0..32)
//! low 4 bits of scale j  = nibble j / 8 of scales[j % 8]   (nibble 0 is the low one)           (j in 0..16)
//! high 2 bits of scale j = bits 2·(j / 4) .. 2·(j / 4) + 2 of scales[8 + j % 4]
//! x = (d · (scale[element / 16] − 32)) · (q − 4)
//! ```

use bytemuck::{Pod, Zeroable};

use super::q2_k::place;
use super::{Block, TensorType, half, inverse, k_scales};

/// 256 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ3K {
    /// Third bits.
    pub hmask: [u8; 32],
    /// Low two bits.
    pub qs: [u8; 64],
    /// Scales of the sub-blocks, packed.
    pub scales: [u8; 12],
    /// Scale of the scales, half precision.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ3K>() == 110 && align_of::<BlockQ3K>() == 1);

impl BlockQ3K {
    /// `q − 4` of each element, −4 to 3.
    pub fn integers(&self) -> [i8; 256] {
        std::array::from_fn(|i| {
            let (at, shift) = place(i);
            let low = self.qs[at] >> shift & 3;
            let high = self.hmask[i % 32] >> (i / 32) & 1;
            (low | high << 2) as i8 - 4
        })
    }

    /// The scales of the sub-blocks less 32, −32 to 31.
    pub fn sub_scales(&self) -> [i8; 16] {
        std::array::from_fn(|j| {
            let low = self.scales[j % 8] >> (4 * (j / 8)) & 15;
            let high = self.scales[8 + j % 4] >> (2 * (j / 4)) & 3;
            (low | high << 4) as i8 - 32
        })
    }
}

impl Block for BlockQ3K {
    const KIND: TensorType = TensorType::Q3K;
    const ELEMENTS: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let (d, scales) = (half(self.d), self.sub_scales());
        for (i, (out, q)) in out.iter_mut().zip(self.integers()).enumerate() {
            *out = d * f32::from(scales[i / 16]) * f32::from(q);
        }
    }

    /// In each sub-block the element of largest magnitude becomes about −4.
    fn encode(values: &[f32]) -> Self {
        let k_scales::Signed { d, scales: sub_scales, steps } = k_scales::signed::<16>(values, -4.0, 32.0);
        let mut scales = [0; 12];
        for (j, scale) in sub_scales.into_iter().enumerate() {
            let scale = (scale + 32) as u8;
            scales[j % 8] |= (scale & 15) << (4 * (j / 8));
            scales[8 + j % 4] |= (scale >> 4) << (2 * (j / 4));
        }
        let (mut hmask, mut qs) = ([0; 32], [0; 64]);
        for (i, &x) in values.iter().enumerate() {
            let q = ((x * inverse(steps[i / 16])).round().clamp(-4.0, 3.0) as i8 + 4) as u8;
            let (at, shift) = place(i);
            qs[at] |= (q & 3) << shift;
            hmask[i % 32] |= (q >> 2) << (i / 32);
        }
        BlockQ3K { hmask, qs, scales, d }
    }
}
