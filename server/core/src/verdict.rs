//! When an answer ends: the one place that weighs stop tokens, stop strings, the constraint, the shortest and the longest
//! answer. Whoever carries out steps asks it token by token; the scheduler takes what it says.
//!
//! ```text
//! per token    a stop token past the minimum ends the answer and is no part of it
//!              a token for which there is no room ends it: Length
//! then         the text holds a stop string, or the constraint is complete: Stop
//!              the answer is full: Length
//! ```

use crate::ids::TokenId;
use crate::plan::FinishReason;
use crate::request::RequestParts;

/// One answer's length and end.
#[derive(Clone, Debug)]
pub struct Verdict {
    stop_tokens: Vec<TokenId>,
    tokens_min: u32,
    tokens_max: u32,
    tokens: u32,
    reason: Option<FinishReason>,
}

impl Verdict {
    /// For an answer of which nothing is there yet. `room` are the tokens that context and memory leave it.
    pub fn new(parts: &RequestParts, room: u32) -> Self {
        Self {
            stop_tokens: parts.stop_tokens.clone(),
            tokens_min: parts.tokens_min,
            tokens_max: parts.tokens_max.min(room),
            tokens: 0,
            reason: None,
        }
    }

    /// Whether the next token becomes part of the answer; where it does not, the answer has ended.
    pub fn takes(&mut self, token: TokenId) -> bool {
        if self.reason.is_some() {
            return false;
        }
        if self.tokens >= self.tokens_min && self.stop_tokens.contains(&token) {
            self.reason = Some(FinishReason::Stop);
        } else if self.tokens >= self.tokens_max {
            self.reason = Some(FinishReason::Length);
        } else {
            self.tokens += 1;
        }
        self.reason.is_none()
    }

    /// The text holds a stop string, or the constraint is complete.
    pub fn stop(&mut self) {
        self.reason.get_or_insert(FinishReason::Stop);
    }

    /// Nothing sensible can follow.
    pub fn fail(&mut self) {
        self.reason.get_or_insert(FinishReason::Failed);
    }

    /// Why the answer has ended, once all that a draw brought was taken.
    pub fn reason(&self) -> Option<FinishReason> {
        self.reason.or_else(|| (self.tokens >= self.tokens_max).then_some(FinishReason::Length))
    }

    /// Tokens of the answer.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Tokens that it may have.
    pub fn tokens_max(&self) -> u32 {
        self.tokens_max
    }

    /// Tokens that may not be drawn where the answer has so many: stop tokens before the minimum.
    pub fn forbidden(&self, tokens: u32) -> &[TokenId] {
        if tokens < self.tokens_min { &self.stop_tokens } else { &[] }
    }

    /// `draft` up to its first stop token: there is nothing behind that.
    pub fn cut(&self, draft: &mut Vec<TokenId>) {
        if let Some(stop) = draft.iter().position(|token| self.stop_tokens.contains(token)) {
            draft.truncate(stop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ModelId, RequestId};
    use crate::request::SamplingParams;

    fn verdict(tokens_min: u32, tokens_max: u32, room: u32) -> Verdict {
        let parts = RequestParts {
            id: RequestId(1),
            model: ModelId(0),
            prompt: vec![1],
            sampling: SamplingParams::default(),
            tokens_max,
            tokens_min,
            stop_tokens: vec![9, 8],
            priority: 0,
            deadline: None,
            client: 0,
            cache_salt: 0,
        };
        Verdict::new(&parts, room)
    }

    #[test]
    fn an_answer_ends_once_and_for_the_first_reason() {
        use FinishReason::{Length, Stop};
        // Minimum, maximum, room, what comes, tokens taken of it, why it ended.
        for (tokens_min, tokens_max, room, comes, taken, reason) in [
            (0, 5, 9, &[1, 2][..], 2, None),
            (0, 5, 9, &[1, 9, 2], 1, Some(Stop)),
            (2, 5, 9, &[9, 1, 8, 2], 2, Some(Stop)),
            (0, 3, 9, &[1, 2, 3], 3, Some(Length)),
            (0, 3, 9, &[1, 2, 3, 4], 3, Some(Length)),
            (0, 3, 9, &[1, 2, 3, 9], 3, Some(Stop)),
            (0, 9, 2, &[1, 2], 2, Some(Length)),
            (4, 2, 9, &[9, 8], 2, Some(Length)),
        ] {
            let mut verdict = verdict(tokens_min, tokens_max, room);
            let count = comes.iter().take_while(|token| verdict.takes(**token)).count();
            assert_eq!(
                (count, verdict.tokens(), verdict.reason()),
                (taken, taken as u32, reason),
                "{comes:?}"
            );
        }
    }

    #[test]
    fn text_and_constraint_stop_what_has_not_ended() {
        let mut full = verdict(0, 1, 9);
        assert!(full.takes(1));
        full.stop(); // complete with its last token: no answer cut short
        assert_eq!(full.reason(), Some(FinishReason::Stop));
        let mut cut = verdict(0, 1, 9);
        assert!(cut.takes(1) && !cut.takes(2));
        cut.stop();
        assert_eq!(cut.reason(), Some(FinishReason::Length));
        let mut broken = verdict(0, 5, 9);
        broken.fail();
        broken.stop();
        assert_eq!(broken.reason(), Some(FinishReason::Failed));
    }

    #[test]
    fn stop_tokens_are_forbidden_before_the_minimum_and_end_a_draft() {
        let verdict = verdict(2, 5, 9);
        assert_eq!(verdict.forbidden(1), [9, 8]);
        assert!(verdict.forbidden(2).is_empty());
        let mut draft = vec![1, 2, 8, 3];
        verdict.cut(&mut draft);
        assert_eq!(draft, [1, 2]);
    }
}
