//! Drafts: guesses of what comes next, so that one step may give several tokens.
//!
//! ```text
//! guess    the tokens after the last place where the longest end of the text stood before (prompt lookup, Saxena 2023)
//! length   argmax over k of (1 + p + … + p^k) / seconds(a step of k + 1 tokens)
//! p        share of right guesses so far, by how long an end was found again
//! ```
//! What is drawn does not depend on drafts: every position is drawn from by seed and place, and a wrong guess is run
//! anew. Answers that quote their prompt, as extraction's do, have long right guesses.

use quarry_core::ids::TokenId;
use quarry_core::limits::DRAFT_TOKENS_MAX;

/// Tokens of the text's end that are looked for at most; longer ends are no better guides.
pub const END_TOKENS_MAX: usize = 4;
/// Weight of a new observation in shares and times.
const WEIGHT: f64 = 0.1;
/// Tokens of a step below which its time is kept by their number: a draft and some rows beside it.
const STEP_TOKENS: usize = 32;
/// Tokens from which on a step shows what prefill costs.
const PREFILL_TOKENS_MIN: usize = 64;

/// Where the longest end of `tokens` (up to [`END_TOKENS_MAX`]) stood before, the last such place, and how long it is:
/// `tokens[place..]` came next. `None` where not even the last token was there before.
pub fn look_up(tokens: &[TokenId]) -> Option<(usize, usize)> {
    let (&last, before) = tokens.split_last()?;
    let mut best = None;
    for (index, _) in before.iter().enumerate().rev().filter(|(_, token)| **token == last) {
        let place = index + 1;
        let ends = before.iter().rev().zip(before[..index].iter().rev());
        let length = 1 + ends.take(END_TOKENS_MAX - 1).take_while(|(a, b)| a == b).count();
        if best.is_none_or(|(_, longest)| length > longest) {
            best = Some((place, length));
        }
        if length == END_TOKENS_MAX {
            break;
        }
    }
    best
}

/// How often one answer's guesses were right, by the length of the end that was found.
#[derive(Clone, Debug)]
pub struct Acceptance([f64; END_TOKENS_MAX]);

impl Default for Acceptance {
    fn default() -> Self {
        Self([0.3, 0.5, 0.7, 0.8])
    }
}

impl Acceptance {
    /// The share of right guesses after an end of `length`.
    pub fn share(&self, length: usize) -> f64 {
        self.0[length.clamp(1, END_TOKENS_MAX) - 1]
    }

    /// Of a draft of `drafted` tokens the first `accepted` were right.
    pub fn note(&mut self, length: usize, drafted: usize, accepted: usize) {
        let share = &mut self.0[length.clamp(1, END_TOKENS_MAX) - 1];
        for _ in 0..accepted {
            *share += WEIGHT * (1.0 - *share);
        }
        if accepted < drafted {
            *share -= WEIGHT * *share;
        }
        // A share of nothing would never be tried again.
        *share = share.clamp(0.05, 0.98);
    }
}

/// What steps cost on this machine, as measured; seconds.
#[derive(Clone, Debug, Default)]
pub struct StepCost {
    /// Steps without prefill by their tokens.
    by_tokens: [Option<f64>; STEP_TOKENS],
    /// A step without prefill, whatever its tokens.
    decode_s: Option<f64>,
    /// A prompt's token.
    prefill_token_s: Option<f64>,
}

/// Takes an observation in. One that is far off, from a machine that was busy elsewhere, counts as twice the old.
fn note(mean: &mut Option<f64>, seen: f64) {
    *mean = Some(mean.map_or(seen, |mean| mean + WEIGHT * (seen.min(2.0 * mean) - mean)));
}

impl StepCost {
    /// A step of so many tokens took so long; `is_prefill` where it computed part of a prompt.
    pub fn note(&mut self, tokens: usize, is_prefill: bool, seconds: f64) {
        if is_prefill {
            if tokens >= PREFILL_TOKENS_MIN {
                note(&mut self.prefill_token_s, seconds / tokens as f64);
            }
            return;
        }
        note(&mut self.decode_s, seconds);
        if let Some(mean) = self.by_tokens.get_mut(tokens) {
            note(mean, seconds);
        }
    }

