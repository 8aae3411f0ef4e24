//! The engine thread: mail → events → scheduler → plan → executor → outcome → events.
//!
//! One iteration is [`EngineLoop::iterate`]. Its parts: [`mail`] turns what clients want into events and answers them,
//! [`swaps`] moves blocks, [`models`] brings weights up and down, [`crate::execute`] runs a step, [`supervise`] catches
//! panics and starts anew.

mod mail;
mod models;
mod supervise;
mod swaps;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use quarry_core::ids::{ModelId, RequestId, Tick};
use quarry_core::plan::{Event, MeasuredRates, StepOutcome, StepPlan};
use quarry_core::scheduler::Scheduler;
use quarry_model::executor::{ExecError, StepResult};

use crate::ahead::Started;
use crate::arrivals::Arrivals;
use crate::bind::Job;
use crate::execute::Pass;
use crate::inbox::Inbox;
use crate::observe::{Observer, Snapshot};
use crate::opening::ServedModel;
use crate::options::EngineOptions;
use crate::registry::{Registry, Weights};

/// How long an idle engine sleeps before it looks again; mail wakes it at once.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// How long it waits when only swaps are in flight.
const SWAP_WAIT: Duration = Duration::from_micros(200);
/// How long it waits when requests are there and none can run.
const STALLED_WAIT: Duration = Duration::from_millis(1);

/// What the handle shares with the thread.
pub struct Shared {
    pub inbox: Arc<Inbox>,
    pub ready: AtomicBool,
    pub draining: AtomicBool,
    /// The engine gave up; never cleared.
    pub dead: AtomicBool,
    pub snapshot: Mutex<Snapshot>,
    /// Every model that requests may name, by id.
    pub models: RwLock<Vec<Arc<ServedModel>>>,
    /// Those that are still to come.
    pub arrivals: Arc<Arrivals>,
    /// When the engine's clock began.
    pub started: Instant,
}

/// Everything the thread owns.
pub struct EngineLoop {
    registry: Registry,
    options: EngineOptions,
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    scheduler: Scheduler,
    jobs: HashMap<RequestId, Job>,
    events: Vec<Event>,
    plan: StepPlan,
    result: StepResult,
    swaps: swaps::Swaps,
    /// The step that was started before it is planned.
    started: Option<Started>,
    switch: Option<models::Switching>,
    /// A switch that waits until weights that are on their way have arrived.
    deferred_switch: Option<ModelId>,
    /// Ends when everything is answered.
    draining: bool,
    panics: VecDeque<Instant>,
    restarts: u64,
}

/// What comes after an iteration.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Again,
    Stop,
    /// The device is in doubt: everything on it starts anew.
    Restart(String),
}

impl EngineLoop {
    pub fn new(
        registry: Registry,
        options: EngineOptions,
        shared: Arc<Shared>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let scheduler = Scheduler::new(options.scheduler.clone());
        let mut engine = Self {
            registry,
            options,
            shared,
            observer,
            scheduler,
            jobs: HashMap::new(),
            events: Vec::new(),
            plan: StepPlan::default(),
            result: StepResult::default(),
            swaps: swaps::Swaps::default(),
            started: None,
            switch: None,
            deferred_switch: None,
            draining: false,
            panics: VecDeque::new(),
            restarts: 0,
        };
        engine.announce_models();
        engine.publish();
        engine
    }

    fn iterate(&mut self) -> Next {
        let mail = self.shared.inbox.take(self.wait());
        if self.accept(mail) == Next::Stop {
            return Next::Stop;
        }
        self.poll_swaps();
        self.finish_unloads();
        let now = Tick(self.shared.started.elapsed().as_micros() as u64);
        self.scheduler.step(now, &mut self.events, &mut self.plan);
        let plan = std::mem::take(&mut self.plan);
        // Good for this plan or for none: later its blocks may have been others'.
        let started = self.started.take().filter(|started| plan.model == Some(started.model));
        self.settle(&plan);
        if let Some(model) = plan.switch_to {
            self.begin_switch(model);
        }
        self.start_swaps(&plan);
        if !plan.rows.is_empty() {
            match self.execute(&plan, started) {
                Ok(outcome) => self.events.push(Event::StepDone(outcome)),
                Err(ExecError::Device(what)) => return Next::Restart(what),
                Err(ExecError::Abandoned) => {
                    self.events.extend(plan.rows.iter().map(|row| Event::Cancel(row.request)));
                    self.events.push(Event::StepFailed(plan.id));
                }
                Err(error) => {
                    tracing::error!(step = plan.id.0, %error, "step failed");
                    self.events.push(Event::StepFailed(plan.id));
                }
            }
        }
        self.plan = plan;
        self.publish();
        let is_done = self.jobs.is_empty() && self.swaps.are_over();
        if self.draining && is_done { Next::Stop } else { Next::Again }
    }

    /// How long the next look into the mailbox may take. A step leaves an event behind, so without events nothing
    /// ran: what is waited for comes by mail, by a swap's end, or with time (another model's turn).
    fn wait(&self) -> Option<Duration> {
        if !self.events.is_empty() {
            None
        } else if !self.swaps.are_over() {
            Some(SWAP_WAIT)
        } else if self.jobs.is_empty() {
            Some(IDLE_WAIT)
        } else {
            Some(STALLED_WAIT)
        }
    }

    /// Runs the plan's rows, of which `started` may run already, and tells the scheduler, the observer and the next plan's
    /// sizes what it took.
    fn execute(&mut self, plan: &StepPlan, mut started: Option<Started>) -> Result<StepOutcome, ExecError> {
        let model =
            plan.model.ok_or_else(|| ExecError::BadBatch("a plan with rows names no model".into()))?;
        let Self { registry, shared, jobs, result, observer, events, swaps, .. } = self;
        let missing = || ExecError::BadBatch(format!("model {model} is not here"));
        let known = registry.get_mut(model).ok_or_else(missing)?;
        // Where another model has requests, the next step may be its.
        let runs_ahead = known.setup.runs_ahead
            && shared.inbox.is_empty()
            && jobs.values().all(|job| job.model.id == known.served.id);
        let ahead_block_tokens = runs_ahead.then_some(known.setup.block_tokens);
        let Weights::Active { executor, .. } = &mut known.weights else { return Err(missing()) };
        known.used = Instant::now();
        let (name, cost) = (&known.served.name, &mut known.step_cost);
        let inbox = &*shared.inbox;
        let (executor, started) = (&mut **executor, &mut started);
        let pass =
            Pass { plan, model, name, executor, ahead_block_tokens, started, cost, inbox, jobs, result };
        let (outcome, stats) = pass.run()?;
        self.started = started.take();
        if let Some(prefill_tokens_per_s) = known.step_cost.prefill_tokens_per_s() {
            let decode_step_s = known.step_cost.decode_s();
            let swap_bytes_per_s = swaps.bytes_per_s();
            let rates = MeasuredRates { swap_bytes_per_s, prefill_tokens_per_s, decode_step_s };
            events.push(Event::Rates(model, rates));
        }
        observer.step(&stats);
        Ok(outcome)
    }

    fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Acquire)
    }
}
