//! One step on the executor: rows with their drafts, masks, draws, and what became of them.
//!
//! ```text
//! submit    tokens and draft of each row; the logits of the last known token and of the draft's are wanted
//! masks     what each wanted position may draw
//! finish    the head and the draws
//! take      per row: what was drawn as far as the draft is right, what is forced, the next guess
//! ```
//! The plan and the jobs hold all that a step needs; the scheduler is not asked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use quarry_core::ids::{RequestId, TokenId};
use quarry_core::plan::{PlanRow, StepOutcome, StepPlan};
use quarry_core::sampler::{SampleRow, Sampled};
use quarry_model::executor::{Batch, ExecError, Executor, Row, StepResult, StepTicket};

use crate::bind::{Job, Waiting};
use crate::drafts::StepCost;
use crate::inbox::Inbox;
use crate::observe::{DraftStats, StepStats};

/// A plan and what carrying it out needs.
pub struct Pass<'a> {
    pub plan: &'a StepPlan,
    /// The model's name.
    pub model: &'a str,
    pub executor: &'a mut dyn Executor,
    /// Takes in what the step took.
    pub cost: &'a mut StepCost,
    /// Says whether the engine shall end.
    pub inbox: &'a Inbox,
    pub jobs: &'a mut HashMap<RequestId, Job>,
    pub result: &'a mut StepResult,
}

impl Pass<'_> {
    pub fn run(mut self) -> Result<(StepOutcome, StepStats), ExecError> {
        let begun = Instant::now();
        let ticket = self.submit(begun)?;
        let mask_begun = Instant::now();
        let broken = self.prepare_masks();
        let mask_s = mask_begun.elapsed().as_secs_f64();
        self.draw(ticket, &broken)?;
        let stats = StepStats {
            model: self.model.to_owned(),
            rows: self.plan.rows.len() as u32,
            seconds: begun.elapsed().as_secs_f64(),
            mask_s,
            ..StepStats::default()
        };
        Ok(self.take(stats, &broken))
    }

    fn submit(&mut self, begun: Instant) -> Result<StepTicket, ExecError> {
        for row in &self.plan.rows {
            let missing = || ExecError::BadBatch(format!("request {} is gone", row.request));
            let job = self.jobs.get_mut(&row.request).ok_or_else(missing)?;
            job.times.scheduled.get_or_insert(begun);
            job.reservation = None;
        }
        let wanted: Vec<Vec<usize>> = self.plan.rows.iter().map(wanted).collect();
        let rows = self.plan.rows.iter().zip(&wanted).map(|(row, wanted)| Row {
            tokens: &row.tokens,
            first_position: row.start as usize,
            blocks: &row.blocks,
            wanted,
        });
        let rows: Vec<Row<'_>> = rows.collect();
        let (plan, jobs, inbox) = (self.plan, &*self.jobs, self.inbox);
        let waiting: Vec<&Waiting> =
            plan.rows.iter().filter_map(|row| Some(&jobs.get(&row.request)?.waiting)).collect();
        let is_wanted = || !inbox.is_stopping() && waiting.iter().any(|client| client.is_there());
        self.executor.submit(&Batch { rows: &rows, is_wanted: &is_wanted })
    }

    /// Requests whose constraint broke.
    fn prepare_masks(&mut self) -> Vec<RequestId> {
        let mut broken = Vec::new();
        for row in sampling(self.plan) {
            if let Some(job) = self.jobs.get_mut(&row.request)
                && let Err(error) = job.prepare_masks(row.draft())
            {
                tracing::error!(request_id = %job.request_id, %error, "mask failed");
                broken.push(row.request);
            }
        }
        broken
    }

    fn draw(&mut self, ticket: StepTicket, broken: &[RequestId]) -> Result<(), ExecError> {
        let jobs = &*self.jobs;
        let inputs: Vec<Input<'_>> = sampling(self.plan)
            .filter_map(|row| Some(Input::new(row, jobs.get(&row.request)?, broken.contains(&row.request))))
            .collect();
        let positions =
            inputs.iter().flat_map(|input| (0..=input.row.draft().len()).map(move |at| (input, at)));
        let samples: Vec<SampleRow<'_>> = positions.map(|(input, drafted)| input.sample(drafted)).collect();
        self.executor.finish(ticket, &samples, self.result)
    }

    /// Gives each request what was drawn for it.
    fn take(self, mut stats: StepStats, broken: &[RequestId]) -> (StepOutcome, StepStats) {
        let Self { plan, cost, jobs, result, .. } = self;
        let now = Instant::now();
        stats.tokens = plan.rows.iter().map(|row| row.tokens.len() as u32).sum();
        let is_prompt = |row: &PlanRow| {
            jobs.get(&row.request).is_some_and(|job| (row.start as usize) < job.prompt_tokens)
        };
        let is_prefill = plan.rows.iter().any(is_prompt);
        cost.note(stats.tokens as usize, is_prefill, stats.seconds);
        // Where prompts are computed, the next step will most likely have as many of their tokens.
        let prefill_s = if is_prefill { stats.seconds - cost.decode_s().unwrap_or(0.0) } else { 0.0 };
        let others = sampling(plan).count().saturating_sub(1);
        let mut outcome = StepOutcome { id: plan.id, rows: Vec::new() };
        let mut sampled: &[Sampled] = &result.sampled;
        for row in sampling(plan) {
            let draft = row.draft();
            let (drawn, rest) = sampled.split_at(sampled.len().min(draft.len() + 1));
            sampled = rest;
            let Some(job) = jobs.get_mut(&row.request) else { continue };
            let mut taken = match broken.contains(&row.request) {
                true => job.give_up(row.sequence),
                false => job.take(row.sequence, drawn, draft, now),
            };
            if taken.outcome.finish.is_none() {
                taken.outcome.draft = job.guess(cost, others, prefill_s.max(0.0));
            }
            stats.forced += taken.forced;
            stats.sampled += taken.drawn;
            if !draft.is_empty() {
                let accepted = taken.outcome.accepted(draft) as u32;
                stats.drafts.push(DraftStats { tokens: draft.len() as u32, accepted });
            }
            outcome.rows.push(taken.outcome);
        }
        (outcome, stats)
    }
}

