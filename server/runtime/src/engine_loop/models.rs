//! Models come and go while the server runs.
//!
//! ```text
//! asked for     does it fit the budget beside those that must stay? if not, refused before anything is touched
//! make room     weights of the models that ran longest ago leave; their KV stays where it is
//! load          on a thread of its own, while those that stayed run; not where they are warm
//! activate      between two steps
//! failed        its requests fail; the models that made room come back
//! arrived       a model whose files have come is served from now on, and loaded if nobody has to leave for it
//! ```

use std::sync::PoisonError;
use std::time::Instant;

use quarry_core::ids::ModelId;
use quarry_core::plan::{Event, SwitchFailed};
use quarry_model::backend::WarmModel;

use super::EngineLoop;
use crate::observe::{ModelState, SwitchStats};
use crate::opening::Opened;
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
        let Some(known) = self.registry.get_mut(model) else { return };
        known.is_unloading = known.is_active();
        if known.is_warm() {
            self.registry.forget_weights(model);
        }
    }

    /// A model's files have come.
    pub(super) fn arrived(&mut self, opened: Opened) {
        let name = opened.source.name.clone();
        let added = self.registry.add(opened, &self.options);
        let Ok(id) = added.inspect_err(|error| {
            tracing::error!(model = %name, %error, "a model that has come cannot be served");
            self.shared.arrivals.set(&name, ModelState::Failed(error.to_string()));
        }) else {
            return;
        };
        let known = &self.registry.models[id.0 as usize];
        tracing::info!(model = %name, architecture = %known.served.architecture, "model has come");
        self.events.push(Event::Load(known.setup));
        let (served, needed) = (known.served.clone(), known.served.weight_bytes);
        // It is in the snapshot before anybody can ask for it.
        self.publish();
        self.shared.models.write().unwrap_or_else(PoisonError::into_inner).push(served);
        self.shared.arrivals.remove(&name);
        if self.registry.budget.fits(self.registry.weight_bytes(), needed, false).is_ok()
            && let Err(what) = self.read_weights(id)
        {
            self.loaded(id, Err(what));
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
            self.registry.forget_weights(model);
            tracing::info!(model = %self.name(model), "weights unloaded; conversations keep their KV");
            self.events.push(Event::Resident(model, false));
        }
    }

    /// The scheduler wants this model; no step is in flight.
    pub(super) fn begin_switch(&mut self, model: ModelId) {
        let began = Instant::now();
        let room = match self.registry.room_for(model) {
            Ok(room) => room,
            // What is on its way cannot make room yet.
            Err(_) if self.registry.is_loading() => {
                self.deferred_switch = Some(model);
                return;
            }
            Err(what) => return self.refuse_switch(model, what),
        };
        for &leaving in &room.leave {
            self.registry.leave_device(leaving);
            self.events.push(Event::Resident(leaving, false));
        }
        for &forgotten in &room.forget {
            self.registry.forget_weights(forgotten);
        }
        let leave: Vec<String> = room.leave.iter().map(|leaving| self.name(*leaving)).collect();
        tracing::info!(model = %self.name(model), ?leave, "switch; conversations keep their KV");
        self.events.push(Event::SwitchStarted(model));
        self.switch =
            Some(Switching { model, left: room.leave, began, room_s: began.elapsed().as_secs_f64() });
        self.bring(model);
    }

    /// Warm weights are used at once, others read.
    fn bring(&mut self, model: ModelId) {
        match self.registry.take_warm(model) {
            Some(warm) => self.loaded(model, Ok(warm)),
            None => {
                if let Err(what) = self.read_weights(model) {
                    self.loaded(model, Err(what));
                }
            }
        }
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
            self.bring(left);
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
