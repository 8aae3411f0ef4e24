//! Continuous batching over paged KV: one [`Scheduler::step`] turns what happened into what to do next.
//!
//! Each step names one model: decodes first (one token, those forced after it, a draft), then admission and prefill
//! chunks ([`crate::prefill`]) into what the token budget leaves. When blocks run out, the lowest-ranked sequence is
//! swapped to the host pool, or recomputed where that is cheaper or the pool is full. At most one step is in flight;
//! blocks that a step or a swap uses are pinned until its outcome.

use std::collections::BTreeMap;

use crate::block_pool::BlockPool;
use crate::ids::{ModelId, RequestId, SequenceId, StepId, Tick, TokenId};
use crate::limits::DRAFT_TOKENS_MAX;
pub use crate::limits::SchedulerLimits;
use crate::plan::{Event, FinishReason, Finished, MeasuredRates, ModelSetup, PlanRow, StepPlan};
use crate::sequence::{Place, Sequence};
use crate::swap::SwapSpace;

/// A loaded model's pool and bounds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub setup: ModelSetup,
    pub pool: BlockPool,
    /// Number of its last turn as the active model, 0 before the first.
    pub turn: u64,
    /// Microseconds of steps it has had, or was credited when work came after a rest; what fairness counts.
    pub service_us: u64,
    pub totals: Totals,
    /// What its work costs, once measured.
    pub rates: Option<MeasuredRates>,
}

impl Loaded {
    /// Tokens a sequence may have, prompt and output: the context, or what the whole pool holds.
    pub fn tokens_max(&self) -> u32 {
        let pool = self.setup.blocks.saturating_mul(self.setup.block_tokens);
        self.setup.context_tokens_max.min(pool)
    }

    /// Tokens that this sequence may have, prompt and output.
    pub fn tokens_max_of(&self, sequence: &Sequence) -> u32 {
        self.tokens_max().min(sequence.prompt_tokens.saturating_add(sequence.parts.tokens_max))
    }

    /// The sequence's draft as far as its bounds, `tokens_max` and free blocks allow: a guess pushes nobody out.
    fn room_for_draft(&mut self, sequence: &mut Sequence, tokens_max: u32) -> Vec<TokenId> {
        let mut draft = std::mem::take(&mut sequence.draft);
        let known = sequence.tokens.len();
        // The token drawn behind the draft is one more.
        let bound = self.tokens_max_of(sequence) as usize;
        let left = bound.saturating_sub(known + 1).min(tokens_max as usize).min(DRAFT_TOKENS_MAX);
        draft.truncate(left);
        let block_tokens = self.pool.block_tokens();
        while sequence.blocks.len() * block_tokens < known + draft.len() {
            let Some(block) = self.pool.allocate() else { break };
            sequence.blocks.push(block);
        }
        draft.truncate((sequence.blocks.len() * block_tokens).saturating_sub(known));
        draft
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The active model's.
    Steady,
    /// Still the active model's, but its sequences are leaving the device for this model.
    Leaving(ModelId),
    /// Nobody's until the runtime's [`Event::SwitchDone`].
    Switching(ModelId),
}

/// What a step in flight will be matched with.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub id: StepId,
    pub model: ModelId,
    pub began: Tick,
    pub rows: Vec<InFlightRow>,
}

#[derive(Debug)]
pub(crate) struct InFlightRow {
    pub sequence: SequenceId,
    pub end: u32,
    pub samples: bool,
    pub draft: Vec<TokenId>,
}

/// One model's counts for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Sequences with KV on the device, where the model is active.
    pub running: usize,
    /// Sequences without KV.
    pub waiting: usize,
    /// Sequences in the host pool or on the way there or back.
    pub swapped: usize,
    /// Sequences with KV on the device, where the model is not active.
    pub suspended: usize,
    /// Blocks held by sequences.
    pub blocks_held: usize,
    /// Idle cached blocks.
    pub blocks_idle: usize,
    /// Blocks in all.
    pub blocks_total: usize,
    /// What has happened since it was loaded.
    pub totals: Totals,
}

