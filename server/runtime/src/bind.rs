//! Binding: what one request needs beside the pure engine. Detokenizer, stop strings, constraint, client, times.
//!
//! The scheduler knows tokens and blocks; a [`Job`] knows what they mean to the client. After a draw,
//! [`Job::take`] turns the token and those the constraint forces into text and the verdict for the scheduler.

use std::sync::Arc;
use std::time::Instant;

use quarry_core::ids::{RequestId, SequenceId, TokenId};
use quarry_core::plan::{FinishReason, Finished, RowOutcome};
use quarry_core::request::Request;
use quarry_text::constraint::Constraint;
use quarry_text::detokenizer::Detokenizer;
use quarry_text::stop::StopMatcher;
use tokio::sync::mpsc;

use crate::generate::{GenerateError, GenerationEvent, Usage};
use crate::model_host::ServedModel;
use crate::observe::RequestStats;

/// One request in the engine's hands.
pub struct Job {
    /// Moves into the scheduler with the submit event.
    pub request: Option<Request>,
    pub id: RequestId,
    pub model: Arc<ServedModel>,
    pub events: mpsc::Sender<GenerationEvent>,
    pub detokenizer: Detokenizer,
    pub stops: StopMatcher,
    pub constraint: Option<Constraint>,
    /// The allowed tokens of the next draw; reused.
    pub mask: Vec<u32>,
    /// Tokens that end the output, as the scheduler was told.
    pub stop_tokens: Vec<TokenId>,
    pub tokens_min: u32,
    pub tokens_max: u32,
    pub output_tokens: u32,
    /// Tokens whose text is not sent yet.
    pub tokens_unsent: u32,
    pub times: Times,
    /// For logs.
    pub request_id: String,
}

/// When things happened.
pub struct Times {
    pub arrived: Instant,
    pub scheduled: Option<Instant>,
    pub first_token: Option<Instant>,
    pub last_token: Option<Instant>,
    pub between_s: Vec<f32>,
}

impl Times {
    pub fn new() -> Self {
        Self {
            arrived: Instant::now(),
            scheduled: None,
            first_token: None,
            last_token: None,
            between_s: Vec::new(),
        }
    }
}

impl Job {
    /// Fills [`Job::mask`] for the next draw; false where nothing is constrained.
    pub fn prepare_mask(&mut self) -> Result<bool, GenerateError> {
        let Some(constraint) = &mut self.constraint else { return Ok(false) };
        constraint.mask(&mut self.mask).map_err(|e| GenerateError::Engine(e.to_string()))?;
        Ok(true)
    }

    /// Takes a drawn token: advances the constraint, sends text, looks for stop strings.
    pub fn take(&mut self, sequence: SequenceId, token: TokenId, now: Instant) -> RowOutcome {
        self.note_time(now);
        let mut outcome = RowOutcome { sequence, token, forced: Vec::new(), finish: None };
        if self.stop_tokens.contains(&token) && self.output_tokens >= self.tokens_min {
            return outcome; // the scheduler ends it; a stop token has no text
        }
        let mut complete = false;
        if let Some(constraint) = &mut self.constraint {
            match constraint.commit(token).and_then(|()| constraint.forced()) {
                Ok(forced) => {
                    let room = self.tokens_max.saturating_sub(self.output_tokens + 1) as usize;
                    outcome.forced = forced;
                    complete = constraint.is_complete();
                    if outcome.forced.len() > room {
                        outcome.forced.truncate(room);
                        complete = false; // the scheduler ends it for length
                    }
                }
                Err(error) => {
                    tracing::error!(request_id = %self.request_id, %error, "the constraint cannot go on");
                    outcome.finish = Some(FinishReason::Failed);
                    return outcome;
                }
            }
        }
        let mut text = String::new();
        let mut stopped = false;
        let mut taken = 0;
        for token in std::iter::once(token).chain(outcome.forced.iter().copied()) {
            taken += 1;
            let step = self.stops.push(&self.detokenizer.push(token));
            text.push_str(&step.emit);
            if step.stopped {
                stopped = true;
                break;
            }
        }
        outcome.forced.truncate(taken - 1);
        self.output_tokens += taken as u32;
        self.tokens_unsent += taken as u32;
        if !text.is_empty() {
            self.send(GenerationEvent::Text { text, tokens: self.tokens_unsent });
            self.tokens_unsent = 0;
        }
        if stopped || complete {
            outcome.finish = Some(FinishReason::Stop);
        }
        outcome
    }

    /// The scheduler ended the sequence: sends what was held back and the end.
    pub fn finish(mut self, finished: &Finished) -> RequestStats {
        if finished.reason == FinishReason::Failed {
            self.send(GenerationEvent::Failed(GenerateError::Engine("the step failed".into())));
        } else {
            self.flush_text();
            let usage = Usage {
                prompt_tokens: finished.prompt_tokens,
                cached_tokens: finished.cached_tokens,
                completion_tokens: finished.output_tokens,
            };
            self.send(GenerationEvent::Finished { reason: finished.reason, usage });
        }
        self.stats(finished)
    }

    /// The engine could not go on with it.
    pub fn fail(self, error: GenerateError) {
        self.send(GenerationEvent::Failed(error));
    }

    fn flush_text(&mut self) {
        if self.stops.stopped() {
            return;
        }
        let rest = self.detokenizer.finish();
        let step = self.stops.push(&rest);
        let mut text = step.emit;
        if !step.stopped {
            text.push_str(&self.stops.finish());
        }
        if !text.is_empty() {
            self.send(GenerationEvent::Text { text, tokens: self.tokens_unsent });
        }
    }

    fn note_time(&mut self, now: Instant) {
        if let Some(last) = self.times.last_token {
            self.times.between_s.push(now.duration_since(last).as_secs_f32());
        }
        self.times.first_token.get_or_insert(now);
        self.times.last_token = Some(now);
    }

    /// The channel holds every event one request can have, so it is never full; a closed one is a client gone,
    /// and its cancel is in the mailbox.
    fn send(&self, event: GenerationEvent) {
        let _ = self.events.try_send(event);
    }

    fn stats(&self, finished: &Finished) -> RequestStats {
        let now = Instant::now();
        let times = &self.times;
        let scheduled = times.scheduled.unwrap_or(now);
        let first = times.first_token.unwrap_or(now);
        RequestStats {
            model: self.model.name.clone(),
            reason: finished.reason,
            prompt_tokens: finished.prompt_tokens,
            cached_tokens: finished.cached_tokens,
            completion_tokens: finished.output_tokens,
            tokens_max: self.tokens_max,
            queue_s: scheduled.duration_since(times.arrived).as_secs_f64(),
            prefill_s: first.duration_since(scheduled).as_secs_f64(),
            decode_s: now.duration_since(first).as_secs_f64(),
            ttft_s: times.first_token.map(|t| t.duration_since(times.arrived).as_secs_f64()),
            e2e_s: now.duration_since(times.arrived).as_secs_f64(),
            inter_token_s: times.between_s.clone(),
        }
    }
}
