//! One step on the executor: rows with their drafts, masks, draws, and what became of them.
//!
//! ```text
//! submit    tokens and draft of each row; the logits of the last known token and of the draft's are wanted; rows that a
//!           step started ahead has right ([`crate::ahead`]) are running already
//! masks     what each wanted position may draw
//! finish    the head and the draws; where all rows are expected to go on by one token, the next step is started
//! take      per row: what was drawn as far as the draft is right, what is forced, the next guess
//! ```
//! The plan and the jobs hold all that a step needs; the scheduler is not asked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use quarry_core::ids::{ModelId, RequestId, TokenId};
use quarry_core::plan::{PlanRow, StepOutcome, StepPlan};
use quarry_core::request::SamplingParams;
use quarry_core::sampler::{SampleRow, Sampled};
use quarry_model::executor::{AheadRow, Batch, ExecError, Executor, Row, StepResult, StepTicket};

use crate::ahead::{Expected, GoesOn, Started, expect};
use crate::bind::{Job, Waiting};
use crate::drafts::StepCost;
use crate::inbox::Inbox;
use crate::observe::{DraftStats, StepStats};

/// A plan and what carrying it out needs.
pub struct Pass<'a> {
    pub plan: &'a StepPlan,
    pub model: ModelId,
    /// Its name.
    pub name: &'a str,
    pub executor: &'a mut dyn Executor,
    /// Where the executor starts steps ahead, the positions of a block.
    pub ahead_block_tokens: Option<u32>,
    /// The step that was started before this plan was made; then the one behind it.
    pub started: &'a mut Option<Started>,
    /// Takes in what the step took.
    pub cost: &'a mut StepCost,
    /// Says whether the engine shall end.
    pub inbox: &'a Inbox,
    pub jobs: &'a mut HashMap<RequestId, Job>,
    pub result: &'a mut StepResult,
}

/// Draws of each of the plan's rows.
type Draws = Vec<Vec<Sampled>>;

