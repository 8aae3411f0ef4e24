//! Which model's turn it is: load, unload, fair turns, and the way of a switch.
//!
//! A switch is asked for by the runtime, or is due when the active model has nothing to do, when another one has had less
//! service and switching moves nothing (step by step, so that each gets the same time), or when another one was kept
//! waiting. Where the device pool does not outlive it, the active model's sequences first go to the host pool
//! (`Turn::Leaving`); then the runtime is told (`Turn::Switching`) and answers. Nothing runs in between.

use crate::block_pool::BlockPool;
use crate::ids::{ModelId, SequenceId};
use crate::plan::{FinishReason, ModelSetup, StepPlan};
use crate::scheduler::{Loaded, Scheduler, Totals, Turn};
use crate::sequence::{Place, Sequence};

impl Scheduler {
    /// A bound of zero would never run anything: it counts as one.
    pub(crate) fn load(&mut self, setup: ModelSetup) {
        let setup = ModelSetup {
            block_tokens: setup.block_tokens.max(1),
            step_tokens_max: setup.step_tokens_max.max(1),
            step_rows_max: setup.step_rows_max.max(1),
            ..setup
        };
        if self.models.contains_key(&setup.model) {
            self.stray_events += 1; // a loaded model keeps its pool: its blocks are in use
            return;
        }
        let pool = BlockPool::new(setup.blocks, setup.block_tokens);
        self.models.insert(
            setup.model,
            Loaded { setup, pool, turn: 0, service_us: 0, totals: Totals::default(), rates: None },
        );
    }

    /// Ends the model's sequences; it is gone once no step and no swap uses its memory.
    pub(crate) fn unload(&mut self, model: ModelId) {
        if !self.models.contains_key(&model) || self.unloading.contains(&model) {
            self.stray_events += 1;
            return;
        }
        self.fail_all_of(model);
        self.unloading.push(model);
    }

    pub(crate) fn finish_unloads(&mut self, plan: &mut StepPlan) {
        let Self { unloading, sequences, models, active, .. } = self;
        unloading.retain(|model| {
            let used = sequences.values().any(|s| s.model() == *model);
            if !used {
                models.remove(model);
                plan.unloaded.push(*model);
                active.take_if(|active| active == model);
            }
            used
        });
    }

    pub(crate) fn switch_done(&mut self, model: ModelId, ok: bool) {
        if self.turn != Turn::Switching(model) {
            self.stray_events += 1;
            return;
        }
        self.turn = Turn::Steady;
        self.turn_began = self.now;
        self.drawn_in_turn = false;
        if !ok {
            // Who waits for a model that cannot be had gets an answer now; the model before goes on.
            self.fail_all_of(model);
            return;
        }
        self.turns += 1;
        // Unloaded meanwhile: then no model is active.
        self.active = self.models.get_mut(&model).map(|loaded| {
            loaded.turn = self.turns;
            model
        });
    }

    fn fail_all_of(&mut self, model: ModelId) {
        let of_model = |s: &&Sequence| s.model() == model;
        let ids: Vec<SequenceId> = self.sequences.values().filter(of_model).map(Sequence::id).collect();
        for id in ids {
            self.end(id, FinishReason::Failed);
        }
    }

    /// Starts, or goes on with, a switch; only between steps.
    pub(crate) fn choose_model(&mut self, plan: &mut StepPlan) {
        if self.in_flight.is_some() || matches!(self.turn, Turn::Switching(_)) {
            return;
        }
        let target = match self.turn {
            Turn::Leaving(target) => Some(target),
            _ => self.switch_wanted.take().or_else(|| self.next_turn()),
        };
        self.turn = Turn::Steady;
        let usable = |target: &ModelId| {
            Some(*target) != self.active
                && self.models.contains_key(target)
                && !self.unloading.contains(target)
        };
        let Some(target) = target.filter(usable) else { return };
        if self.left_device(plan) {
            self.turn = Turn::Switching(target);
            plan.switch_to = Some(target);
        } else {
            self.turn = Turn::Leaving(target);
        }
    }

    /// Where the active model's pool does not stay: sends its sequences off the device; true when all are gone.
    fn left_device(&mut self, plan: &mut StepPlan) -> bool {
        let Some(active) = self.active else { return true };
        if self.models.get(&active).is_none_or(|loaded| loaded.setup.pool_stays) {
            return true;
        }
        let here = |s: &&Sequence| s.model() == active && s.place == Place::Device && !s.pinned();
        let ids: Vec<SequenceId> = self.sequences.values().filter(here).map(Sequence::id).collect();
        for id in ids {
            self.preempt(id, plan);
        }
        if self.sequences.values().any(|s| s.model() == active && !s.blocks.is_empty()) {
            return false;
        }
        if let Some(loaded) = self.models.get_mut(&active) {
            // Whatever was cached is gone, even where the switch fails.
            loaded.pool = BlockPool::new(loaded.setup.blocks, loaded.setup.block_tokens);
        }
        true
    }

    /// The model whose turn is due: of those that wait (long enough, where the active one is busy) the one whose
    /// last turn is longest ago, so that models take turns and none starves.
    fn next_turn(&self) -> Option<ModelId> {
        let live = || self.sequences.values().filter(|s| s.end.is_none());
        let busy = live().any(|s| Some(s.model()) == self.active);
        // Where a switch may cost all KV, a turn without a draw would be for nothing, perhaps again and again.
        let stays = self.active.and_then(|id| self.models.get(&id)).is_none_or(|m| m.setup.pool_stays);
        if busy && !stays && !self.drawn_in_turn {
            return None;
        }
        let served = self.active.and_then(|id| self.models.get(&id)).map_or(0, |m| m.service_us);
        // Where a switch moves nothing, who has had less service is next.
        let service = |s: &Sequence| {
            let loaded = self.models.get(&s.model()).filter(|loaded| stays && loaded.setup.pool_stays);
            loaded.map(|loaded| loaded.service_us)
        };
        let due = |s: &&Sequence| {
            // Counted from the turn's begin at the earliest: a fresh turn is never cut short.
            let waited = self.now.0.saturating_sub(s.arrived.0.max(self.turn_began.0));
            let is_behind = service(s).is_some_and(|service| service < served);
            Some(s.model()) != self.active && (!busy || is_behind || waited >= self.limits.switch_wait_us)
        };
        let turn = |s: &Sequence| self.models.get(&s.model()).map_or(0, |loaded| loaded.turn);
        live().filter(due).min_by_key(|s| (service(s), turn(s), s.arrived, s.id)).map(Sequence::model)
    }

    /// A model had nothing to do and gets work: the time that others had meanwhile is not made up for.
    pub(crate) fn credit_rest(&mut self, model: ModelId) {
        let live = |s: &Sequence| s.end.is_none();
        if self.sequences.values().any(|s| live(s) && s.model() == model) {
            return;
        }
        let working = self.sequences.values().filter(|s| live(s)).map(Sequence::model);
        let least = working.filter_map(|id| self.models.get(&id)).map(|loaded| loaded.service_us).min();
        if let (Some(least), Some(loaded)) = (least, self.models.get_mut(&model)) {
            loaded.service_us = loaded.service_us.max(least);
        }
    }
}
