//! Drawing a token from logits: one pure function that every executor calls and device sampling must equal.
//!
//! Order: where it is asked for, log-sum-exp of the raw logits (for the log-probability) → logit bias → repetition,
//! then presence and frequency penalties → forbidden tokens and mask → greedy (of equals the lowest id), or
//! temperature → top-k → top-p (of what top-k left) → min-p → a draw by a counter-based generator: the same (seed,
//! output position, logits) always give the same token, whatever ran beside it. Exponentials and the order of sums
//! are our own, so that the draw is the same on every machine.
//!
//! Greedy is one reading pass over the vocabulary; only what may be in the nucleus is sorted.

mod changes;
mod passes;

pub use self::changes::{Change, changes};
use self::passes::{CHUNK, allowed, chunk_sum, exponential_sum, finite, largest_allowed, weigh};
use crate::ids::TokenId;
use crate::request::SamplingParams;

/// What one draw depends on beside the logits.
#[derive(Clone, Copy, Debug)]
pub struct SampleRow<'a> {
    /// How to draw.
    pub params: &'a SamplingParams,
    /// The prompt, for the repetition penalty.
    pub prompt: &'a [TokenId],
    /// The output so far, for all penalties; its length is the draw's position.
    pub output: &'a [TokenId],
    /// Allowed tokens as a bit set (bit `t % 32` of word `t / 32`); `None` allows all.
    pub mask: Option<&'a [u32]>,
    /// Tokens that may not be drawn now (stop tokens before `tokens_min`).
    pub forbidden: &'a [TokenId],
    /// Whether the log-probability is wanted, which costs two more passes over the vocabulary. It is that of the
    /// logits as given: with this set, an executor computes them all, also those that the mask forbids.
    pub logprobs: bool,
}

impl<'a> SampleRow<'a> {
    /// The first draw after nothing, with every token allowed and no log-probability wanted.
    pub fn new(params: &'a SamplingParams) -> Self {
        Self { params, prompt: &[], output: &[], mask: None, forbidden: &[], logprobs: false }
    }
}

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Its log-probability under the raw logits (natural log, before penalties and mask), where it was wanted.
    pub logprob: Option<f32>,
}

/// Memory reused between draws.
#[derive(Debug, Default)]
pub struct Scratch {
    seen: Vec<TokenId>,
    /// Raw logits of the tokens that bias, penalties or `forbidden` changed, where the log-probability is wanted.
    raw: Vec<(TokenId, f32)>,
    weights: Vec<f32>,
    candidates: Vec<(f32, TokenId)>,
}

/// Draws one token. `logits` has one entry per vocabulary token; those of tokens with a bias, a penalty or a ban are
/// overwritten.
///
/// Never fails: NaN counts as minus infinity and plus infinity as the largest finite number. Where every allowed
/// token has minus infinity or is forbidden, the answer is the lowest token of the mask: the constraint outlives
/// the rest. An empty mask, which a caller never sends, gives token 0.
pub fn sample(logits: &mut [f32], row: &SampleRow<'_>, scratch: &mut Scratch) -> Sampled {
    let normaliser = row.logprobs.then(|| exponential_sum(logits));
    adjust(logits, row, scratch);
    let token = match largest_allowed(logits, row.mask) {
        None => {
            (0..logits.len()).find(|&t| row.mask.is_none_or(|mask| allowed(mask, t))).unwrap_or(0) as TokenId
        }
        Some((_, token)) if row.params.temperature == 0.0 => token,
        Some((max, _)) => draw(logits, max, row, scratch),
    };
    let logprob = normaliser.map(|(max, sum)| {
        // A token's logit is still the raw one unless it was touched.
        let touched = scratch.raw.iter().find(|(t, _)| *t == token).map(|(_, raw)| *raw);
        let raw = touched.or_else(|| logits.get(token as usize).copied());
        logprob(raw.unwrap_or(f32::NEG_INFINITY), max, sum)
    });
    Sampled { token, logprob }
}

/// The log-probability of a token with this raw logit. `max` is the largest of all raw logits, `sum` that of all
/// exponentials of their distances to it.
pub fn logprob(raw: f32, max: f32, sum: f64) -> f32 {
    let normaliser = if max == f32::NEG_INFINITY { max } else { max + sum.ln() as f32 };
    let logprob = finite(raw) - normaliser;
    if logprob.is_nan() { f32::NEG_INFINITY } else { logprob }
}

/// Applies bias, penalties and forbidden tokens; where the log-probability is wanted, keeps the raw logits of the
/// tokens it touches, first touch first.
fn adjust(logits: &mut [f32], row: &SampleRow<'_>, scratch: &mut Scratch) {
    let Scratch { seen, raw, .. } = scratch;
    raw.clear();
    changes(row, seen, |token, change| {
        if let Some(logit) = logits.get_mut(token as usize) {
            if row.logprobs {
                raw.push((token, *logit));
            }
            *logit = change.apply(*logit);
        }
    });
}

