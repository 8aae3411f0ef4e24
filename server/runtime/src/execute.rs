//! One step on the executor: rows with their drafts, masks, draws, and what became of them.
//!
//! ```text
//! submit    known tokens and draft of each row; the logits of the last known token and of the draft's are wanted
//! masks     what each wanted position may draw
//! finish    the head and the draws
//! take      per row: what was drawn as far as the draft is right, what is forced, the next guess
//! ```

use std::collections::HashMap;
use std::time::Instant;

use quarry_core::ids::{RequestId, TokenId};
use quarry_core::plan::{FinishReason, PlanRow, RowOutcome, StepOutcome, StepPlan};
use quarry_core::sampler::{SampleRow, Sampled};
use quarry_core::scheduler::Scheduler;
use quarry_core::sequence::Sequence;
use quarry_model::executor::{Batch, ExecError, Executor, Row, StepResult};

use crate::bind::{Job, Taken};
use crate::drafts::StepCost;
use crate::observe::{DraftStats, StepStats};

/// A plan and what carrying it out needs.
pub struct Pass<'a> {
    pub plan: &'a StepPlan,
    /// The model's name.
    pub model: &'a str,
    pub executor: &'a mut dyn Executor,
    /// Takes in what the step took.
    pub cost: &'a mut StepCost,
    pub scheduler: &'a Scheduler,
    pub jobs: &'a mut HashMap<RequestId, Job>,
    pub result: &'a mut StepResult,
}

/// What a row runs and where it is drawn from.
struct Input<'a> {
    row: &'a PlanRow,
    sequence: &'a Sequence,
    tokens: Vec<TokenId>,
    wanted: Vec<usize>,
    /// The output so far and the draft, for the draws.
    output: Vec<TokenId>,
}

impl Pass<'_> {
    pub fn run(self) -> Result<(StepOutcome, StepStats), ExecError> {
        let Self { plan, model, executor, cost, scheduler, jobs, result } = self;
        let begun = Instant::now();
        let inputs: Vec<Input<'_>> =
            plan.rows.iter().map(|row| Input::new(row, scheduler)).collect::<Result<_, _>>()?;
        let rows: Vec<Row<'_>> = inputs.iter().map(Input::row).collect();
        for input in &inputs {
            if let Some(job) = jobs.get_mut(&input.row.request) {
                job.times.scheduled.get_or_insert(begun);
                job.reservation = None;
            }
        }
        let ticket = executor.submit(&Batch { rows: &rows })?;

        let mask_begun = Instant::now();
        let sampling = || inputs.iter().filter(|input| input.row.samples);
        let mut broken = Vec::new();
        for Input { row, .. } in sampling() {
            if let Some(job) = jobs.get_mut(&row.request)
                && let Err(error) = job.prepare_masks(&row.draft)
            {
                tracing::error!(request_id = %job.request_id, %error, "mask failed");
                broken.push(row.request);
            }
        }
        let mask_s = mask_begun.elapsed().as_secs_f64();

        let mut samples = Vec::new();
        for input in sampling() {
            let job = jobs.get(&input.row.request);
            let masked = job.filter(|job| job.constraint.is_some() && !broken.contains(&input.row.request));
            for drafted in 0..input.wanted.len() {
                samples.push(input.sample(drafted, job, masked));
            }
        }
        executor.finish(ticket, &samples, result)?;

        let now = Instant::now();
        let seconds = now.duration_since(begun).as_secs_f64();
        let tokens: u32 = plan.rows.iter().map(PlanRow::tokens).sum();
        let is_prefill = inputs.iter().any(|input| input.row.start < input.sequence.prompt_tokens());
        cost.note(tokens as usize, is_prefill, seconds);

        let mut stats = StepStats {
            model: model.to_owned(),
            rows: plan.rows.len() as u32,
            tokens,
            seconds,
            mask_s,
            ..StepStats::default()
        };
        let mut outcome = StepOutcome { id: plan.id, rows: Vec::new() };
        let mut sampled: &[Sampled] = &result.sampled;
        let count = sampling().count();
        // Where prompts are computed, the next step will most likely have as many of their tokens.
        let prefill_s = if is_prefill { seconds - cost.decode_s().unwrap_or(0.0) } else { 0.0 };
        for input in sampling() {
            let (drawn, rest) = sampled.split_at(input.wanted.len().min(sampled.len()));
            sampled = rest;
            let row = input.row;
            let mut taken = match jobs.get_mut(&row.request) {
                Some(job) if !broken.contains(&row.request) => {
                    let mut taken = job.take(row.sequence, drawn, &row.draft, now);
                    if taken.goes_on {
                        taken.outcome.draft = job.guess(cost, count - 1, prefill_s.max(0.0));
                    }
                    taken
                }
                job => Taken::ended(
                    row,
                    if job.is_some() { FinishReason::Failed } else { FinishReason::Cancelled },
                ),
            };
            stats.forced += taken.forced;
            stats.sampled += taken.outcome.tokens.len() as u32 - taken.forced;
            if !row.draft.is_empty() {
                let draft = DraftStats { tokens: row.draft.len() as u32, accepted: taken.accepted };
                stats.drafts.push(draft);
            }
            outcome.rows.push(std::mem::take(&mut taken.outcome));
        }
        Ok((outcome, stats))
    }
}

impl<'a> Input<'a> {
    fn new(row: &'a PlanRow, scheduler: &'a Scheduler) -> Result<Self, ExecError> {
        let sequence = scheduler
            .sequence(row.sequence)
            .ok_or_else(|| ExecError::BadBatch(format!("sequence {} is gone", row.sequence)))?;
        let (start, end) = (row.start as usize, row.end as usize);
        let tokens = [&sequence.tokens()[start..end], &row.draft].concat();
        let wanted = if row.samples { (end - start - 1..tokens.len()).collect() } else { Vec::new() };
        let output = if row.samples {
            [&sequence.tokens()[sequence.prompt_tokens() as usize..], &row.draft].concat()
        } else {
            Vec::new()
        };
        Ok(Self { row, sequence, tokens, wanted, output })
    }

    fn row(&self) -> Row<'_> {
        Row {
            tokens: &self.tokens,
            first_position: self.row.start as usize,
            blocks: &self.row.blocks,
            wanted: &self.wanted,
        }
    }

    /// How the position behind so many tokens of the draft is drawn from.
    fn sample<'s>(&'s self, drafted: usize, job: Option<&'s Job>, masked: Option<&'s Job>) -> SampleRow<'s> {
        let output = &self.output[..self.output.len() - self.row.draft.len() + drafted];
        let early = job.filter(|job| (output.len() as u32) < job.tokens_min);
        SampleRow {
            params: self.sequence.sampling(),
            prompt: &self.sequence.tokens()[..self.sequence.prompt_tokens() as usize],
            output,
            mask: masked.and_then(|job| job.masks.get(drafted)).map(Vec::as_slice),
            forbidden: early.map_or(&[], |job| &job.stop_tokens),
            // The edge refuses them by name.
            logprobs: false,
        }
    }
}

impl Taken {
    /// A row without an answer.
    fn ended(row: &PlanRow, reason: FinishReason) -> Self {
        let outcome = RowOutcome { sequence: row.sequence, finish: Some(reason), ..RowOutcome::default() };
        Self { outcome, forced: 0, accepted: 0, goes_on: false }
    }
}
