//! Continuous batching over paged KV: one [`Scheduler::step`] turns what happened into what to do next.
//!
//! Each step names one model: decodes first (one token, those forced after it, a draft), then admission and prefill
//! chunks ([`crate::prefill`]) into what the token budget leaves. When blocks run out, the lowest-ranked sequence is
//! swapped to the host pool, or recomputed where that is cheaper or the pool is full. At most one step is in flight;
//! blocks that a step or a swap uses are pinned until its outcome.

use std::collections::BTreeMap;

use crate::block_pool::BlockPool;
use crate::fairness::{self, Fairness};
use crate::ids::{ModelId, RequestId, SequenceId, StepId, Tick, TokenId};
pub use crate::limits::SchedulerLimits;
use crate::limits::{DRAFT_TOKENS_MAX, HOST_UNIT_BYTES};
use crate::memory::Memory;
use crate::plan::{Event, FinishReason, Finished, MeasuredRates, ModelSetup, PlanRow, StepPlan};
use crate::save::Save;
use crate::sequence::{KvState, Sequence};
use crate::switch::Turns;

/// A model that is known.
#[derive(Debug)]
pub(crate) struct Model {
    pub setup: ModelSetup,
    pub pool: BlockPool,
    /// Whether its weights are on the device.
    pub is_resident: bool,
    /// Microseconds of steps it has had, or was credited when work came after a pause; what fairness counts.
    pub service_us: u64,
    /// When its last step was planned.
    pub ran: Tick,
    pub totals: Totals,
    /// What its work costs, once measured.
    pub rates: Option<MeasuredRates>,
    /// A copy of cached prefixes to the host pool failed: they are not copied any more.
    pub saves_fail: bool,
}

impl Model {
    /// Tokens a sequence may have, prompt and output: the context, or what `slabs` hold.
    pub fn tokens_max(&self, slabs: u32) -> u32 {
        let Self { setup, .. } = self;
        let all = slabs.saturating_mul(setup.slab_blocks).saturating_mul(setup.block_tokens);
        setup.context_tokens_max.min(all)
    }

    /// Whether a block is copied to the host pool and back in less time than it is computed.
    pub fn is_moved_sooner_than_computed(&self) -> bool {
        let Some(rates) = self.rates.filter(|_| !self.saves_fail) else { return !self.saves_fail };
        let Some(swap_bytes_per_s) = rates.swap_bytes_per_s else { return true };
        2.0 * self.setup.block_bytes as f64 / swap_bytes_per_s.max(1.0)
            <= f64::from(self.setup.block_tokens) / rates.prefill_tokens_per_s.max(1.0)
    }

    /// Tokens that this sequence may have, prompt and output.
    pub fn tokens_max_of(&self, sequence: &Sequence, slabs: u32) -> u32 {
        self.tokens_max(slabs).min(sequence.prompt_tokens.saturating_add(sequence.parts.tokens_max))
    }
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
    /// Sequences with KV on the device, where the model is resident.
    pub running: usize,
    /// Sequences without KV.
    pub waiting: usize,
    /// Sequences in the host pool or on the way there or back.
    pub swapped: usize,
    /// Sequences with KV on the device, where the model is not resident.
    pub suspended: usize,
    /// Blocks held by sequences.
    pub blocks_held: usize,
    /// Idle cached blocks.
    pub blocks_idle: usize,
    /// Blocks that it would have if it had all slabs.
    pub blocks_max: usize,
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
    /// Sequences pushed off the device for others of the same model.
    pub preemptions: u64,
    /// Sequences pushed off the device for another model.
    pub displacements: u64,
    /// Draft tokens run.
    pub draft_tokens: u64,
    /// Of these, drawn.
    pub draft_tokens_accepted: u64,
}

impl Counts {
    /// Blocks held over all blocks that it could have, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        if self.blocks_max == 0 { 0.0 } else { self.blocks_held as f64 / self.blocks_max as f64 }
    }
}

