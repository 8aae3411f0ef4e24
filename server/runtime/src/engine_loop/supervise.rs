//! The loop around the loop: a panic or a broken device answers what was in flight, everything on the device is made anew
//! from warm weights, and the engine goes on. Too often within a window ends it, and the handle reports it as dead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quarry_core::ids::StepId;
use quarry_core::plan::StepPlan;
use quarry_core::scheduler::{Scheduler, Totals};

use super::{EngineLoop, Next};
use crate::generate::GenerateError;
use crate::observe::{ModelSnapshot, ModelState, Snapshot};
use crate::registry::{Known, Weights};

/// How long a restart waits for copies that are still on their way.
const SWAPS_END: Duration = Duration::from_secs(5);

impl EngineLoop {
    /// Runs until told to stop, or until the engine gives up.
    pub fn run(mut self) {
        self.shared.ready.store(true, Ordering::Release);
        loop {
            let fault = match catch_unwind(AssertUnwindSafe(|| self.iterate())) {
                Ok(Next::Again) => continue,
                Ok(Next::Stop) => break,
                Ok(Next::Restart(what)) => format!("the device failed: {what}"),
                Err(panic) => format!("the engine panicked: {}", panic_text(&*panic)),
            };
            if !self.recover(&fault) {
                self.shared.dead.store(true, Ordering::Release);
                break;
            }
        }
        self.shared.ready.store(false, Ordering::Release);
        let why = match self.is_dead() {
            true => GenerateError::Engine("the engine gave up".into()),
            false => GenerateError::ShutDown,
        };
        self.fail_all(&why);
        for job in self.shared.inbox.close().submissions {
            job.fail(why.clone()); // it came after the last look
        }
        self.publish();
    }

    /// Everyone in flight gets an answer, the executors are made anew, the scheduler starts empty. False when that
    /// happened too often or fails.
    fn recover(&mut self, fault: &str) -> bool {
        let now = Instant::now();
        self.panics.push_back(now);
        let window = Duration::from_secs_f64(self.options.restart_window_s);
        while self.panics.front().is_some_and(|first| now.duration_since(*first) > window) {
            self.panics.pop_front();
        }
        tracing::error!(fault, recent = self.panics.len(), "the engine starts anew");
        self.shared.ready.store(false, Ordering::Release);
        // Its text is for the log: it may hold what others asked.
        self.fail_all(&GenerateError::Engine("a fault in the engine; it starts anew".into()));
        if self.panics.len() > self.options.restarts_max {
            tracing::error!("the engine gives up");
            return false;
        }
        while !self.swaps.are_over() && now.elapsed() < SWAPS_END {
            self.poll_swaps();
            std::thread::sleep(Duration::from_millis(1));
        }
        self.swaps.forget();
        // The new scheduler knows of no switch: a model that is still being read comes as one that nobody asked for.
        self.switch = None;
        self.deferred_switch = None;
        self.events.clear();
        self.plan = StepPlan { id: StepId::default(), ..StepPlan::default() };
        self.started = None;
        self.scheduler = Scheduler::new(self.options.scheduler.clone());
        if let Err(error) = self.registry.reactivate() {
            tracing::error!(%error, "the engine could not be reloaded and gives up");
            return false;
        }
        self.restarts += 1;
        self.announce_models();
        self.shared.ready.store(true, Ordering::Release);
        true
    }

    fn fail_all(&mut self, why: &GenerateError) {
        for (_, job) in self.jobs.drain() {
            job.fail(why.clone());
        }
    }

    /// Shows everybody the state of now.
    pub(super) fn publish(&self) {
        let budget = self.registry.budget;
        let snapshot = Snapshot {
            models: self.registry.models.iter().map(|known| self.model_snapshot(known)).collect(),
            awaited: self.shared.arrivals.list(),
            host_pool_bytes: self.scheduler.host_bytes(),
            host_pool_cached_bytes: self.scheduler.host_bytes_cached(),
            host_pool_bytes_max: budget.host_pool_bytes,
            kv_slabs_free: self.scheduler.slabs_free() as u64,
            budget,
            weights: self.registry.weight_bytes(),
            restarts: self.restarts,
            healthy: !self.is_dead(),
        };
        *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    fn model_snapshot(&self, known: &Known) -> ModelSnapshot {
        let counts = self.scheduler.counts(known.served.id).unwrap_or_default();
        let Totals { prefix_query_tokens, prefix_hit_tokens, preemptions, .. } = counts.totals;
        let state = match &known.weights {
            Weights::Active { .. } if known.is_unloading => ModelState::Unloading,
            Weights::Active { .. } => ModelState::Active,
            Weights::Cold => ModelState::Cold,
            Weights::Warm(_) => ModelState::Warm,
            Weights::Loading(permille) => {
                ModelState::Loading { share: f32::from(permille.load(Ordering::Relaxed) as u16) / 1000.0 }
            }
            Weights::Failed(why) => ModelState::Failed(why.clone()),
        };
        ModelSnapshot {
            model: known.served.name.clone(),
            state,
            running: counts.running as u32,
            waiting: counts.waiting as u32,
            swapped: counts.swapped as u32,
            suspended: counts.suspended as u32,
            kv_usage: counts.kv_usage(),
            prefix_query_tokens,
            prefix_hit_tokens,
            preemptions,
            swap_out_bytes: known.swap_out_bytes,
            swap_in_bytes: known.swap_in_bytes,
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
