//! Queries, keys and values as integers of 16 bits, so that attention is exact sums of products.
//!
//! ```text
//! by norm (queries, keys):  scale = |x| / 32700 ; q = round(x / scale)      so |Σ q k| <= |q| |k| < 2^31 at any length
//! by power (values):        e = least with max |x| < 2^e · 8192 ; q = round(x / 2^e)
//! ```
//! Why: a processor multiplies twice as many pairs of 16-bit integers as floats; integers add up to the same sum in any
//! order; and for the same two bytes they keep 12 to 15 bits beside f16's 11. Powers of two as the values' scales can be
//! added to a score in base 2. No finite, infinite or NaN input gives a scale that is not finite.
//! Bytes: 6 a value of x. Bound: memory.

use super::vector::{LANES, Vector};

/// Two integers of 16 bits, the first in the lower half.
pub type Word = i32;

/// Length of a vector of integers by norm; no element is longer, so it fits 16 bits after rounding.
const NORM: f32 = 32_700.0;
const _: () = assert!((NORM as i64 + 64) * (NORM as i64 + 64) < i32::MAX as i64);
/// Largest integer by power.
pub const VALUE_MAX: i32 = 8192;
const VALUE_BITS: i32 = VALUE_MAX.ilog2() as i32;
/// Inputs are clamped to this, so that sums of squares are finite.
const LIMIT: f32 = 1e15;
/// A sum of squares below this counts as zero: products near the smallest float are not exact enough to divide by.
const SQUARES_MIN: f32 = 1e-30;
/// Exponents are at least this: smaller values become zeros.
const EXPONENT_MIN: i32 = -60;

/// Writes a head's integers and returns what they are multiplied by.
///
/// # Safety
/// The instruction set exists.
pub type FixedPointFn = unsafe fn(x: &[f32], out: &mut [Word]) -> f32;

/// See [`FixedPointFn`]: the scale. `out` has a word for each two elements at least, zeros behind them.
///
/// # Safety
/// As [`FixedPointFn`].
pub unsafe fn by_norm<V: Vector>(x: &[f32], out: &mut [Word]) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        V::call(|| {
            let mut squares = V::splat(0.0);
            for part in x.chunks(LANES) {
                let v = clamped::<V>(part);
                squares = v.fma(v, squares);
            }
            let squares = squares.sum();
            let norm = if squares < SQUARES_MIN { 0.0 } else { squares.sqrt() };
            store::<V>(x, if norm > 0.0 { NORM / norm } else { 0.0 }, out);
            norm / NORM
        })
    }
}

/// See [`FixedPointFn`]: the exponent. `out` as for [`by_norm`].
///
/// # Safety
/// As [`FixedPointFn`].
pub unsafe fn by_power<V: Vector>(x: &[f32], out: &mut [Word]) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        V::call(|| {
            let mut max = V::splat(0.0);
            for part in x.chunks(LANES) {
                max = max.max(clamped::<V>(part).abs());
            }
            // A positive float's exponent field e means that it is below 2^(e - 126).
            let above = (max.largest().to_bits() >> 23) as i32 - 126;
            let exponent = (above - VALUE_BITS).max(EXPONENT_MIN);
            store::<V>(x, f32::from_bits(((127 - exponent) as u32) << 23), out);
            exponent as f32
        })
    }
}

/// Up to sixteen elements within the limit, zeros behind them; NaN becomes the least.
#[inline(always)]
unsafe fn clamped<V: Vector>(x: &[f32]) -> V {
    let mut lanes = [0f32; LANES];
    // SAFETY: the caller runs on the instruction set; a short part goes through the array.
    unsafe {
        let from = if x.len() == LANES {
            x.as_ptr()
        } else {
            lanes[..x.len()].copy_from_slice(x);
            lanes.as_ptr()
        };
        V::load(from).max(V::splat(-LIMIT)).min(V::splat(LIMIT))
    }
}

#[inline(always)]
unsafe fn store<V: Vector>(x: &[f32], by: f32, out: &mut [Word]) {
    assert!(out.len() >= x.len().div_ceil(2), "{} words for {} elements", out.len(), x.len());
    const WORDS: usize = LANES / 2;
    let mut parts = out.chunks_mut(WORDS);
    for (part, out) in x.chunks(LANES).zip(parts.by_ref()) {
        let mut words = [0; WORDS];
        // SAFETY: the caller runs on the instruction set; eight words are sixteen int16, the lower half of a word
        // being the first in memory; a short part goes through the array.
        unsafe {
            let v = clamped::<V>(part).mul(V::splat(by));
            if out.len() == WORDS {
                v.store_i16(out.as_mut_ptr().cast());
                continue;
            }
            v.store_i16(words.as_mut_ptr().cast());
        }
        out.copy_from_slice(&words[..out.len()]);
    }
    parts.for_each(|rest| rest.fill(0));
}