/// The engine's mind. Cannot fail, cannot block.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) limits: SchedulerLimits,
    pub(crate) models: BTreeMap<ModelId, Model>,
    pub(crate) turns: Turns,
    pub(crate) sequences: BTreeMap<SequenceId, Sequence>,
    pub(crate) by_request: BTreeMap<RequestId, SequenceId>,
    pub(crate) fairness: Fairness,
    pub(crate) memory: Memory,
    pub(crate) in_flight: Option<InFlight>,
    /// Cached prefixes on their way to the host pool.
    pub(crate) save: Option<Save>,
    pub(crate) shutting_down: bool,
    pub(crate) now: Tick,
    pub(crate) last: LastIds,
    pub(crate) stray_events: u64,
}

/// The last id of each kind that was given out.
#[derive(Debug, Default)]
pub(crate) struct LastIds {
    pub sequence: u64,
    pub step: u64,
    pub swap: u64,
}

impl Scheduler {
    /// An engine with no model.
    pub fn new(limits: SchedulerLimits) -> Self {
        let memory = Memory::new(&limits);
        Self {
            limits,
            models: BTreeMap::new(),
            turns: Turns::default(),
            sequences: BTreeMap::new(),
            by_request: BTreeMap::new(),
            fairness: Fairness::default(),
            memory,
            in_flight: None,
            save: None,
            shutting_down: false,
            now: Tick(0),
            last: LastIds::default(),
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
        self.end_late();
        self.reap(plan);
        self.choose_switch(plan);
        let is_switching = self.turns.switch.is_some_and(|switch| !switch.has_started);
        if self.in_flight.is_some() || is_switching {
            return;
        }
        self.choose_exclusive();
        for model in self.order_of_models() {
            self.plan_rows(model, plan);
            if !plan.rows.is_empty() {
                break;
            }
        }
        if !self.shutting_down {
            self.plan_save(plan);
        }
    }

    /// A live sequence.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    /// The live sequence of a request.
    pub fn sequence_of(&self, request: RequestId) -> Option<&Sequence> {
        self.sequences.get(self.by_request.get(&request)?)
    }

    /// A known model's counts for metrics.
    pub fn counts(&self, id: ModelId) -> Option<Counts> {
        let model = self.models.get(&id)?;
        let mut counts = Counts {
            blocks_max: self.memory.blocks_max(model),
            blocks_idle: model.pool.idle(),
            blocks_held: model.pool.total() - model.pool.available(),
            totals: model.totals,
            ..Counts::default()
        };
        for sequence in self.sequences.values().filter(|s| s.model() == id) {
            match sequence.kv {
                KvState::Waiting => counts.waiting += 1,
                KvState::Device if model.is_resident => counts.running += 1,
                KvState::Device => counts.suspended += 1,
                KvState::SwappingOut(_) | KvState::Host | KvState::SwappingIn(_) => counts.swapped += 1,
            }
        }
        Some(counts)
    }

    /// Bytes of the host pool that hold blocks.
    pub fn host_bytes(&self) -> u64 {
        self.memory.host.bytes()
    }

    /// Of these, bytes of cached prefixes.
    pub fn host_bytes_cached(&self) -> u64 {
        let bytes = |model: &Model| {
            let unit = HOST_UNIT_BYTES;
            let block = model.setup.block_bytes.max(1).div_ceil(unit) * unit;
            block * model.pool.prefixes.host_copies() as u64
        };
        self.models.values().map(bytes).sum()
    }

    /// Slabs of the device's KV memory that no model has.
    pub fn slabs_free(&self) -> usize {
        self.memory.slabs_free()
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
            self.memory.trim(&mut self.models, &mut sequence, 0);
            self.free_host(&mut sequence);
            let queue = fairness::queue(&sequence.parts);
            if !self.sequences.values().any(|s| fairness::queue(&s.parts) == queue) {
                self.fairness.idle(queue);
            }
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

    /// Fills `plan.rows` for a model.
    fn plan_rows(&mut self, model: ModelId, plan: &mut StepPlan) {
        let Some(setup) = self.models.get(&model).map(|known| known.setup) else { return };
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
        if !self.turns.has_displaced {
            self.turns.exclusive = None; // it had memory enough
        }
        if let Some(known) = self.models.get_mut(&model) {
            known.ran = self.now;
        }
        self.last.step += 1;
        plan.id = StepId(self.last.step);
        plan.model = Some(model);
        let mut rows = Vec::with_capacity(plan.rows.len());
        for row in &plan.rows {
            if let Some(sequence) = self.sequences.get_mut(&row.sequence) {
                sequence.in_step = Some(plan.id);
            }
            let PlanRow { sequence, end, samples, .. } = *row;
            rows.push(InFlightRow { sequence, end, samples, draft: row.draft().to_vec() });
        }
        self.in_flight = Some(InFlight { id: plan.id, model, began: self.now, rows });
    }

    /// Sequences of the model with KV on the device, best rank first.
    fn runnable(&self, model: ModelId) -> Vec<SequenceId> {
        let ready = self.live_of(model).filter(|s| s.is_runnable());
        let mut ids: Vec<_> = ready.map(|s| (s.rank(), s.id())).collect();
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
        if sequence.kv != KvState::Device || budget.rows == 0 || wanted == 0 {
            return;
        }
        let start = sequence.computed;
        let Some(tokens) = self.make_room(id, start, wanted, plan) else { return };
        let end = start + tokens;
        let Some(sequence) = self.sequences.get(&id) else { return };
        let samples = end == sequence.tokens.len() as u32;
        let draft = if samples { self.room_for_draft(id, budget.tokens - tokens) } else { Vec::new() };
        let ahead = usize::from(samples && draft.is_empty() && self.has_room_ahead(id));
        let Some(sequence) = self.sequences.get(&id) else { return };
        let Some(model) = self.models.get(&sequence.model()) else { return };
        let positions = end as usize + draft.len() + ahead;
        let table = positions.div_ceil(model.pool.block_tokens());
        budget.tokens -= tokens + draft.len() as u32;
        budget.rows -= 1;
        plan.rows.push(PlanRow {
            sequence: id,
            request: sequence.request(),
            start,
            end,
            tokens: [&sequence.tokens[start as usize..end as usize], &draft].concat(),
            blocks: sequence.blocks[..table].to_vec(),
            samples,
        });
    }

    /// Whether the position behind the sequence's tokens has a block, which is taken where one is free: the step behind this
    /// one may be started before it is planned.
    fn has_room_ahead(&mut self, id: SequenceId) -> bool {
        let Self { sequences, models, memory, .. } = self;
        let Some(sequence) = sequences.get_mut(&id) else { return false };
        let Some(model) = models.get(&sequence.model()).filter(|model| model.setup.runs_ahead) else {
            return false;
        };
        let known = sequence.tokens.len();
        // The token that the step ahead draws must be allowed.
        if known + 2 > model.tokens_max_of(sequence, memory.slabs_total()) as usize {
            return false;
        }
        if known < sequence.blocks.len() * model.pool.block_tokens() {
            return true;
        }
        let block = memory.take_block(models, sequence.parts.model);
        sequence.blocks.extend(block);
        block.is_some()
    }

    /// The sequence's draft as far as its bounds, `tokens_max` and free blocks allow: a guess pushes nobody out.
    fn room_for_draft(&mut self, id: SequenceId, tokens_max: u32) -> Vec<TokenId> {
        let Self { sequences, models, memory, .. } = self;
        let Some(sequence) = sequences.get_mut(&id) else { return Vec::new() };
        let Some(model) = models.get(&sequence.model()) else { return Vec::new() };
        let mut draft = std::mem::take(&mut sequence.draft);
        let known = sequence.tokens.len();
        // The token drawn behind the draft is one more.
        let bound = model.tokens_max_of(sequence, memory.slabs_total()) as usize;
        let left = bound.saturating_sub(known + 1).min(tokens_max as usize).min(DRAFT_TOKENS_MAX);
        draft.truncate(left);
        let block_tokens = model.pool.block_tokens();
        while sequence.blocks.len() * block_tokens < known + draft.len() {
            let Some(block) = memory.take_block(models, sequence.parts.model) else { break };
            sequence.blocks.push(block);
        }
        draft.truncate((sequence.blocks.len() * block_tokens).saturating_sub(known));
        draft
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
    plan.swaps.clear();
    plan.finished.clear();
    plan.refused.clear();
    plan.switch_to = None;
}