/// What has happened to a model's sequences since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_query_tokens: u64,
    /// Of these, found.
    pub prefix_hit_tokens: u64,
    /// Sequences pushed off the device.
    pub preemptions: u64,
    /// Draft tokens run.
    pub draft_tokens: u64,
    /// Of these, drawn.
    pub draft_tokens_accepted: u64,
}

impl Counts {
    /// Blocks held over all blocks, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        if self.blocks_total == 0 { 0.0 } else { self.blocks_held as f64 / self.blocks_total as f64 }
    }
}

/// The engine's mind. Cannot fail, cannot block.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) limits: SchedulerLimits,
    pub(crate) models: BTreeMap<ModelId, Loaded>,
    pub(crate) active: Option<ModelId>,
    pub(crate) turn: Turn,
    pub(crate) switch_wanted: Option<ModelId>,
    pub(crate) sequences: BTreeMap<SequenceId, Sequence>,
    pub(crate) by_request: BTreeMap<RequestId, SequenceId>,
    pub(crate) swap_space: SwapSpace,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) shutting_down: bool,
    pub(crate) unloading: Vec<ModelId>,
    pub(crate) now: Tick,
    pub(crate) turn_began: Tick,
    pub(crate) turns: u64,
    pub(crate) drawn_in_turn: bool,
    pub(crate) next_sequence: u64,
    pub(crate) next_step: u64,
    pub(crate) next_swap: u64,
    pub(crate) stray_events: u64,
}

impl Scheduler {
    /// An engine with no model.
    pub fn new(limits: SchedulerLimits) -> Self {
        let swap_space = SwapSpace::new(limits.swap_space_bytes);
        Self {
            limits,
            models: BTreeMap::new(),
            active: None,
            turn: Turn::Steady,
            switch_wanted: None,
            sequences: BTreeMap::new(),
            by_request: BTreeMap::new(),
            swap_space,
            in_flight: None,
            shutting_down: false,
            unloading: Vec::new(),
            now: Tick(0),
            turn_began: Tick(0),
            turns: 0,
            drawn_in_turn: false,
            next_sequence: 0,
            next_step: 0,
            next_swap: 0,
            stray_events: 0,
        }
    }

    /// Takes in `events` (drained) and says what to do now. `plan` is cleared first.
    pub fn step(&mut self, now: Tick, events: &mut Vec<Event>, plan: &mut StepPlan) {
        self.now = self.now.max(now);
        clear(plan);
        for event in events.drain(..) {
            self.take(event, plan);
        }
        self.reap(plan);
        self.finish_unloads(plan);
        self.choose_model(plan);
        if self.in_flight.is_none() && self.turn == Turn::Steady {
            self.plan_rows(plan);
        }
    }

    /// A live sequence.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    /// A loaded model's counts for metrics.
    pub fn counts(&self, model: ModelId) -> Option<Counts> {
        let loaded = self.models.get(&model)?;
        let mut counts = Counts {
            blocks_total: loaded.pool.total(),
            blocks_idle: loaded.pool.idle(),
            blocks_held: loaded.pool.total() - loaded.pool.available(),
            totals: loaded.totals,
            ..Counts::default()
        };
        for sequence in self.sequences.values().filter(|s| s.model() == model) {
            match sequence.place {
                Place::Waiting => counts.waiting += 1,
                Place::Device if self.active == Some(model) => counts.running += 1,
                Place::Device => counts.suspended += 1,
                Place::SwappingOut(_) | Place::Host | Place::SwappingIn(_) => counts.swapped += 1,
            }
        }
        Some(counts)
    }

    /// Events about sequences, swaps or steps that do not exist (late or doubled), since start.
    pub fn stray_events(&self) -> u64 {
        self.stray_events
    }

