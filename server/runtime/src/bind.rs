//! Binding: what one request needs beside the pure engine. Detokenizer, stop strings, constraint, client, times.
//!
//! The scheduler knows tokens and blocks; a [`Job`] knows what they mean to the client. After a step,
//! [`Job::take`] turns what was drawn, and what the constraint forces, into text and the verdict for the scheduler,
//! and [`Job::guess`] drafts what comes next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quarry_core::ids::{RequestId, SequenceId, TokenId};
use quarry_core::plan::{FinishReason, Finished, RowOutcome};
use quarry_core::request::{Request, SamplingParams};
use quarry_core::sampler::Sampled;
use quarry_core::verdict::Verdict;
use quarry_text::constraint::{Constraint, ConstraintError};
use quarry_text::detokenizer::Detokenizer;
use quarry_text::stop::StopMatcher;
use tokio::sync::mpsc;

use crate::drafts::{Acceptance, StepCost, look_up};
use crate::generate::{GenerateError, GenerationEvent, Usage};
use crate::observe::RequestStats;
use crate::opening::ServedModel;
use crate::queue::Reservation;

/// One request in the engine's hands.
pub struct Job {
    /// Moves into the scheduler with the submit event.
    pub request: Option<Request>,
    /// Given back when it first runs.
    pub reservation: Option<Reservation>,
    pub id: RequestId,
    pub model: Arc<ServedModel>,
    pub events: mpsc::Sender<GenerationEvent>,
    pub detokenizer: Detokenizer,
    pub stops: StopMatcher,
    pub constraint: Option<Constraint>,
    /// Whether tokens that the constraint forces are taken undrawn.
    pub is_forcing: bool,
    /// The allowed tokens of the next draw and of those behind a draft; reused.
    pub masks: Vec<Vec<u32>>,
    /// Prompt and output.
    pub tokens: Vec<TokenId>,
    /// How many of these are the prompt.
    pub prompt_tokens: usize,
    pub sampling: SamplingParams,
    pub is_drafting: bool,
    pub acceptance: Acceptance,
    /// How long an end of the text the draft was found by.
    pub draft_end: usize,
    pub verdict: Verdict,
    pub waiting: Waiting,
    /// Tokens whose text is not sent yet.
    pub tokens_unsent: u32,
    pub times: Times,
    /// For logs.
    pub request_id: String,
}

/// Whether anybody waits for the answer.
pub struct Waiting {
    /// Set once the client is gone.
    pub is_cancelled: Arc<AtomicBool>,
    /// When the answer must be complete.
    pub deadline: Option<Instant>,
}

impl Waiting {
    pub fn is_there(&self) -> bool {
        let is_late = self.deadline.is_some_and(|at| at <= Instant::now());
        !(is_late || self.is_cancelled.load(Ordering::Acquire))
    }
}

/// What a step gave a request.
pub struct Taken {
    pub outcome: RowOutcome,
    /// Tokens drawn, a stop token too.
    pub drawn: u32,
    /// Tokens that the constraint forced.
    pub forced: u32,
}

impl Taken {
    pub fn nothing(sequence: SequenceId) -> Self {
        Self { outcome: RowOutcome { sequence, ..RowOutcome::default() }, drawn: 0, forced: 0 }
    }
}

/// A constraint's way ahead of what was drawn.
#[derive(Default)]
struct Ahead {
    /// Tokens to roll back.
    committed: usize,
    /// Forced tokens, already taken, that must come next.
    forced: VecDeque<TokenId>,
}

impl Ahead {
    /// On by one token; false where the constraint does not allow it.
    fn push(
        &mut self,
        constraint: &mut Constraint,
        token: TokenId,
        is_forcing: bool,
    ) -> Result<bool, ConstraintError> {
        if let Some(forced) = self.forced.pop_front() {
            return Ok(forced == token);
        }
        if constraint.is_complete() || !constraint.allows(token)? {
            return Ok(false);
        }
        constraint.commit(token)?;
        self.committed += 1;
        if is_forcing {
            self.forced.extend(constraint.forced()?);
            self.committed += self.forced.len();
        }
        Ok(true)
    }
}

