//! Scales of sub-blocks: the packing that Q4_K and Q5_K share, and how the encoders of several formats find them.
//!
//! Eight 6-bit scales and as many minimums in twelve bytes:
//! ```text
//! byte  0..4    [scale j+4: upper 2 bits | scale j: 6 bits]           (j in 0..4)
//! byte  4..8    [minimum j+4: upper 2 bits | minimum j: 6 bits]
//! byte  8..12   [minimum j+4: lower 4 bits | scale j+4: lower 4 bits]
//! ```

use super::{extreme, half, inverse, to_half};

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

/// What [`quantize`] gives: both block scales, the numbers of `N` sub-blocks, and 256 numbers 0..=`top`.
pub(super) struct Quantized<const N: usize> {
    pub d: [u8; 2],
    pub dmin: [u8; 2],
    pub scales: [u8; N],
    pub mins: [u8; N],
    pub q: [u8; 256],
}

/// `x ≈ d·scale·q − dmin·minimum` with `q` in 0..=`top`: per sub-block the range from min(0, smallest) to the
/// largest value, the sub-block numbers rounded to 0..=`levels`, then every element to the nearest step.
pub(super) fn quantize<const N: usize>(values: &[f32], top: u8, levels: u8) -> Quantized<N> {
    let sub_elements = values.len() / N;
    let (top, levels) = (f32::from(top), f32::from(levels));
    let (mut steps, mut lows) = ([0.0_f32; N], [0.0_f32; N]);
    for (sub, values) in values.chunks_exact(sub_elements).enumerate() {
        let max = values.iter().copied().fold(0.0_f32, f32::max);
        let min = values.iter().copied().fold(0.0_f32, f32::min);
        steps[sub] = (max - min) / top;
        lows[sub] = -min;
    }
    let largest = |all: &[f32; N]| all.iter().copied().fold(0.0_f32, f32::max);
    // Everything after uses the halves as stored, so that their rounding is compensated.
    let (d, dmin) = (to_half(largest(&steps) / levels), to_half(largest(&lows) / levels));
    let (d32, dmin32) = (half(d), half(dmin));
    let level = |x: f32, unit: f32| (x * inverse(unit)).round().min(levels) as u8;
    let scales = steps.map(|x| level(x, d32));
    let mins = lows.map(|x| level(x, dmin32));
    let mut q = [0; 256];
    for (i, (q, &x)) in q.iter_mut().zip(values).enumerate() {
        let step = d32 * f32::from(scales[i / sub_elements]);
        let low = dmin32 * f32::from(mins[i / sub_elements]);
        *q = ((x + low) * inverse(step)).round().clamp(0.0, top) as u8;
    }
    Quantized { d, dmin, scales, mins, q }
}

/// What [`signed`] gives: the block scale, and of `N` sub-blocks the scale and the step that it stands for.
pub(super) struct Signed<const N: usize> {
    pub d: [u8; 2],
    pub scales: [i8; N],
    pub steps: [f32; N],
}

/// `x ≈ d·scale·q`: scales by which each sub-block's element of largest magnitude becomes about `lowest`, the
/// smallest `q`. The largest step gets `-levels`, the smallest scale.
pub(super) fn signed<const N: usize>(values: &[f32], lowest: f32, levels: f32) -> Signed<N> {
    let mut steps = [0.0_f32; N];
    for (step, values) in steps.iter_mut().zip(values.chunks_exact(values.len() / N)) {
        *step = extreme(values) / lowest;
    }
    let d = to_half(extreme(&steps) / -levels);
    let d32 = half(d);
    let scales = steps.map(|step| (step * inverse(d32)).round().clamp(-levels, levels - 1.0) as i8);
    Signed { d, scales, steps: scales.map(|scale| d32 * f32::from(scale)) }
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