impl Pass<'_> {
    pub fn run(mut self) -> Result<(StepOutcome, StepStats), ExecError> {
        let mut begun = Instant::now();
        self.note_begin(begun)?;
        let mut stats = StepStats {
            model: self.name.to_owned(),
            rows: self.plan.rows.len() as u32,
            ..StepStats::default()
        };
        let mut draws: Draws = vec![Vec::new(); self.plan.rows.len()];
        let started = self.started.take();
        let matched = started.and_then(|started| Some((started.matched(self.plan)?, started)));
        let (running, others) = match matched {
            None => (None, (0..self.plan.rows.len()).collect()),
            Some((matched, started)) => {
                // It has been running since the step before was done.
                begun = started.at;
                stats.rows_ahead = matched.rows.iter().flatten().count() as u32;
                (Some((started.ticket, matched.rows)), matched.others)
            }
        };
        let is_one = running.is_none() || others.is_empty();
        let mut submitted = None;
        if running.is_none() {
            submitted = Some(self.submit(&others)?);
        }
        let broken = self.prepare_masks(&mut stats);
        if let Some((ticket, rows)) = running {
            self.draw(ticket, &rows, &broken, is_one, &mut draws)?;
            if !others.is_empty() {
                submitted = Some(self.submit(&others)?);
            }
        }
        if let Some(ticket) = submitted {
            let others: Vec<Option<usize>> = others.into_iter().map(Some).collect();
            self.draw(ticket, &others, &broken, is_one, &mut draws)?;
        }
        stats.seconds = begun.elapsed().as_secs_f64();
        Ok(self.take(stats, &broken, &draws))
    }

    fn note_begin(&mut self, begun: Instant) -> Result<(), ExecError> {
        for row in &self.plan.rows {
            let missing = || ExecError::BadBatch(format!("request {} is gone", row.request));
            let job = self.jobs.get_mut(&row.request).ok_or_else(missing)?;
            job.times.scheduled.get_or_insert(begun);
            job.reservation = None;
        }
        Ok(())
    }

    /// Starts some of the plan's rows.
    fn submit(&mut self, rows: &[usize]) -> Result<StepTicket, ExecError> {
        let plan = self.plan;
        let wanted: Vec<Vec<usize>> = rows.iter().map(|&index| wanted(&plan.rows[index])).collect();
        let rows = rows.iter().map(|&index| &plan.rows[index]).zip(&wanted).map(|(row, wanted)| Row {
            tokens: &row.tokens,
            first_position: row.start as usize,
            blocks: &row.blocks,
            wanted,
        });
        let rows: Vec<Row<'_>> = rows.collect();
        let (jobs, inbox) = (&*self.jobs, self.inbox);
        let waiting: Vec<&Waiting> =
            plan.rows.iter().filter_map(|row| Some(&jobs.get(&row.request)?.waiting)).collect();
        let is_wanted = || !inbox.is_stopping() && waiting.iter().any(|client| client.is_there());
        self.executor.submit(&Batch { rows: &rows, is_wanted: &is_wanted })
    }

    /// Requests whose constraint broke.
    fn prepare_masks(&mut self, stats: &mut StepStats) -> Vec<RequestId> {
        let begun = Instant::now();
        let mut broken = Vec::new();
        for row in sampling(self.plan) {
            if let Some(job) = self.jobs.get_mut(&row.request)
                && let Err(error) = job.prepare_masks(row.draft())
            {
                tracing::error!(request_id = %job.request_id, %error, "mask failed");
                broken.push(row.request);
            }
        }
        stats.mask_s = begun.elapsed().as_secs_f64();
        broken
    }

    /// Finishes a step. `rows` says which one of the plan's each of its rows is, or that nobody wants it any more.
    fn draw(
        &mut self,
        ticket: StepTicket,
        rows: &[Option<usize>],
        broken: &[RequestId],
        goes_on: bool,
        draws: &mut Draws,
    ) -> Result<(), ExecError> {
        let plan = self.plan;
        let is_drawn = |row: &Option<usize>| row.is_none_or(|index| plan.rows[index].samples);
        let rows: Vec<Option<usize>> = rows.iter().copied().filter(is_drawn).collect();
        let mut expected = if goes_on { self.expected() } else { Vec::new() };
        for row in &mut expected {
            // Its token is drawn in another place than its row has in the plan.
            row.sample = rows.iter().position(|index| *index == Some(row.sample)).unwrap_or_default();
        }
        let jobs = &*self.jobs;
        let inputs: Vec<Option<Input<'_>>> =
            rows.iter().map(|index| Input::new(&plan.rows[(*index)?], jobs, broken)).collect();
        // What nobody wants is drawn all the same, in the cheapest way.
        let nobody = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let mut samples: Vec<SampleRow<'_>> = Vec::new();
        for input in &inputs {
            match input {
                Some(input) => samples.extend((0..=input.row.draft().len()).map(|at| input.sample(at))),
                None => samples.push(SampleRow::new(&nobody)),
            }
        }
        *self.started = finish(self.executor, (self.model, ticket), &samples, expected, self.result)?;
        let mut sampled: &[Sampled] = &self.result.sampled;
        for index in rows {
            let count = index.map_or(0, |index| plan.rows[index].draft().len()) + 1;
            let (drawn, rest) = sampled.split_at(sampled.len().min(count));
            sampled = rest;
            if let Some(index) = index {
                draws[index] = drawn.to_vec();
            }
        }
        Ok(())
    }

    /// The rows to start behind the plan's; `sample` is the plan's row.
    fn expected(&self) -> Vec<Expected> {
        let Some(block_tokens) = self.ahead_block_tokens else {
            return Vec::new();
        };
        expect(self.plan, block_tokens, &|row| match self.jobs.get(&row.request) {
            None => GoesOn::Unknown,
            Some(job) if job.constraint.is_some() => GoesOn::Unknown,
            Some(job) if job.verdict.tokens() + 1 >= job.verdict.tokens_max() => GoesOn::Ends,
            Some(_) => GoesOn::ByOne,
        })
    }

    /// Gives each request what was drawn for it.
    fn take(self, mut stats: StepStats, broken: &[RequestId], draws: &Draws) -> (StepOutcome, StepStats) {
        let Self { plan, cost, jobs, .. } = self;
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
        for (row, drawn) in plan.rows.iter().zip(draws).filter(|(row, _)| row.samples) {
            let draft = row.draft();
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

/// Draws, and starts what is expected behind.
fn finish(
    executor: &mut dyn Executor,
    (model, ticket): (ModelId, StepTicket),
    samples: &[SampleRow<'_>],
    rows: Vec<Expected>,
    out: &mut StepResult,
) -> Result<Option<Started>, ExecError> {
    let ahead: Vec<AheadRow<'_>> = rows.iter().map(Expected::row).collect();
    let next = executor.finish_ahead(ticket, samples, &ahead, out)?;
    Ok(next.map(|ticket| Started { model, ticket, rows, at: Instant::now() }))
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
    /// `None` where the request is gone.
    fn new(row: &'a PlanRow, jobs: &'a HashMap<RequestId, Job>, broken: &[RequestId]) -> Option<Self> {
        let job = jobs.get(&row.request)?;
        let is_broken = broken.contains(&row.request);
        let output = &job.tokens[job.prompt_tokens..];
        let output = match row.draft() {
            [] => Cow::Borrowed(output),
            draft => Cow::Owned([output, draft].concat()),
        };
        Some(Self { row, job, is_broken, output })
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