    /// Ends what has ended and is not pinned, and reports it.
    pub(crate) fn reap(&mut self, plan: &mut StepPlan) {
        let ended = |s: &&Sequence| s.end.is_some() && !s.pinned();
        let ids: Vec<SequenceId> = self.sequences.values().filter(ended).map(Sequence::id).collect();
        for id in ids {
            let Some(mut sequence) = self.sequences.remove(&id) else { continue };
            self.by_request.remove(&sequence.request());
            self.free_device(&mut sequence);
            self.free_host(&mut sequence, plan);
            plan.finished.push(Finished {
                request: sequence.request(),
                sequence: id,
                reason: sequence.end.unwrap_or(FinishReason::Failed),
                prompt_tokens: sequence.prompt_tokens,
                cached_tokens: sequence.cached_tokens,
                output_tokens: sequence.output_tokens(),
            });
        }
    }

    /// Fills `plan.rows` for the active model.
    fn plan_rows(&mut self, plan: &mut StepPlan) {
        let Some(model) = self.active else { return };
        let Some(setup) = self.models.get(&model).map(|loaded| loaded.setup) else { return };
        self.resume_swapped(model, plan);
        let mut budget = Budget { tokens: setup.step_tokens_max, rows: setup.step_rows_max };
        let (prefills, decodes): (Vec<_>, Vec<_>) =
            self.runnable(model).into_iter().partition(|id| self.sequences[id].is_prefilling());
        for id in decodes {
            self.plan_row(id, u32::MAX, &mut budget, plan);
        }
        self.plan_prefills(model, prefills, &mut budget, plan);
        if plan.rows.is_empty() {
            return;
        }
        self.next_step += 1;
        plan.id = StepId(self.next_step);
        plan.model = Some(model);
        let mut rows = Vec::with_capacity(plan.rows.len());
        for row in &plan.rows {
            if let Some(sequence) = self.sequences.get_mut(&row.sequence) {
                sequence.in_step = Some(plan.id);
            }
            let PlanRow { sequence, end, samples, .. } = *row;
            rows.push(InFlightRow { sequence, end, samples, draft: row.draft.clone() });
        }
        self.in_flight = Some(InFlight { id: plan.id, model, began: self.now, rows });
    }

    /// Sequences of the model with KV on the device, best rank first.
    fn runnable(&self, model: ModelId) -> Vec<SequenceId> {
        let ready = |s: &&Sequence| s.model() == model && s.place == Place::Device && s.end.is_none();
        let mut ids: Vec<_> = self.sequences.values().filter(ready).map(|s| (s.rank(), s.id())).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// One row of `tokens_max` tokens at most, if budget and blocks allow; may push a lower-ranked sequence off the
    /// device.
    pub(crate) fn plan_row(
        &mut self,
        id: SequenceId,
        tokens_max: u32,
        budget: &mut Budget,
        plan: &mut StepPlan,
    ) {
        let Some(sequence) = self.sequences.get(&id) else { return };
        let wanted = sequence.remaining().min(budget.tokens).min(tokens_max);
        // Preempted by a row planned before it in this very step.
        if sequence.place != Place::Device || budget.rows == 0 || wanted == 0 {
            return;
        }
        let start = sequence.computed;
        let Some(tokens) = self.make_room(id, start, wanted, plan) else { return };
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let Some(loaded) = self.models.get_mut(&sequence.parts.model) else { return };
        let end = start + tokens;
        let samples = end == sequence.tokens.len() as u32;
        let draft =
            if samples { loaded.room_for_draft(sequence, budget.tokens - tokens) } else { Vec::new() };
        let positions = end as usize + draft.len();
        let table = positions.div_ceil(loaded.pool.block_tokens());
        budget.tokens -= tokens + draft.len() as u32;
        budget.rows -= 1;
        plan.rows.push(PlanRow {
            sequence: id,
            request: sequence.request(),
            start,
            end,
            blocks: sequence.blocks[..table].to_vec(),
            samples,
            draft,
        });
    }
}

/// What a step may still carry.
pub(crate) struct Budget {
    pub tokens: u32,
    pub rows: u32,
}

fn clear(plan: &mut StepPlan) {
    plan.id = StepId(0);
    plan.model = None;
    plan.rows.clear();
    plan.copies.clear();
    plan.swaps.clear();
    plan.host_released.clear();
    plan.finished.clear();
    plan.refused.clear();
    plan.switch_to = None;
    plan.unloaded.clear();
}
