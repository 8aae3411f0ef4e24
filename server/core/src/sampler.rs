//! Drawing a token from logits: one pure function that every executor calls and device sampling must equal.

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
