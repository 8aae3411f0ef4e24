//! What bias, penalties and forbidden tokens do to single logits, as a list: a device applies the same list.

use super::SampleRow;
use super::passes::finite;
use crate::ids::TokenId;

/// What happens to one logit; several of one token happen one after another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Adds a bias.
    Add(f32),
    /// Divides what is positive and multiplies the rest.
    Scale(f32),
    /// Subtracts a penalty.
    Subtract(f32),
    /// Leaves minus infinity.
    Forbid,
}

impl Change {
    /// The logit after it. NaN and infinities count as [`super::sample`] says.
    #[inline]
    pub fn apply(self, logit: f32) -> f32 {
        let logit = finite(logit);
        match self {
            Self::Add(bias) => logit + bias,
            Self::Scale(by) if logit > 0.0 => logit / by,
            Self::Scale(by) => logit * by,
            Self::Subtract(penalty) => logit - penalty,
            Self::Forbid => f32::NEG_INFINITY,
        }
    }
}

/// Calls `each` with every change of a row, in order; tokens may lie outside the vocabulary. `seen` is memory to reuse.
pub fn changes(row: &SampleRow<'_>, seen: &mut Vec<TokenId>, mut each: impl FnMut(TokenId, Change)) {
    let params = row.params;
    for &(token, bias) in &params.logit_bias {
        each(token, Change::Add(bias));
    }
    let repetition = params.repetition_penalty;
    if repetition != 1.0 {
        seen.clear();
        seen.extend_from_slice(row.prompt);
        seen.extend_from_slice(row.output);
        seen.sort_unstable();
        seen.dedup();
        for &token in seen.iter() {
            each(token, Change::Scale(repetition));
        }
    }
    if params.presence_penalty != 0.0 || params.frequency_penalty != 0.0 {
        seen.clear();
        seen.extend_from_slice(row.output);
        seen.sort_unstable();
        for run in seen.chunk_by(|a, b| a == b) {
            let penalty = params.presence_penalty + params.frequency_penalty * run.len() as f32;
            each(run[0], Change::Subtract(penalty));
        }
    }
    for &token in row.forbidden {
        each(token, Change::Forbid);
    }
}
