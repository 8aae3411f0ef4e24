//! Models come and go on the device, and those that are there take turns.
//!
//! A model is resident while its weights are on the device. Resident models share the device step by step, so that each
//! gets the same time. Two cases need more than that:
//! - A model with requests is not resident: the runtime is asked to switch ([`StepPlan::switch_to`]) when no resident
//!   model has work, or when its requests have waited long enough (at least as long as the last switch took) and the
//!   models there have drawn meanwhile.
//! - A resident model cannot run, for others hold the memory: after the same wait it gets an exclusive turn, in which the
//!   others' sequences make room for it. The turn ends when it has nothing left to do, or when another one has waited
//!   as long and it has drawn; so memory moves seldom and every turn brings somebody on.

use crate::block_pool::BlockPool;
use crate::ids::{ModelId, SequenceId, Tick};
use crate::plan::{FinishReason, ModelSetup, StepPlan};
use crate::scheduler::{Model, Scheduler, Totals};
use crate::sequence::Sequence;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// The model for which others make room, and when its turn began.
    pub exclusive: Option<(ModelId, Tick)>,
    /// Whether others made room in this turn.
    pub has_displaced: bool,
    /// Somebody asked for it beside requests.
    pub wanted: Option<ModelId>,
    /// What the runtime is doing.
    pub switch: Option<Switch>,
    /// When the last switch began.
    pub switch_began: Tick,
    /// When the last switch ended.
    pub switched: Tick,
    /// Whether a token was drawn since the last switch or the begin of the exclusive turn.
    pub has_drawn: bool,
}

/// A switch on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switch {
    pub model: ModelId,
    /// The runtime has made room: who stayed runs while it loads. Before that nothing runs.
    pub has_started: bool,
}

impl Scheduler {
    /// A bound of zero would never run anything: it counts as one.
    pub(crate) fn load(&mut self, setup: ModelSetup) {
        let setup = ModelSetup {
            block_tokens: setup.block_tokens.max(1),
            slab_blocks: setup.slab_blocks.max(1),
            step_tokens_max: setup.step_tokens_max.max(1),
            step_rows_max: setup.step_rows_max.max(1),
            ..setup
        };
        if self.models.contains_key(&setup.model) {
            self.stray_events += 1; // a known model keeps its pool: its blocks are in use
            return;
        }
        let model = Model {
            setup,
            pool: BlockPool::new(setup.slab_blocks, setup.block_tokens),
            is_resident: false,
            service_us: 0,
            ran: Tick(0),
            totals: Totals::default(),
            rates: None,
            saves_fail: false,
        };
        self.models.insert(setup.model, model);
    }

    pub(crate) fn set_resident(&mut self, model: ModelId, is_resident: bool) {
        match self.models.get_mut(&model) {
            Some(known) => known.is_resident = is_resident,
            None => self.stray_events += 1,
        }
        self.turns.exclusive.take_if(|(holder, _)| !is_resident && *holder == model);
    }

    pub(crate) fn switch_started(&mut self, model: ModelId) {
        match &mut self.turns.switch {
            Some(switch) if switch.model == model && !switch.has_started => switch.has_started = true,
            _ => self.stray_events += 1,
        }
    }

    pub(crate) fn switch_done(&mut self, model: ModelId, ok: bool) {
        if self.turns.switch.is_none_or(|switch| switch.model != model) {
            self.stray_events += 1;
            return;
        }
        self.turns.switch = None;
        self.turns.switched = self.now;
        self.turns.has_drawn = false;
        if ok {
            self.set_resident(model, true);
        } else {
            // Who waits for a model that cannot be had gets an answer now.
            self.fail_all_of(model);
        }
    }

    fn fail_all_of(&mut self, model: ModelId) {
        let ids: Vec<SequenceId> = self.live_of(model).map(Sequence::id).collect();
        for id in ids {
            self.end(id, FinishReason::Failed);
        }
    }

    /// Live sequences of a model.
    pub(crate) fn live_of(&self, model: ModelId) -> impl Iterator<Item = &Sequence> {
        self.sequences.values().filter(move |s| s.model() == model && s.end.is_none())
    }

    pub(crate) fn has_work(&self, model: ModelId) -> bool {
        self.live_of(model).next().is_some()
    }

