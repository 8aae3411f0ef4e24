//! The packed 6-bit scales and minimums that Q4_K and Q5_K share: eight of each in twelve bytes.
//!
//! ```text
//! byte  0..4    [scale j+4: upper 2 bits | scale j: 6 bits]           (j in 0..4)
//! byte  4..8    [minimum j+4: upper 2 bits | minimum j: 6 bits]
//! byte  8..12   [minimum j+4: lower 4 bits | scale j+4: lower 4 bits]
//! ```

use super::{half, inverse, to_half};

/// Elements of a sub-block, which shares one scale and one minimum.
const SUB: usize = 32;

/// The eight scales and the eight minimums, each 0..64.
pub fn unpack_scales(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        let (s, m, low) = (packed[j], packed[j + 4], packed[j + 8]);
        scales[j] = s & 63;
        mins[j] = m & 63;
        scales[j + 4] = low & 15 | s >> 6 << 4;
        mins[j + 4] = low >> 4 | m >> 6 << 4;
    }
    (scales, mins)
}

/// The inverse of [`unpack_scales`].
pub(super) fn pack_scales(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = scales[j] | scales[j + 4] >> 4 << 6;
        packed[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        packed[j + 8] = scales[j + 4] & 15 | (mins[j + 4] & 15) << 4;
    }
    packed
}

/// What [`quantize`] gives: both block scales, the packed sub-block scales, and 256 numbers 0..=`top`.
pub(super) struct Quantized {
    pub d: [u8; 2],
    pub dmin: [u8; 2],
    pub scales: [u8; 12],
    pub q: [u8; 256],
}

/// `x ≈ d·scale·q − dmin·minimum` with `q` in 0..=`top`: per sub-block the range from min(0, smallest) to the
/// largest value, the sub-block numbers rounded to 6 bits, then every element to the nearest step.
pub(super) fn quantize(values: &[f32], top: u8) -> Quantized {
    let (mut steps, mut lows) = ([0.0_f32; 8], [0.0_f32; 8]);
    for (sub, values) in values.chunks_exact(SUB).enumerate() {
        let max = values.iter().copied().fold(0.0_f32, f32::max);
        let min = values.iter().copied().fold(0.0_f32, f32::min);
        steps[sub] = (max - min) / f32::from(top);
        lows[sub] = -min;
    }
    let largest = |all: &[f32; 8]| all.iter().copied().fold(0.0_f32, f32::max);
    // Everything after uses the halves as stored, so that their rounding is compensated.
    let (d, dmin) = (to_half(largest(&steps) / 63.0), to_half(largest(&lows) / 63.0));
    let (d32, dmin32) = (half(d), half(dmin));
    let six_bits = |x: f32, unit: f32| (x * inverse(unit)).round().min(63.0) as u8;
    let scales = steps.map(|x| six_bits(x, d32));
    let mins = lows.map(|x| six_bits(x, dmin32));
    let mut q = [0; 256];
    for (i, (q, &x)) in q.iter_mut().zip(values).enumerate() {
        let step = d32 * f32::from(scales[i / SUB]);
        let low = dmin32 * f32::from(mins[i / SUB]);
        *q = ((x + low) * inverse(step)).round().clamp(0.0, f32::from(top)) as u8;
    }
    Quantized { d, dmin, scales: pack_scales(scales, mins), q }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_the_inverse_of_unpacking() {
        let scales = [0, 1, 31, 63, 62, 33, 16, 15];
        let mins = [63, 47, 0, 5, 17, 32, 63, 1];
        assert_eq!(unpack_scales(&pack_scales(scales, mins)), (scales, mins));
    }
}
