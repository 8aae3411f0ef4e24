//! Prefill: who of those with a prompt to compute gets how much of a step.
//!
//! ```text
//! beside decodes    tokens = prefill rate × max(step_us_max, two steps of decodes), in whole blocks
//! alone             all that a step may carry
//! best rank         at least half of it, so that it is never overtaken for ever
//! the others        what is left, fewest tokens first: a short prompt does not wait for the end of a long one
//! ```
//! Up to [`PREFILLS_MAX`] prompts take turns; the others wait without KV.

use crate::ids::{ModelId, SequenceId};
use crate::limits::PREFILLS_MAX;
use crate::plan::StepPlan;
use crate::scheduler::{Budget, Model, Scheduler};
use crate::sequence::Sequence;

impl Scheduler {
    /// Admits who waits and plans chunks of prompts into the budget. `prefills` are on the device, best rank first.
    pub(crate) fn plan_prefills(
        &mut self,
        model: ModelId,
        mut prefills: Vec<SequenceId>,
        budget: &mut Budget,
        plan: &mut StepPlan,
    ) {
        let Some(known) = self.models.get(&model) else { return };
        if !plan.rows.is_empty() {
            budget.tokens = budget.tokens.min(chunk_tokens(known, self.limits.step_us_max));
        }
        while budget.tokens > 0 && prefills.len() < PREFILLS_MAX.min(budget.rows as usize) {
            let Some(id) = self.next_waiting(model) else { break };
            if self.outranked_by_host(id) || !self.admit(id, self.reserved(&prefills), plan) {
                break;
            }
            // One whose prefix comes from the host pool first waits for that.
            if self.sequences.get(&id).is_some_and(Sequence::is_runnable) {
                prefills.push(id);
            }
        }
        prefills.sort_unstable_by_key(|id| self.sequences.get(id).map(|s| s.rank()));
        prefills.truncate(PREFILLS_MAX);
        let remaining = |id: &SequenceId| self.sequences.get(id).map_or(0, |s| s.remaining());
        let shares = shares(&prefills.iter().map(remaining).collect::<Vec<_>>(), budget.tokens);
        for (id, share) in prefills.into_iter().zip(shares) {
            self.plan_row(id, share, budget, plan);
        }
    }

    /// Blocks that these sequences' known tokens still need.
    fn reserved(&self, ids: &[SequenceId]) -> usize {
        let needed = |id: &SequenceId| {
            let Some(sequence) = self.sequences.get(id) else { return 0 };
            let Some(model) = self.models.get(&sequence.model()) else { return 0 };
            let all = sequence.tokens.len().div_ceil(model.pool.block_tokens());
            all.saturating_sub(sequence.blocks.len())
        };
        ids.iter().map(needed).sum()
    }
}

/// Prompt tokens of a step beside decodes: whole blocks, at least one, and all of a step before speed was measured.
fn chunk_tokens(model: &Model, step_us_max: u64) -> u32 {
    let setup = &model.setup;
    let Some(rates) = model.rates else { return setup.step_tokens_max };
    // No decode had a step of its own yet where prompts have filled all of them.
    let decode_s = rates.decode_step_s.unwrap_or(0.0);
    let span_s = (step_us_max as f64 / 1e6).max(2.0 * decode_s);
    // A float that is no number, or too large, becomes the nearest that an integer has.
    let tokens = (span_s * rates.prefill_tokens_per_s) as u32;
    let blocks = (tokens / setup.block_tokens).max(1);
    blocks.saturating_mul(setup.block_tokens).min(setup.step_tokens_max)
}

/// How `budget` tokens are shared by prompts with so many `remaining` tokens, best rank first.
fn shares(remaining: &[u32], budget: u32) -> Vec<u32> {
    let mut shares = vec![0; remaining.len()];
    let Some(&first) = remaining.first() else { return shares };
    shares[0] = first.min(budget.div_ceil(2));
    let mut left = budget - shares[0];
    let mut others: Vec<usize> = (1..remaining.len()).collect();
    others.sort_by_key(|&index| remaining[index]); // stable: of equals the better rank
    for index in others {
        shares[index] = remaining[index].min(left);
        left -= shares[index];
    }
    shares[0] += (first - shares[0]).min(left);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rank_has_half_and_the_shortest_comes_next() {
        for (remaining, budget, expected) in [
            (&[][..], 100, &[][..]),
            (&[500], 100, &[100]),
            (&[500, 500], 100, &[50, 50]),
            (&[500, 400, 30], 100, &[50, 20, 30]),
            (&[10, 400, 30], 100, &[10, 60, 30]),
            (&[500, 10, 20], 100, &[70, 10, 20]),
            (&[5, 5], 100, &[5, 5]),
            (&[500, 500], 1, &[1, 0]),
        ] {
            assert_eq!(shares(remaining, budget), expected, "{remaining:?} of {budget}");
        }
    }
}
