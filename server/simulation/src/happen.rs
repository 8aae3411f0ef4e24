//! What happens to the fake runtime between two steps: results early, late and doubled, switches, unloads, restarts.

use quarry_core::ids::{ModelId, RequestId, StepId, SwapId};
use quarry_core::plan::{Event, StepOutcome, SwapFailed, SwitchFailed};
use quarry_core::scheduler::Scheduler;
use quarry_core::verdict::Verdict;

use crate::model::{outcome, run_all};
use crate::world::{Future, World};

/// Models whose loading failed a switch for come back in so many of a hundred cases.
const COME_BACK: u64 = 80;

impl World {
    pub fn happen(&mut self, future: Future, events: &mut Vec<Event>) {
        match future {
            Future::Outside(event) => {
                self.note(&event);
                events.push(event);
            }
            Future::Step => self.end_step(events),
            Future::Swap(id) => self.end_swap(id, events),
            Future::SwitchStart => self.begin_switch(events),
            Future::SwitchEnd => self.end_switch(events),
            Future::Loaded(model) => self.loaded(model, events),
            Future::Unload(model) => self.unload(model, events),
            Future::Restart => self.restart(events),
        }
    }

    /// An event about something that does not exist (any more).
    pub fn stray(&mut self) -> Event {
        match self.rng.within(0, 4) {
            0 => Event::Cancel(RequestId(777)),
            1 => Event::StepDone(StepOutcome { id: StepId(1 << 40), rows: Vec::new() }),
            2 => Event::StepFailed(StepId(0)),
            3 => Event::SwapDone(SwapId(1 << 40), Ok(())),
            _ => Event::SwitchDone(ModelId(98), Ok(())),
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Submit(request) => {
                let parts = request.parts();
                let id = parts.id;
                // Who asks for a model that nobody knows is refused.
                let room = self.device.setups.contains_key(&parts.model).then(|| self.room(parts.model));
                let room = room.unwrap_or(0).saturating_sub(parts.prompt.len() as u32);
                self.verdicts.insert(id, Verdict::new(parts, room));
                self.live.insert(id);
                self.submitted.push(id);
                if self.is_shut {
                    self.must_refuse.insert(id);
                }
            }
            Event::Cancel(request) if self.live.contains(request) => {
                self.cancelled.insert(*request);
            }
            Event::Load(setup) => self.device.load(*setup),
            Event::SwitchRequested(_) => self.seen.switches_asked += 1,
            Event::Shutdown => self.is_shut = true,
            _ => {}
        }
    }

    fn end_step(&mut self, events: &mut Vec<Event>) {
        let doubled = self.rng.percent(self.faults.doubled);
        let step = self.step.take().expect("one step in flight");
        if step.fails {
            for work in &step.works {
                self.device.run_broken(step.model, work, &mut self.rng);
                self.may_fail.insert(work.row.request);
                self.must_fail.insert(work.row.request);
            }
            events.push(Event::StepFailed(step.id));
            return;
        }
        let contents = step.early.unwrap_or_else(|| run_all(&mut self.device, step.model, &step.works));
        let outcome = outcome(step.id, step.model, &step.works, &contents, &mut self.verdicts);
        if doubled {
            events.push(Event::StepDone(outcome.clone()));
        }
        events.push(Event::StepDone(outcome));
    }

    fn end_swap(&mut self, id: SwapId, events: &mut Vec<Event>) {
        let doubled = self.rng.percent(self.faults.doubled);
        let swap = self.swaps.remove(&id).expect("in flight");
        let result = if swap.fails {
            self.device.swap_broken(&swap.order, &mut self.rng);
            Err(SwapFailed)
        } else {
            if !swap.early {
                self.device.swap(&swap.order);
            }
            Ok(())
        };
        if doubled {
            events.push(Event::SwapDone(id, result));
        }
        events.push(Event::SwapDone(id, result));
    }

    fn begin_switch(&mut self, events: &mut Vec<Event>) {
        let mut switching = self.switching.take().expect("asked for");
        if self.rng.percent(self.faults.switch) {
            self.fail_switch(switching.model, events);
            return;
        }
        while self.resident.len() >= self.residents_max {
            let at = self.rng.within(0, self.resident.len() as u64 - 1);
            let leaves = self.resident.remove(at as usize);
            switching.left.push(leaves);
            events.push(Event::Resident(leaves, false));
        }
        switching.has_started = true;
        events.push(Event::SwitchStarted(switching.model));
        self.switching = Some(switching);
        self.expect_within(400, Future::SwitchEnd);
    }

    fn end_switch(&mut self, events: &mut Vec<Event>) {
        let switching = self.switching.take().expect("asked for");
        if self.rng.percent(self.faults.switch) {
            self.fail_switch(switching.model, events);
            for model in switching.left {
                if self.rng.percent(COME_BACK) {
                    self.expect_within(400, Future::Loaded(model));
                }
            }
            return;
        }
        self.resident.push(switching.model);
        events.push(Event::SwitchDone(switching.model, Ok(())));
    }

    fn fail_switch(&mut self, model: ModelId, events: &mut Vec<Event>) {
        self.seen.switches_failed += 1;
        self.let_fail(model);
        events.push(Event::SwitchDone(model, Err(SwitchFailed)));
    }

    /// A model comes that no switch is for: it made room for one that failed, or the engine that asked for it is gone.
    fn loaded(&mut self, model: ModelId, events: &mut Vec<Event>) {
        let is_switching = self.switching.as_ref().is_some_and(|switching| switching.model == model);
        if is_switching || self.resident.contains(&model) || self.resident.len() >= self.residents_max {
            return;
        }
        self.seen.loads += 1;
        self.resident.push(model);
        events.push(Event::Resident(model, true));
    }

    /// Somebody's wish: a model leaves if it has no live sequence.
    fn unload(&mut self, model: ModelId, events: &mut Vec<Event>) {
        let counts = self.scheduler.counts(model).unwrap_or_default();
        if counts.running + counts.waiting + counts.swapped + counts.suspended > 0 {
            return;
        }
        if let Some(at) = self.resident.iter().position(|known| *known == model) {
            self.resident.remove(at);
            self.seen.unloads += 1;
            events.push(Event::Resident(model, false));
        }
    }

    /// The engine broke: everybody is answered, what it had begun is of no meaning to the next one, which learns what is
    /// there. A model that is being loaded comes all the same.
    fn restart(&mut self, events: &mut Vec<Event>) {
        self.seen.restarts += 1;
        self.count_totals();
        self.fail_everybody();
        self.scheduler = Scheduler::new(self.limits.clone());
        events.clear();
        self.submitted.clear();
        self.step = None;
        self.swaps.clear();
        self.hosts_out.clear();
        self.queues.clear();
        self.displacements.clear();
        self.device.restart(&mut self.rng);
        self.futures.retain(|_, future| {
            !matches!(future, Future::Step | Future::Swap(_) | Future::SwitchStart | Future::SwitchEnd)
        });
        if let Some(switching) = self.switching.take().filter(|switching| switching.has_started) {
            self.expect_within(400, Future::Loaded(switching.model));
        }
        for setup in self.device.setups.values() {
            events.push(Event::Load(*setup));
        }
        events.extend(self.resident.iter().map(|model| Event::Resident(*model, true)));
        if self.is_shut {
            events.push(Event::Shutdown);
        }
    }
}
