//! What the edge asks for and what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quarry_core::ids::{RequestId, TokenId};
pub use quarry_core::plan::FinishReason;
use quarry_core::plan::RefusedReason;
use quarry_core::request::{RequestError, SamplingParams};
use quarry_text::constraint::{ConstraintError, ConstraintSpec};
use tokio::sync::mpsc;

use crate::inbox::Inbox;
use crate::opening::ServedModel;

/// One generation, every default resolved by the edge but those that depend on the model.
#[derive(Clone)]
pub struct Generate {
    /// Which model.
    pub model: Arc<ServedModel>,
    /// The prompt's tokens, at least one.
    pub prompt: Vec<TokenId>,
    /// How to draw.
    pub sampling: SamplingParams,
    /// Output tokens at most; `None` is what the context leaves.
    pub tokens_max: Option<u32>,
    /// No stop token before this many.
    pub tokens_min: u32,
    /// Stop tokens beside the model's own.
    pub stop_tokens: Vec<TokenId>,
    /// Do not stop at the model's own end tokens.
    pub ignore_eos: bool,
    /// Strings that end the output and are not part of it.
    pub stop_strings: Vec<String>,
    /// What the output must satisfy.
    pub constraint: Option<ConstraintSpec>,
    /// Take tokens that the constraint forces without drawing them; `None` does as the engine's options say.
    pub forced_tokens: Option<bool>,
    /// Guess what comes next from prompt and output, and check guesses in the same step; `None` does
    /// as the engine's options say. Changes speed alone.
    pub drafts: Option<bool>,
    /// Smaller runs earlier.
    pub priority: i32,
    /// When the answer must be complete; what is not by then ends with [`FinishReason::Deadline`].
    pub deadline: Option<Instant>,
    /// Whose request it is: clients share the engine fairly.
    pub client: u64,
    /// Prefix blocks are shared only between equal salts.
    pub cache_salt: u64,
    /// For logs.
    pub request_id: String,
}

/// Tokens of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Of these, from the prefix cache.
    pub cached_tokens: u32,
    /// Output tokens; a final stop token is not counted.
    pub completion_tokens: u32,
}

/// What a [`Generation`] yields. `Finished` or `Failed` is the last.
#[derive(Debug)]
pub enum GenerationEvent {
    /// New text, never half a character, never part of a stop string.
    Text {
        /// May be empty only where tokens carried no whole character yet; such events are not sent.
        text: String,
        /// Tokens since the last event.
        tokens: u32,
    },
    /// The end.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Token counts.
        usage: Usage,
    },
    /// The engine could not go on.
    Failed(GenerateError),
}

/// Why a generation did not start.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Too much is queued.
    #[error("the queue is full ({queued} requests wait); try again in {retry_after_s} s")]
    QueueFull {
        /// Requests waiting.
        queued: usize,
        /// A fair guess.
        retry_after_s: u32,
    },
    /// Draining.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// Loading or reloading.
    #[error("the model is not ready")]
    NotReady,
    /// The model is going.
    #[error("the model is being unloaded")]
    Unloading,
    /// No room for one output token.
    #[error("the prompt has {prompt_tokens} tokens, the model takes at most {prompt_tokens_max}")]
    PromptTooLong {
        /// As sent.
        prompt_tokens: u32,
        /// The bound.
        prompt_tokens_max: u32,
    },
    /// A parameter is out of range.
    #[error(transparent)]
    Invalid(#[from] RequestError),
    /// The schema cannot be enforced.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

/// Why a generation broke off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// The scheduler did not admit it.
    #[error("not admitted: {0:?}")]
    Refused(RefusedReason),
    /// The model's weights could not be loaded.
    #[error("the model could not be loaded: {0}")]
    ModelFailed(String),
    /// The time that it had after a shutdown was asked is over.
    #[error("the server shut down before the answer was complete")]
    ShutDown,
    /// The device or the model failed in mid-flight.
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// A running generation. Dropping it cancels: its blocks are free in the next step.
pub struct Generation {
    pub(crate) id: RequestId,
    pub(crate) events: mpsc::Receiver<GenerationEvent>,
    pub(crate) inbox: Arc<Inbox>,
    /// Seen by a step in flight.
    pub(crate) is_cancelled: Arc<AtomicBool>,
    pub(crate) ended: bool,
}

impl Generation {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await;
        match &event {
            Some(GenerationEvent::Text { .. }) => {}
            Some(_) => self.ended = true,
            None => {
                self.ended = true;
                let lost = GenerateError::Engine("the engine stopped without an answer".into());
                return Some(GenerationEvent::Failed(lost));
            }
        }
        event
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.ended {
            self.is_cancelled.store(true, Ordering::Release);
            self.inbox.cancel(self.id);
        }
    }
}
