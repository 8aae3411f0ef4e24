//! Device memory for drawing tokens.

/// Changes of logits that are sent at once, all rows together: 4 MiB.
const CHANGES_MAX: usize = 1 << 18;
/// 32-bit words of a row's orders.
pub const ROW_WORDS: usize = 12;
/// 32-bit words of a change of a logit.
const CHANGE_WORDS: usize = 4;
/// 32-bit words of what makes a log-probability.
pub const LOGPROB_WORDS: usize = 4;

/// Room for drawing some rows at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrawRoom {
    /// Logits of a row.
    pub vocab: usize,
    /// Changes of logits, all rows together, at most.
    pub changes_max: usize,
    /// Where, after the tokens, what makes log-probabilities begins, in bytes.
    pub logprobs: usize,
    /// Where what the host sends begins, in bytes.
    pub sent: usize,
    /// In all.
    pub bytes: usize,
}

impl DrawRoom {
    /// For so many rows of `vocab` logits.
    pub fn plan(rows: usize, vocab: usize) -> Self {
        // Twice the vocabulary for each row is what penalties alone may need.
        let changes_max = CHANGES_MAX.min(rows * 2 * vocab);
        let logprobs = (rows * 4).next_multiple_of(16);
        let sent = logprobs + rows * LOGPROB_WORDS * 4;
        let words = rows * (ROW_WORDS + vocab.div_ceil(32)) + changes_max * CHANGE_WORDS;
        Self { vocab, changes_max, logprobs, sent, bytes: sent + words * 4 }
    }
}
