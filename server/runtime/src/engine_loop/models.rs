//! Models come and go while the server runs.
//!
//! ```text
//! asked for     does it fit the budget beside those that must stay? if not, refused before anything is touched
//! make room     weights of the models that ran longest ago leave; their KV stays where it is
//! load          on a thread of its own, while those that stayed run
//! activate      between two steps
//! failed        its requests fail; the models that made room are loaded again
//! ```

use std::time::Instant;

use quarry_core::ids::ModelId;
use quarry_core::plan::{Event, SwitchFailed};
use quarry_model::backend::WarmModel;

use super::EngineLoop;
use crate::observe::SwitchStats;
use crate::registry::Weights;

/// A switch on its way.
pub(super) struct Switching {
    model: ModelId,
    /// Models that made room for it.
    left: Vec<ModelId>,
    began: Instant,
    room_s: f64,
}

impl EngineLoop {
    /// Tells the scheduler of every model, and which of them are there.
    pub(super) fn announce_models(&mut self) {
        for known in &self.registry.models {
            self.events.push(Event::Load(known.setup));
            if known.is_active() {
                self.events.push(Event::Resident(known.served.id, true));
            }
        }
    }

    pub(super) fn wish_load(&mut self, model: ModelId) {
        if let Some(known) = self.registry.get_mut(model) {
            known.is_unloading = false;
            if !known.is_active() {
                self.events.push(Event::SwitchRequested(model));
            }
        }
    }

    pub(super) fn wish_unload(&mut self, model: ModelId) {
        if let Some(known) = self.registry.get_mut(model) {
            known.is_unloading = known.is_active();
        }
    }

    /// Weights of models that are unloading go once their requests are answered.
    pub(super) fn finish_unloads(&mut self) {
        let done: Vec<ModelId> = self
            .registry
            .models
            .iter()
            .filter(|known| {
                known.is_unloading && !self.jobs.values().any(|job| job.model.id == known.served.id)
            })
            .map(|known| known.served.id)
            .collect();
        // A job ends with its sequence, so no step of theirs is in flight.
        for model in done {
            self.evict(model);
        }
    }

    fn evict(&mut self, model: ModelId) {
        let Some(known) = self.registry.get_mut(model) else { return };
        known.weights = Weights::Cold;
        known.is_unloading = false;
        tracing::info!(model = %known.served.name, "weights unloaded; conversations keep their KV");
        self.events.push(Event::Resident(model, false));
    }

    /// The scheduler wants this model; no step is in flight.
    pub(super) fn begin_switch(&mut self, model: ModelId) {
        let began = Instant::now();
        let left = match self.room_for(model) {
            Ok(left) => left,
            // What is on its way cannot make room yet.
            Err(_) if self.registry.is_loading() => {
                self.deferred_switch = Some(model);
                return;
            }
            Err(what) => return self.refuse_switch(model, what),
        };
        for &leaving in &left {
            self.evict(leaving);
        }
        self.events.push(Event::SwitchStarted(model));
        self.switch = Some(Switching { model, left, began, room_s: began.elapsed().as_secs_f64() });
        if let Err(what) = self.read_weights(model) {
            self.fail_switch(model, what);
        }
    }

    /// Models whose weights must leave for this one, those that ran longest ago first.
    fn room_for(&self, model: ModelId) -> Result<Vec<ModelId>, String> {
        let registry = &self.registry;
        let target = registry.models.get(model.0 as usize).ok_or("no such model")?;
        let needed = target.served.weight_bytes;
        let mut active: Vec<_> = registry.models.iter().filter(|known| known.is_active()).collect();
        active.sort_by_key(|known| known.used);
        let mut held = registry.weight_bytes();
        let mut left = Vec::new();
        for known in active {
            if registry.budget.fits(held, needed).is_ok() {
                break;
            }
            held -= known.served.weight_bytes;
            left.push(known.served.id);
        }
        registry.budget.fits(held, needed).map(|()| left)
    }

    fn refuse_switch(&mut self, model: ModelId, what: String) {
        tracing::warn!(model = model.0, %what, "switch refused");
        if let Some(known) = self.registry.get_mut(model) {
            known.weights = Weights::Failed(what);
        }
        self.events.push(Event::SwitchDone(model, Err(SwitchFailed)));
    }

    fn read_weights(&mut self, model: ModelId) -> Result<(), String> {
        let inbox = self.shared.inbox.clone();
        self.registry.load(model, move |model, result| inbox.loaded(model, result))
    }

    /// A loader thread is done.
    pub(super) fn loaded(&mut self, model: ModelId, result: Result<WarmModel, String>) {
        let read = Instant::now();
        let activated = result.and_then(|warm| {
            self.registry.activate(model.0 as usize, warm).map_err(|error| error.to_string())
        });
        let switch = self.switch.take_if(|switch| switch.model == model);
        match (activated, switch) {
            (Ok(()), Some(switch)) => {
                self.events.push(Event::SwitchDone(model, Ok(())));
                self.observer.switch(&SwitchStats {
                    model: self.name(model),
                    room_s: switch.room_s,
                    load_s: read.duration_since(switch.began).as_secs_f64() - switch.room_s,
                    activate_s: read.elapsed().as_secs_f64(),
                });
            }
            // One that made room and comes back.
            (Ok(()), None) => self.events.push(Event::Resident(model, true)),
            (Err(what), Some(switch)) => {
                self.switch = Some(switch);
                self.fail_switch(model, what);
            }
            (Err(what), None) => {
                tracing::error!(model = model.0, %what, "a model could not be loaded again");
                if let Some(known) = self.registry.get_mut(model) {
                    known.weights = Weights::Failed(what);
                }
            }
        }
        if let Some(deferred) = self.deferred_switch.take() {
            self.begin_switch(deferred);
        }
    }

    /// The requests of the model fail, and who made room comes back.
    fn fail_switch(&mut self, model: ModelId, what: String) {
        tracing::error!(model = %self.name(model), %what, "switch failed; the models before come back");
        if let Some(known) = self.registry.get_mut(model) {
            known.weights = Weights::Failed(what);
        }
        self.events.push(Event::SwitchDone(model, Err(SwitchFailed)));
        for left in self.switch.take().map(|switch| switch.left).unwrap_or_default() {
            if let Err(what) = self.read_weights(left) {
                self.loaded(left, Err(what));
            }
        }
    }

    /// Why a model's weights are not there, where that is a failure.
    pub(super) fn load_failure(&self, model: ModelId) -> Option<String> {
        match self.registry.models.get(model.0 as usize).map(|known| &known.weights) {
            Some(Weights::Failed(what)) => Some(what.clone()),
            _ => None,
        }
    }

    fn name(&self, model: ModelId) -> String {
        let known = self.registry.models.get(model.0 as usize);
        known.map(|known| known.served.name.clone()).unwrap_or_default()
    }
}
