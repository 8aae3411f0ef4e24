//! The sampler's passes over a vocabulary: the largest logit, weights, sums.
//!
//! A vocabulary is long, so nothing is written but weights, NaN and infinities are replaced where they are read, and
//! of a mask only words that allow something are followed. Loops are over lanes with selects, so that they vectorise
//! on any machine without changing a result: every sum has one order.

use crate::ids::TokenId;

/// Accumulators of a sum or maximum: enough for the widest vectors, and a fixed order on all.
const LANES: usize = 16;
/// Weights summed in f32 before f64 takes over.
pub(super) const CHUNK: usize = 256;
/// Tokens of a mask's word.
const WORD: usize = u32::BITS as usize;
const _: () = assert!(CHUNK.is_multiple_of(LANES), "a chunk is whole vectors");
const _: () = assert!(CHUNK.is_multiple_of(WORD), "a chunk is whole words of a mask");

/// The bits of a word, lowest first. Comparing with a table needs no shift by lane, which old vectors lack.
const BITS: [u32; WORD] = {
    let mut bits = [0; WORD];
    let mut i = 0;
    while i < WORD {
        bits[i] = 1 << i;
        i += 1;
    }
    bits
};

/// What a logit counts as: NaN as minus infinity, plus infinity as the largest number. Never NaN.
#[inline]
pub(super) fn finite(logit: f32) -> f32 {
    // Comparisons, because they are one instruction each; NaN is not above anything.
    let low = if logit > f32::NEG_INFINITY { logit } else { f32::NEG_INFINITY };
    if low < f32::MAX { low } else { f32::MAX }
}

/// How far a logit lies below `max`, the largest [`finite`] one: at most 0, or NaN for NaN.
#[inline]
fn below(logit: f32, max: f32) -> f32 {
    (if max < logit { max } else { logit }) - max
}

/// Whether a mask allows a token.
pub(super) fn allowed(mask: &[u32], token: usize) -> bool {
    mask.get(token / WORD).is_some_and(|word| word >> (token % WORD) & 1 == 1)
}

/// The largest allowed logit above minus infinity and its token, the lowest of equals: the largest of each chunk,
/// then the place in the first chunk that has it.
pub(super) fn largest_allowed(logits: &[f32], mask: Option<&[u32]>) -> Option<(f32, TokenId)> {
    let (mut best, mut best_chunk) = (f32::NEG_INFINITY, None);
    for (index, chunk) in logits.chunks(CHUNK).enumerate() {
        let max = finite(match mask {
            None => largest(chunk),
            Some(mask) => largest_masked(chunk, mask.get(index * (CHUNK / WORD)..).unwrap_or(&[])),
        });
        if max > best {
            (best, best_chunk) = (max, Some(index));
        }
    }
    let first = best_chunk? * CHUNK;
    let may = |token: usize| mask.is_none_or(|mask| allowed(mask, token));
    let token = (first..logits.len()).find(|&token| logits[token] >= best && may(token))?;
    Some((best, token as TokenId))
}

/// The largest logit whose bit is set; NaN is passed over. Bits past the logits, and logits past the bits, do not
/// count.
fn largest_masked(logits: &[f32], words: &[u32]) -> f32 {
    let (whole, rest) = logits.as_chunks::<WORD>();
    let mut last = [f32::NEG_INFINITY; WORD];
    last[..rest.len()].copy_from_slice(rest);
    let mut lanes = [f32::NEG_INFINITY; WORD];
    for (part, &word) in whole.iter().chain([&last]).zip(words) {
        if word == 0 {
            continue;
        }
        for ((lane, &x), bit) in lanes.iter_mut().zip(part).zip(BITS) {
            let x = if word & bit == 0 { f32::NEG_INFINITY } else { x };
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The weight of each token: 1 for one with logit `max`, 0 for what the mask forbids.
pub(super) fn weigh(
    logits: &[f32],
    mask: Option<&[u32]>,
    max: f32,
    temperature: f32,
    weights: &mut Vec<f32>,
) {
    weights.resize(logits.len(), 0.0);
    let Some(mask) = mask else {
        return weigh_part(logits, max, temperature, weights);
    };
    let words = mask.iter().copied().chain(std::iter::repeat(0));
    for ((weights, logits), word) in weights.chunks_mut(WORD).zip(logits.chunks(WORD)).zip(words) {
        if word == 0 {
            weights.fill(0.0);
            continue;
        }
        weigh_part(logits, max, temperature, weights);
        for (weight, bit) in weights.iter_mut().zip(BITS) {
            *weight = if word & bit == 0 { 0.0 } else { *weight };
        }
    }
}

fn weigh_part(logits: &[f32], max: f32, temperature: f32, weights: &mut [f32]) {
    for (weight, &logit) in weights.iter_mut().zip(logits) {
        *weight = exp(below(logit, max) / temperature);
    }
}

/// The largest logit; NaN is passed over.
fn largest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for part in logits.chunks(LANES) {
        for (lane, &x) in lanes.iter_mut().zip(part) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The largest logit, and the sum of all exponentials of distances to it; minus infinity and 0 where all logits are.
pub(super) fn exponential_sum(logits: &[f32]) -> (f32, f64) {
    let max = finite(largest(logits));
    let mut sum = 0.0;
    if max == f32::NEG_INFINITY {
        return (max, sum);
    }
    let mut weights = [0.0; CHUNK];
    for part in logits.chunks(CHUNK) {
        for (weight, &logit) in weights.iter_mut().zip(part) {
            *weight = exp(below(logit, max));
        }
        sum += chunk_sum(&weights[..part.len()]);
    }
    (max, sum)
}

/// The sum of at most [`CHUNK`] weights.
pub(super) fn chunk_sum(weights: &[f32]) -> f64 {
    let mut lanes = [0.0f32; LANES];
    for part in weights.chunks(LANES) {
        for (lane, &x) in lanes.iter_mut().zip(part) {
            *lane += x;
        }
    }
    lanes.into_iter().map(f64::from).sum()
}

/// e^x for x ≤ 0 (minus infinity included), exactly 1 at 0 and 0 below the normal numbers and for NaN; error under 2
/// units in the last place. Multiplications and additions alone, so the same on every machine, and the loop vectorises.
/// Source: `expf` of the Cephes library (Moshier).
#[inline]
fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.0;
    // Adding 1.5 * 2^23 rounds to a whole number, found in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > LOWEST { x } else { LOWEST };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = clamped - whole * LN2_HIGH - whole * LN2_LOW;
    let mut series = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        series = series * rest + c;
    }
    let fraction = series * rest * rest + rest + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let value = fraction * f32::from_bits(exponent << 23);
    if x >= LOWEST { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_close_and_monotone() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-f32::MAX), 0.0);
        assert_eq!(exp(f32::NAN), 0.0);
        let mut last = 0.0;
        for step in 0..=870_000 {
            let x = -87.0 + step as f32 / 10_000.0;
            let (ours, exact) = (exp(x), f64::from(x).exp());
            assert!((f64::from(ours) - exact).abs() <= exact * 2.5e-7, "e^{x} is {exact}, not {ours}");
            assert!(ours >= last, "e^{x} falls");
            last = ours;
        }
    }
}
