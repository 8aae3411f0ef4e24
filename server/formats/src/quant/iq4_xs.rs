//! IQ4_XS: 256 places in the table of IQ4_NL in eight sub-blocks of 32, each with a 6-bit scale,
//! 4.25 bits per weight.
//!
//! ```text
//! byte  0   1    2 ………… 3          4 ………………… 7         8 ………………………………………… 135
//!      [d: f16] [scales_h: u16] [scales_l: 4 bytes] [qs: 128 bytes            ]
//! low nibble of qs[16·s + j] = element 32·s + j,  high nibble = element 32·s + j + 16  (s in 0..8, j in 0..16)
//! low 4 bits of scale s  = nibble s % 2 of scales_l[s / 2]        (nibble 0 is the low one)
//! high 2 bits of scale s = bits 2·s .. 2·s + 2 of scales_h (little-endian)
//! x = (d · (scale[s] − 32)) · VALUES[q]        with s = element / 32
//! ```

use bytemuck::{Pod, Zeroable};

use super::iq4_nl::{IQ4_VALUES, integers, nearest};
use super::{Block, TensorType, half, k_scales};

/// 256 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ4XS {
    /// Scale of the scales, half precision.
    pub d: [u8; 2],
    /// High two bits of the sub-blocks' scales.
    pub scales_h: [u8; 2],
    /// Low four bits of the sub-blocks' scales.
    pub scales_l: [u8; 4],
    /// Nibbles.
    pub qs: [[u8; 16]; 8],
}

const _: () = assert!(size_of::<BlockIQ4XS>() == 136 && align_of::<BlockIQ4XS>() == 1);

impl BlockIQ4XS {
    /// The table's value of each element of each sub-block, −127 to 113.
    pub fn integers(&self) -> [[i8; 32]; 8] {
        self.qs.map(|qs| integers(&qs))
    }

    /// The scales of the sub-blocks less 32, −32 to 31.
    pub fn sub_scales(&self) -> [i8; 8] {
        let scales_h = u16::from_le_bytes(self.scales_h);
        std::array::from_fn(|s| {
            let low = self.scales_l[s / 2] >> (4 * (s % 2)) & 15;
            let high = (scales_h >> (2 * s) & 3) as u8;
            (low | high << 4) as i8 - 32
        })
    }
}

impl Block for BlockIQ4XS {
    const KIND: TensorType = TensorType::IQ4XS;
    const ELEMENTS: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let (d, scales) = (half(self.d), self.sub_scales());
        for (i, (out, value)) in out.iter_mut().zip(self.integers().as_flattened()).enumerate() {
            *out = d * f32::from(scales[i / 32]) * f32::from(*value);
        }
    }

    /// In each sub-block the element of largest magnitude becomes about −127.
    fn encode(values: &[f32]) -> Self {
        let lowest = f32::from(IQ4_VALUES[0]);
        let k_scales::Signed { d, scales, steps } = k_scales::signed::<8>(values, lowest, 32.0);
        let (mut scales_h, mut scales_l, mut qs) = (0_u16, [0; 4], [[0; 16]; 8]);
        for (s, scale) in scales.into_iter().enumerate() {
            let scale = (scale + 32) as u8;
            scales_h |= u16::from(scale >> 4) << (2 * s);
            scales_l[s / 2] |= (scale & 15) << (4 * (s % 2));
            qs[s] = nearest(&values[32 * s..][..32], steps[s]);
        }
        BlockIQ4XS { d, scales_h: scales_h.to_le_bytes(), scales_l, qs }
    }
}