    /// A step of decodes alone, once there was one.
    pub fn decode_s(&self) -> Option<f64> {
        self.decode_s
    }

    /// Prompt tokens a second, once some were computed.
    pub fn prefill_tokens_per_s(&self) -> Option<f64> {
        self.prefill_token_s.map(|seconds| 1.0 / seconds)
    }

    /// A step of so many tokens without prefill. Where none was measured: as long as the next smaller that was, or what
    /// prefill takes for as many tokens. `None` before any was.
    pub fn seconds(&self, tokens: usize) -> Option<f64> {
        let known = self.by_tokens.get(..=tokens.min(STEP_TOKENS - 1))?;
        if let Some(Some(seconds)) = known.get(tokens) {
            return Some(*seconds);
        }
        let smaller = known.iter().rev().find_map(|seconds| *seconds)?;
        Some(smaller.max(self.prefill_token_s? * tokens as f64))
    }

    /// The length of draft that makes most tokens a second, for a row beside `others` other rows of one token and
    /// `prefill_s` of prompts in the same step, if a guess is right with `share`.
    pub fn best_length(&self, others: usize, prefill_s: f64, share: f64) -> usize {
        let mut best = (0, 0.0);
        let (mut expected, mut reached) = (0.0, 1.0);
        for length in 0..=DRAFT_TOKENS_MAX {
            expected += reached;
            reached *= share;
            let Some(seconds) = self.seconds(others + 1 + length) else { break };
            let rate = (others as f64 + expected) / (prefill_s + seconds).max(f64::MIN_POSITIVE);
            if rate > best.1 {
                best = (length, rate);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_end_is_found_and_of_equals_the_last() {
        for (tokens, expected) in [
            (&[][..], None),
            (&[1], None),
            (&[1, 2, 3], None),
            (&[5, 1, 5], Some((1, 1))),
            (&[1, 2, 7, 2, 8, 1, 2], Some((2, 2))),
            (&[1, 2, 7, 1, 2, 8, 1, 2], Some((5, 2))),
            (&[9, 1, 2, 3, 4, 7, 3, 4, 8, 1, 2, 3, 4], Some((5, 4))),
            (&[4, 4, 4, 4, 4, 4], Some((5, 4))),
        ] {
            assert_eq!(look_up(tokens), expected, "{tokens:?}");
        }
    }

    #[test]
    fn drafts_are_as_long_as_they_pay() {
        let mut cost = StepCost::default();
        assert_eq!(cost.best_length(0, 0.0, 0.9), 0, "nothing is known yet");
        cost.note(512, true, 0.512);
        cost.note(1, false, 0.012);
        // Reading weights takes as long as computing twelve tokens: more are free up to there.
        assert_eq!(cost.best_length(0, 0.0, 0.98), 11);
        assert_eq!(cost.best_length(0, 0.0, 0.3), 11, "what costs nothing is tried");
        // Beside twelve other tokens the next costs time, and is worth it only where it is likely right.
        assert_eq!(cost.best_length(12, 0.0, 0.05), 0);
        // Beside prompts that take long anyway it is.
        assert!(cost.best_length(12, 10.0, 0.5) > 5);
        cost.note(12, false, 0.030);
        assert!(cost.best_length(0, 0.0, 0.3) < 11);
        // Where one token takes as long to compute as to read, a guess never pays.
        let mut slow = StepCost::default();
        slow.note(100, true, 10.0);
        slow.note(1, false, 0.1);
        assert_eq!(slow.best_length(0, 0.0, 0.9), 0);
    }

    #[test]
    fn a_stall_does_not_end_drafts() {
        let mut cost = StepCost::default();
        cost.note(512, true, 0.5);
        for tokens in [1, 4] {
            cost.note(tokens, false, 0.012);
        }
        cost.note(4, false, 5.0);
        assert!(cost.seconds(4).unwrap() < 0.015);
    }

    #[test]
    fn shares_follow_what_happens() {
        let mut acceptance = Acceptance::default();
        let before = acceptance.share(2);
        acceptance.note(2, 8, 8);
        assert!(acceptance.share(2) > before && acceptance.share(1) == 0.3);
        for _ in 0..100 {
            acceptance.note(1, 1, 0);
        }
        assert_eq!(acceptance.share(1), 0.05);
    }
}
