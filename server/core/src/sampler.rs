//! Drawing a token from logits: one pure function that every executor calls and device sampling must equal.
//!
//! Order: log-sum-exp of the raw logits (for the log-probability) → bias → penalties → forbidden and mask →
//! greedy, or temperature → top-k → min-p → top-p → a draw by a counter-based generator, so that the same
//! (seed, output position, logits) always give the same token, whatever ran beside it.

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
}

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Its log-probability under the raw logits (natural log, before penalties and mask).
    pub logprob: f32,
}

/// Memory reused between draws.
#[derive(Debug, Default)]
pub struct Scratch {
    seen: Vec<TokenId>,
    candidates: Vec<(f32, TokenId)>,
}

/// Draws one token. `logits` has one entry per vocabulary token and is overwritten.
///
/// Never fails: NaN counts as minus infinity; where mask and forbidden leave nothing, the answer is token 0 with
/// log-probability minus infinity, which a caller that keeps its masks non-empty never sees.
pub fn sample(logits: &mut [f32], row: &SampleRow<'_>, scratch: &mut Scratch) -> Sampled {
    for logit in logits.iter_mut().filter(|logit| logit.is_nan()) {
        *logit = f32::NEG_INFINITY;
    }
    let normaliser = log_sum_exp(logits);
    let params = row.params;
    // The drawn token's raw logit is needed after penalties changed the array: undo is cheaper than a copy.
    let changes = adjust(logits, row, scratch);
    let token = if params.temperature == 0.0 { greedy(logits, row.mask) } else { draw(logits, row, scratch) };
    let raw = changes
        .iter()
        .find(|(t, _)| *t == token)
        .map_or_else(|| logits.get(token as usize).copied(), |c| Some(c.1));
    let logprob = raw.unwrap_or(f32::NEG_INFINITY) - normaliser;
    Sampled { token, logprob: if logprob.is_nan() { f32::NEG_INFINITY } else { logprob } }
}

/// Applies bias, penalties and forbidden tokens; returns the raw logits of the tokens it touched.
fn adjust(logits: &mut [f32], row: &SampleRow<'_>, scratch: &mut Scratch) -> Vec<(TokenId, f32)> {
    let params = row.params;
    let penalised =
        params.repetition_penalty != 1.0 || params.presence_penalty != 0.0 || params.frequency_penalty != 0.0;
    let mut raw = Vec::new();
    let touch =
        |logits: &mut [f32], raw: &mut Vec<(TokenId, f32)>, token: TokenId, f: &dyn Fn(f32) -> f32| {
            if let Some(logit) = logits.get_mut(token as usize) {
                raw.push((token, *logit));
                *logit = f(*logit);
            }
        };
    for &(token, bias) in &params.logit_bias {
        touch(logits, &mut raw, token, &|x| x + bias);
    }
    if penalised {
        scratch.seen.clear();
        scratch.seen.extend_from_slice(row.output);
        scratch.seen.sort_unstable();
        for run in scratch.seen.chunk_by(|a, b| a == b) {
            let count = run.len() as f32;
            touch(logits, &mut raw, run[0], &|x| {
                x - params.presence_penalty - params.frequency_penalty * count
            });
        }
        if params.repetition_penalty != 1.0 {
            scratch.seen.extend_from_slice(row.prompt);
            scratch.seen.sort_unstable();
            scratch.seen.dedup();
            let penalty = params.repetition_penalty;
            for &token in &scratch.seen {
                touch(logits, &mut raw, token, &|x| if x > 0.0 { x / penalty } else { x * penalty });
            }
        }
    }
    for &token in row.forbidden {
        touch(logits, &mut raw, token, &|_| f32::NEG_INFINITY);
    }
    raw
}

fn allowed(mask: Option<&[u32]>, token: usize) -> bool {
    mask.is_none_or(|mask| mask.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1))
}

/// The largest allowed logit; of equals the lowest id.
fn greedy(logits: &[f32], mask: Option<&[u32]>) -> TokenId {
    let mut best = (f32::NEG_INFINITY, 0);
    for (token, &logit) in logits.iter().enumerate() {
        if logit > best.0 && allowed(mask, token) {
            best = (logit, token);
        }
    }
    if best.0 == f32::NEG_INFINITY {
        // Every allowed logit is minus infinity: the first allowed token still keeps the output valid.
        best.1 = (0..logits.len()).find(|&t| allowed(mask, t)).unwrap_or(0);
    }
    best.1 as TokenId
}

fn draw(logits: &[f32], row: &SampleRow<'_>, scratch: &mut Scratch) -> TokenId {
    let params = row.params;
    let candidates = &mut scratch.candidates;
    candidates.clear();
    let finite = |&(token, &logit): &(usize, &f32)| logit > f32::NEG_INFINITY && allowed(row.mask, token);
    candidates
        .extend(logits.iter().enumerate().filter(finite).map(|(token, &logit)| (logit, token as TokenId)));
    if candidates.is_empty() {
        return greedy(logits, row.mask);
    }
    // Descending by logit, then ascending by id: a total order, so that ties are the same everywhere.
    let order = |a: &(f32, TokenId), b: &(f32, TokenId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let top_k = params.top_k as usize;
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, order);
        candidates.truncate(top_k);
    }
    let max = candidates.iter().fold(f32::NEG_INFINITY, |m, c| m.max(c.0));
    let weight = |logit: f32| ((logit - max) / params.temperature).exp();
    if params.min_p > 0.0 {
        candidates.retain(|c| weight(c.0) >= params.min_p);
    }
    candidates.sort_unstable_by(order);
    let mut total: f32 = candidates.iter().map(|c| weight(c.0)).sum();
    if params.top_p < 1.0 {
        let mut kept = 0.0;
        let cut = candidates.iter().position(|c| {
            kept += weight(c.0);
            kept >= params.top_p * total
        });
        candidates.truncate(cut.map_or(candidates.len(), |cut| cut + 1));
        total = candidates.iter().map(|c| weight(c.0)).sum();
    }
    let mut left = uniform(params.seed, row.output.len() as u64) * total;
    for &(logit, token) in candidates.iter() {
        left -= weight(logit);
        if left < 0.0 {
            return token;
        }
    }
    candidates.last().map_or(0, |c| c.1)
}

/// A number in [0, 1) from (seed, position): two rounds of the splitmix64 finaliser (Steele et al. 2014).
fn uniform(seed: u64, position: u64) -> f32 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (mix(mix(seed) ^ position) >> 40) as f32 / (1u64 << 24) as f32
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    if !max.is_finite() {
        return max;
    }
    max + logits.iter().map(|&x| (x - max).exp()).sum::<f32>().ln()
}
