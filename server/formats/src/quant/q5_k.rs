//! Q5_K: 256 unsigned 5-bit numbers in eight sub-blocks of 32, each with a 6-bit scale and minimum,
//! 5.5 bits per weight.
//!
//! ```text
//! byte  0   1    2   3       4 …………………… 15        16 ……………… 47      48 ………………………………………… 175
//!      [d: f16] [dmin: f16] [scales: 12 bytes] [qh: 32 bytes] [qs: 128 bytes             ]
//! qs[32·p + l], p in 0..4, l in 0..32: low nibble = element 64·p + l, high nibble = element 64·p + 32 + l
//! bit s of qh[l] = bit 4 of element 32·s + l                                     (s in 0..8)
//! x = (d · scale[s]) · q − (dmin · minimum[s])        with s = element / 32; scales packed as in `k_scales`
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, half, k_scales};

/// 256 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5K {
    /// Scale of the scales, half precision.
    pub d: [u8; 2],
    /// Scale of the minimums, half precision.
    pub dmin: [u8; 2],
    /// Packed; see [`super::unpack_scales`].
    pub scales: [u8; 12],
    /// Fifth bits.
    pub qh: [u8; 32],
    /// Nibbles.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5K>() == 176 && align_of::<BlockQ5K>() == 1);

impl BlockQ5K {
    /// `q` of each element, 0 to 31.
    pub fn integers(&self) -> [u8; 256] {
        std::array::from_fn(|i| {
            let low = self.qs[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15;
            let high = self.qh[i % 32] >> (i / 32) & 1;
            low | high << 4
        })
    }
}

impl Block for BlockQ5K {
    const KIND: TensorType = TensorType::Q5K;
    const ELEMENTS: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let (scales, mins) = k_scales::unpack_scales(&self.scales);
        for (i, (out, q)) in out.iter_mut().zip(self.integers()).enumerate() {
            let (scale, min) = (scales[i / 32], mins[i / 32]);
            *out = d * f32::from(scale) * f32::from(q) - dmin * f32::from(min);
        }
    }

    fn encode(values: &[f32]) -> Self {
        let k_scales::Quantized { d, dmin, scales, mins, q } = k_scales::quantize::<8>(values, 31, 63);
        let (mut qh, mut qs) = ([0; 32], [0; 128]);
        for (i, &q) in q.iter().enumerate() {
            qh[i % 32] |= (q >> 4) << (i / 32);
            qs[i / 64 * 32 + i % 32] |= (q & 15) << (4 * (i / 32 % 2));
        }
        BlockQ5K { d, dmin, scales: k_scales::pack_scales(scales, mins), qh, qs }
    }
}
