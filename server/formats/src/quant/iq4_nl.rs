//! IQ4_NL: 32 places in a table of sixteen uneven values, under one scale, 4.5 bits per weight.
//!
//! ```text
//! byte  0   1    2 ………………………………………… 17
//!      [d: f16] [qs: 16 bytes        ]
//! low nibble of qs[j]  = element j,  high nibble = element j + 16      (j in 0..16)
//! x = d · VALUES[q]
//! ```
//! Weights are nearer to normal than to even, so the values lie closer together around 0.

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, extreme, half, inverse, to_half};

/// What a nibble of IQ4_NL and IQ4_XS stands for, ascending. Source: `IQ4_NL.kvalues` of the `gguf` Python package.
pub const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ4NL {
    /// Scale, half precision.
    pub d: [u8; 2],
    /// Nibbles.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4NL>() == 18 && align_of::<BlockIQ4NL>() == 1);

impl BlockIQ4NL {
    /// The table's value of each element, −127 to 113.
    pub fn integers(&self) -> [i8; 32] {
        integers(&self.qs)
    }
}

/// The values of 32 elements in sixteen bytes; a sub-block of IQ4_XS is the same.
pub(super) fn integers(qs: &[u8; 16]) -> [i8; 32] {
    std::array::from_fn(|i| IQ4_VALUES[usize::from(qs[i % 16] >> (4 * (i / 16)) & 15)])
}

/// The inverse of [`integers`]: the nearest of the table's values to each of 32 elements divided by `step`.
pub(super) fn nearest(values: &[f32], step: f32) -> [u8; 16] {
    let id = inverse(step);
    let mut qs = [0; 16];
    for (i, &x) in values.iter().enumerate() {
        let middles = IQ4_VALUES.windows(2).map(|pair| (f32::from(pair[0]) + f32::from(pair[1])) / 2.0);
        let q = middles.filter(|&middle| x * id > middle).count() as u8;
        qs[i % 16] |= q << (4 * (i / 16));
    }
    qs
}

impl Block for BlockIQ4NL {
    const KIND: TensorType = TensorType::IQ4NL;
    const ELEMENTS: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = half(self.d);
        for (out, value) in out.iter_mut().zip(self.integers()) {
            *out = d * f32::from(value);
        }
    }

    /// The element of largest magnitude becomes −127.
    fn encode(values: &[f32]) -> Self {
        let d = extreme(values) / f32::from(IQ4_VALUES[0]);
        BlockIQ4NL { d: to_half(d), qs: nearest(values, d) }
    }
}