/// `max` is the largest allowed logit, finite: its weight is exactly 1 and all others are in 0..=1.
fn draw(logits: &[f32], max: f32, row: &SampleRow<'_>, scratch: &mut Scratch) -> TokenId {
    let params = row.params;
    let Scratch { weights, candidates, .. } = scratch;
    weigh(logits, row.mask, max, params.temperature, weights);
    let uniform = uniform(params.seed, row.output.len() as u64);
    let top_k = params.top_k as usize;
    if params.top_p >= 1.0 && (top_k == 0 || top_k >= weights.len()) {
        if params.min_p > 0.0 {
            for weight in weights.iter_mut() {
                *weight = if *weight < params.min_p { 0.0 } else { *weight };
            }
        }
        return walk(weights, uniform);
    }
    rank(logits, weights, params, candidates);
    let weight = |c: &(f32, TokenId)| f64::from(weights[c.1 as usize]);
    let mut left = uniform * candidates.iter().map(weight).sum::<f64>();
    let drawn = candidates.iter().find(|c| {
        left -= weight(c);
        left < 0.0
    });
    drawn.or(candidates.last()).map_or(0, |c| c.1)
}

/// The tokens that top-k, top-p and min-p leave, most likely first; at least one.
fn rank(logits: &[f32], weights: &[f32], params: &SamplingParams, candidates: &mut Vec<(f32, TokenId)>) {
    // Descending by logit, then ascending by id: a total order, so that ties are the same everywhere.
    let order = |a: &(f32, TokenId), b: &(f32, TokenId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let weight = |c: &(f32, TokenId)| f64::from(weights[c.1 as usize]);
    let top_k = params.top_k as usize;
    let floor = if top_k == 0 { nucleus_floor(weights, params.top_p) } else { 0.0 };
    candidates.clear();
    let pairs = logits.iter().zip(weights).enumerate();
    let likely = pairs.filter(|(_, (_, weight))| **weight > 0.0 && **weight >= floor);
    candidates.extend(likely.map(|(token, (&logit, _))| (finite(logit), token as TokenId)));
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, order);
        candidates.truncate(top_k);
    }
    candidates.sort_unstable_by(order);
    if params.top_p < 1.0 {
        let total: f64 = match top_k {
            0 => weights.chunks(CHUNK).map(chunk_sum).sum(),
            _ => candidates.iter().map(weight).sum(),
        };
        let target = f64::from(params.top_p) * total;
        let mut kept = 0.0;
        let cut = candidates.iter().position(|c| {
            kept += weight(c);
            kept >= target
        });
        candidates.truncate(cut.map_or(candidates.len(), |cut| cut + 1));
    }
    let unlikely = candidates.iter().position(|c| weight(c) < f64::from(params.min_p));
    candidates.truncate(unlikely.unwrap_or(candidates.len()).max(1));
}

/// A weight below which nothing is in the nucleus: sums by power of two, and the power at which they reach it.
fn nucleus_floor(weights: &[f32], top_p: f32) -> f32 {
    // By the exponent bits of numbers in 0..=1.
    let mut sums = [0.0f64; 128];
    for &weight in weights {
        sums[(weight.to_bits() >> 23) as usize & 127] += f64::from(weight);
    }
    let mut left = f64::from(top_p) * sums.iter().sum::<f64>();
    let reached = sums.iter().rposition(|sum| {
        left -= sum;
        left <= 0.0
    });
    // One power lower, for sums that round differently in another order.
    f32::from_bits((reached.unwrap_or(0).saturating_sub(1) as u32) << 23)
}

/// The token at `uniform` (in [0, 1)) of the weights' sum, in order of id; at least one weight is positive.
fn walk(weights: &[f32], uniform: f64) -> TokenId {
    let mut left = uniform * weights.chunks(CHUNK).map(chunk_sum).sum::<f64>();
    let mut last = 0;
    for (index, chunk) in weights.chunks(CHUNK).enumerate() {
        let sum = chunk_sum(chunk);
        if sum > 0.0 {
            last = index;
        }
        if left < sum {
            break;
        }
        left -= sum;
    }
    let chunk = weights.chunks(CHUNK).nth(last).unwrap_or(&[]);
    let drawn = chunk.iter().position(|&weight| {
        left -= f64::from(weight);
        left < 0.0
    });
    // Rounding may leave a sliver past the end: the last possible token has it.
    let within = drawn.or_else(|| chunk.iter().rposition(|&weight| weight > 0.0)).unwrap_or(0);
    (last * CHUNK + within) as TokenId
}

/// What a draw depends on beside logits and parameters: a number in [0, 1) from (seed, position in the output), by
/// two rounds of the splitmix64 finaliser (Steele et al. 2014).
pub fn uniform(seed: u64, position: u64) -> f64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (mix(mix(seed) ^ position) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_fills_its_range() {
        let mut buckets = [0; 16];
        for position in 0..16_000 {
            let u = uniform(7, position);
            assert!((0.0..1.0).contains(&u));
            buckets[(u * 16.0) as usize] += 1;
        }
        // Mean 1000, standard deviation 31.
        assert!(buckets.iter().all(|count| (850..1150).contains(count)), "{buckets:?}");
    }
}