    /// Asks for a switch where one is due; only between steps.
    pub(crate) fn choose_switch(&mut self, plan: &mut StepPlan) {
        if self.in_flight.is_some() || self.turns.switch.is_some() {
            return;
        }
        let is_away = |model: &ModelId| self.models.get(model).is_some_and(|m| !m.is_resident);
        let wanted = self.turns.wanted.filter(is_away);
        self.turns.wanted = None;
        if let Some(model) = wanted.or_else(|| self.due_switch()) {
            self.turns.switch = Some(Switch { model, has_started: false });
            self.turns.switch_began = self.now;
            plan.switch_to = Some(model);
        }
    }

    /// Of the models that are away the one whose requests wait longest, if it is due.
    fn due_switch(&self) -> Option<ModelId> {
        let is_busy = self.models.iter().any(|(id, model)| model.is_resident && self.has_work(*id));
        let away = self.models.iter().filter(|(_, model)| !model.is_resident);
        let (since, model) = away.filter_map(|(id, _)| Some((self.waits_since(*id)?, *id))).min()?;
        let waited = self.now.0.saturating_sub(since.max(self.turns.switched).0);
        // Who came at the price of a long switch stays as long, else a slow machine would do nothing but switch.
        let price = self.turns.switched.0.saturating_sub(self.turns.switch_began.0);
        let is_due = !is_busy || (self.turns.has_drawn && waited >= price.max(self.limits.switch_wait_us));
        is_due.then_some(model)
    }

    /// Since when the model has had work and did not run.
    fn waits_since(&self, model: ModelId) -> Option<Tick> {
        let ran = self.models.get(&model)?.ran;
        self.live_of(model).map(|s| s.arrived.max(ran)).min()
    }

    /// Ends or begins an exclusive turn.
    pub(crate) fn choose_exclusive(&mut self) {
        let has_work = |(model, _): (ModelId, Tick)| self.has_work(model);
        if self.turns.exclusive.is_some_and(|turn| !has_work(turn)) {
            self.turns.exclusive = None;
        }
        if self.turns.exclusive.is_some() && !self.turns.has_drawn {
            return; // a turn without a draw would be for nothing, perhaps again and again
        }
        let (holder, began) = self.turns.exclusive.unzip();
        let began = began.unwrap_or(Tick(0));
        let others = self.models.iter().filter(|(id, model)| model.is_resident && Some(**id) != holder);
        let longest = others.filter_map(|(id, _)| Some((self.waits_since(*id)?.max(began), *id))).min();
        if let Some((since, model)) = longest
            && self.now.0.saturating_sub(since.0) >= self.limits.switch_wait_us
        {
            self.turns.exclusive = Some((model, self.now));
            self.turns.has_drawn = false;
            self.turns.has_displaced = false;
        }
    }

    /// Resident models with work in the order in which they may run: the one whose turn is exclusive alone, else
    /// whoever had the least time.
    pub(crate) fn order_of_models(&self) -> Vec<ModelId> {
        if let Some((model, _)) = self.turns.exclusive {
            return vec![model];
        }
        let working = self.models.iter().filter(|(id, model)| model.is_resident && self.has_work(**id));
        let mut order: Vec<_> = working.map(|(id, model)| (model.service_us, model.ran, *id)).collect();
        order.sort_unstable();
        order.into_iter().map(|(.., id)| id).collect()
    }

    /// Whether other models' sequences make room for this one: in its exclusive turn, or where nobody else can run.
    pub(crate) fn may_displace(&self, model: ModelId) -> bool {
        match self.turns.exclusive {
            Some((holder, _)) => holder == model,
            None => !self.models.iter().any(|(id, m)| *id != model && m.is_resident && self.has_work(*id)),
        }
    }

    /// A model had nothing to do and gets work: the time that others had meanwhile is not made up for.
    pub(crate) fn credit_idle_time(&mut self, model: ModelId) {
        if self.has_work(model) {
            return;
        }
        let live = self.sequences.values().filter(|s| s.end.is_none());
        let working = live.filter_map(|s| self.models.get(&s.model()));
        let least = working.map(|m| m.service_us).min();
        if let (Some(least), Some(known)) = (least, self.models.get_mut(&model)) {
            known.service_us = known.service_us.max(least);
        }
    }
}
