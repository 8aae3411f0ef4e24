//! A request as the engine sees it: every default resolved, every limit checked, nothing optional left open.

use crate::ids::{ModelId, RequestId, Tick, TokenId};

/// How the next token is drawn. Defaults are neutral: no penalty, no truncation.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy. Range 0..=2.
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens whose probabilities sum to at least `top_p`; 1 keeps all. Range (0, 1].
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the most likely one; 0 drops none. Range [0, 1].
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or output; 1 is neutral.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of each token seen in the output. Range -2..=2.
    pub presence_penalty: f32,
    /// Subtracted per occurrence in the output. Range -2..=2.
    pub frequency_penalty: f32,
    /// Added to the logits of single tokens. Range -100..=100.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Every draw is a pure function of (seed, position in the output, logits).
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// The fields of a [`Request`] before they are checked.
#[derive(Clone, Debug)]
pub struct RequestParts {
    /// Unique among live requests.
    pub id: RequestId,
    /// The model that shall answer.
    pub model: ModelId,
    /// The whole prompt, at least one token.
    pub prompt: Vec<TokenId>,
    /// Draw parameters.
    pub sampling: SamplingParams,
    /// Output tokens at most, at least 1; prompt + output never exceed the model's context.
    pub tokens_max: u32,
    /// No stop token is drawn before this many output tokens.
    pub tokens_min: u32,
    /// Tokens that end the output and are not part of it.
    pub stop_tokens: Vec<TokenId>,
    /// Smaller runs earlier; requests of equal priority share the engine fairly between clients.
    pub priority: i32,
    /// When the answer must be complete: what is not by then ends with [`crate::plan::FinishReason::Deadline`].
    pub deadline: Option<Tick>,
    /// Whose request it is, as far as fairness between clients goes.
    pub client: u64,
    /// Prefix-cache salt: blocks are shared only between requests with equal salt.
    pub cache_salt: u64,
}

/// Why [`Request::new`] refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RequestError {
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("tokens_max is 0: at least one output token must be allowed")]
    NoOutput,
    #[error("{name} is {value}, outside {range}")]
    OutOfRange { name: &'static str, value: f32, range: &'static str },
    #[error("logit_bias has {count} entries, more than {max}")]
    TooManyBiases { count: usize, max: usize },
}

/// Entries of `logit_bias` at most.
pub const LOGIT_BIAS_MAX: usize = 1024;

/// A checked request. Private fields, one constructor.
#[derive(Clone, Debug)]
pub struct Request {
    parts: RequestParts,
}

impl Request {
    /// Checks ranges; see [`SamplingParams`] for them.
    ///
    /// # Errors
    /// [`RequestError`] names the offending field.
    pub fn new(parts: RequestParts) -> Result<Self, RequestError> {
        if parts.prompt.is_empty() {
            return Err(RequestError::EmptyPrompt);
        }
        if parts.tokens_max == 0 {
            return Err(RequestError::NoOutput);
        }
        let s = &parts.sampling;
        let check = |name, value: f32, ok: bool, range| {
            if ok { Ok(()) } else { Err(RequestError::OutOfRange { name, value, range }) }
        };
        check("temperature", s.temperature, (0.0..=2.0).contains(&s.temperature), "0..=2")?;
        check("top_p", s.top_p, s.top_p > 0.0 && s.top_p <= 1.0, "(0, 1]")?;
        check("min_p", s.min_p, (0.0..=1.0).contains(&s.min_p), "0..=1")?;
        let penalty = s.repetition_penalty;
        check("repetition_penalty", penalty, penalty > 0.0 && penalty <= 10.0, "(0, 10]")?;
        let presence = s.presence_penalty;
        check("presence_penalty", presence, (-2.0..=2.0).contains(&presence), "-2..=2")?;
        let frequency = s.frequency_penalty;
        check("frequency_penalty", frequency, (-2.0..=2.0).contains(&frequency), "-2..=2")?;
        for &(_, bias) in &s.logit_bias {
            check("logit_bias", bias, (-100.0..=100.0).contains(&bias), "-100..=100")?;
        }
        if s.logit_bias.len() > LOGIT_BIAS_MAX {
            return Err(RequestError::TooManyBiases { count: s.logit_bias.len(), max: LOGIT_BIAS_MAX });
        }
        Ok(Self { parts })
    }

    /// The checked fields.
    pub fn parts(&self) -> &RequestParts {
        &self.parts
    }

    /// Gives the fields back, for the sequence that takes them over.
    pub fn into_parts(self) -> RequestParts {
        self.parts
    }
}