/// Rows that something is drawn for.
fn sampling(plan: &StepPlan) -> impl Iterator<Item = &PlanRow> {
    plan.rows.iter().filter(|row| row.samples)
}

/// Offsets of a row whose logits are wanted: the last known token's and the draft's.
fn wanted(row: &PlanRow) -> Vec<usize> {
    let last = (row.end - row.start) as usize - 1;
    if row.samples { (last..row.tokens.len()).collect() } else { Vec::new() }
}

/// What a row's draws look at.
struct Input<'a> {
    row: &'a PlanRow,
    job: &'a Job,
    is_broken: bool,
    /// The output so far, and the draft.
    output: Cow<'a, [TokenId]>,
}

impl<'a> Input<'a> {
    fn new(row: &'a PlanRow, job: &'a Job, is_broken: bool) -> Self {
        let output = &job.tokens[job.prompt_tokens..];
        let output = match row.draft() {
            [] => Cow::Borrowed(output),
            draft => Cow::Owned([output, draft].concat()),
        };
        Self { row, job, is_broken, output }
    }

    /// How the position behind so many tokens of the draft is drawn from.
    fn sample(&self, drafted: usize) -> SampleRow<'_> {
        let Self { row, job, is_broken, output } = self;
        let output = &output[..output.len() - row.draft().len() + drafted];
        let masked = (job.constraint.is_some() && !is_broken).then_some(&job.masks);
        SampleRow {
            params: &job.sampling,
            prompt: &job.tokens[..job.prompt_tokens],
            output,
            mask: masked.and_then(|masks| masks.get(drafted)).map(Vec::as_slice),
            forbidden: job.verdict.forbidden(output.len() as u32),
            // The edge refuses them by name.
            logprobs: false,
        }
    }
}