/// Appends guesses and what the constraint forces after them to `tokens`, up to a length of `until`.
fn guess_within(
    constraint: &mut Constraint,
    tokens: &mut Vec<TokenId>,
    until: usize,
    is_forcing: bool,
    ahead: &mut Ahead,
) -> Result<(), ConstraintError> {
    while tokens.len() < until {
        let Some((start, _)) = look_up(tokens) else { return Ok(()) };
        let before = tokens.len();
        for index in start..before {
            let token = tokens[index];
            if tokens.len() >= until || !ahead.push(constraint, token, is_forcing)? {
                break;
            }
            tokens.push(token);
            if !ahead.forced.is_empty() {
                // Past what is forced the text goes on elsewhere: look anew.
                tokens.extend(ahead.forced.drain(..));
                break;
            }
        }
        if tokens.len() == before {
            return Ok(());
        }
    }
    tokens.truncate(until);
    Ok(())
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
    /// Fills [`Job::masks`] for the next draw and for those behind the tokens of `draft`; nothing where nothing is
    /// constrained.
    pub fn prepare_masks(&mut self, draft: &[TokenId]) -> Result<(), ConstraintError> {
        let Some(constraint) = &mut self.constraint else { return Ok(()) };
        self.masks.resize_with(draft.len() + 1, Vec::new);
        let mut ahead = Ahead::default();
        let last = draft.len();
        for index in 0..=last {
            match ahead.forced.front() {
                // What is forced is not drawn: the cheapest mask.
                Some(&forced) => constraint.only(forced, &mut self.masks[index]),
                None => constraint.mask(&mut self.masks[index])?,
            }
            if index < last && !ahead.push(constraint, draft[index], self.is_forcing)? {
                // The draft is wrong here: what is drawn behind it is not looked at.
                self.masks[index + 1..].iter_mut().for_each(|mask| constraint.only(0, mask));
                break;
            }
        }
        constraint.roll_back(ahead.committed)
    }

    /// Takes what was drawn after the row and after each token of `draft`, as far as the draft is right: advances the
    /// constraint, sends text, looks for stop strings, and guesses on.
    pub fn take(
        &mut self,
        sequence: SequenceId,
        sampled: &[Sampled],
        draft: &[TokenId],
        now: Instant,
    ) -> Taken {
        self.note_time(now);
        let mut taken = Taken::nothing(sequence);
        let mut text = String::new();
        while taken.outcome.finish.is_none() && draft.starts_with(&taken.outcome.tokens) {
            let Some(sampled) = sampled.get(taken.outcome.tokens.len()) else { break };
            self.take_one(sampled.token, &mut taken, &mut text);
        }
        if !draft.is_empty() {
            self.acceptance.note(self.draft_end, draft.len(), taken.outcome.accepted(draft));
        }
        self.tokens.extend_from_slice(&taken.outcome.tokens);
        if !text.is_empty() {
            self.send(GenerationEvent::Text { text, tokens: self.tokens_unsent });
            self.tokens_unsent = 0;
        }
        taken
    }

    /// The step cannot go on with it.
    pub fn give_up(&mut self, sequence: SequenceId) -> Taken {
        self.verdict.fail();
        let mut taken = Taken::nothing(sequence);
        taken.outcome.finish = self.verdict.reason();
        taken
    }

    /// One drawn token and those forced after it.
    fn take_one(&mut self, token: TokenId, taken: &mut Taken, text: &mut String) {
        let Taken { outcome, drawn, forced } = taken;
        *drawn += 1;
        if !self.verdict.takes(token) {
            outcome.finish = self.verdict.reason();
            return; // a stop token has no text
        }
        let mut after = Vec::new();
        let mut is_complete = false;
        if let Some(constraint) = &mut self.constraint {
            let committed = constraint.commit(token);
            match committed.and_then(|()| if self.is_forcing { constraint.forced() } else { Ok(Vec::new()) })
            {
                Ok(tokens) => after = tokens,
                Err(error) => {
                    tracing::error!(request_id = %self.request_id, %error, "the constraint cannot go on");
                    self.verdict.fail();
                    outcome.finish = self.verdict.reason();
                    return;
                }
            }
            is_complete = constraint.is_complete();
        }
        let mut stopped = self.put(token, outcome, text);
        for token in after {
            if stopped || !self.verdict.takes(token) {
                break;
            }
            *forced += 1;
            stopped = self.put(token, outcome, text);
        }
        if stopped || is_complete {
            self.verdict.stop();
        }
        outcome.finish = self.verdict.reason();
    }

    /// Appends a token of the answer; whether its text completes a stop string.
    fn put(&mut self, token: TokenId, outcome: &mut RowOutcome, text: &mut String) -> bool {
        outcome.tokens.push(token);
        self.tokens_unsent += 1;
        let step = self.stops.push(&self.detokenizer.push(token));
        text.push_str(&step.emit);
        step.stopped
    }

    /// A guess of what comes next, as long as it pays beside `others` other rows and `prefill_s` of prompts; empty where
    /// none is wanted or nothing was found.
    pub fn guess(&mut self, cost: &StepCost, others: usize, prefill_s: f64) -> Vec<TokenId> {
        if !self.is_drafting {
            return Vec::new();
        }
        let known = self.tokens.len();
        let Some((start, end)) = look_up(&self.tokens) else { return Vec::new() };
        self.draft_end = end;
        let length = cost.best_length(others, prefill_s, self.acceptance.share(end));
        let guessed = match &mut self.constraint {
            _ if length == 0 => Ok(()),
            Some(constraint) => {
                let mut ahead = Ahead::default();
                let guessed =
                    guess_within(constraint, &mut self.tokens, known + length, self.is_forcing, &mut ahead);
                guessed.and_then(|()| constraint.roll_back(ahead.committed))
            }
            None => {
                let until = (start + length).min(known);
                self.tokens.extend_from_within(start..until);
                Ok(())
            }
        };
        let mut draft = self.tokens.split_off(known);
        if let Err(error) = guessed {
            tracing::error!(request_id = %self.request_id, %error, "no more drafts: the constraint broke");
            self.is_drafting = false;
            draft.clear();
        }
        self.verdict.cut(&mut draft);
        draft
    }

    /// The scheduler ended the sequence: sends what was held back and the end. `load_failure` says why the model is not
    /// there, if it is not.
    pub fn finish(mut self, finished: &Finished, load_failure: Option<String>) -> RequestStats {
        if finished.reason == FinishReason::Failed {
            let error = match load_failure {
                Some(what) => GenerateError::ModelFailed(what),
                None => GenerateError::Engine("the step failed".into()),
            };
            self.send(GenerationEvent::Failed(error));
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
            tokens_max: self.verdict.tokens_max(),
            queue_s: scheduled.duration_since(times.arrived).as_secs_f64(),
            prefill_s: first.duration_since(scheduled).as_secs_f64(),
            decode_s: now.duration_since(first).as_secs_f64(),
            ttft_s: times.first_token.map(|t| t.duration_since(times.arrived).as_secs_f64()),
            e2e_s: now.duration_since(times.arrived).as_secs_f64(),
            inter_token_s: times.between_s.clone(),
        }
    }
}
