//! The engine thread: mail → events → scheduler → plan → executor → outcome → events.
//!
//! One iteration is [`EngineLoop::turn`]. The supervisor around it catches a panic, answers what was in flight,
//! reloads the executors from warm weights and goes on; too many panics in a window end the thread, and the handle
//! reports the engine as dead.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quarry_core::ids::{ModelId, RequestId, StepId, SwapId, Tick};
use quarry_core::plan::{Direction, Event, MeasuredRates, Refused, StepOutcome, StepPlan, SwapFailed};
use quarry_core::scheduler::{Scheduler, Totals};
use quarry_model::executor::{ExecError, StepResult, SwapDone};
use quarry_model::kv::HostPool;

use crate::bind::Job;
use crate::execute::Pass;
use crate::generate::GenerateError;
use crate::inbox::{Inbox, Mail};
use crate::model_host::{Hosted, ModelHost};
use crate::observe::{ModelSnapshot, Observer, Snapshot};
use crate::options::EngineOptions;

/// How long an idle engine sleeps before it looks again; mail wakes it at once.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// How long it waits when only swaps are in flight.
const SWAP_WAIT: Duration = Duration::from_micros(200);

/// Weight of a swap in the mean of their rates.
const SWAP_RATE_WEIGHT: f64 = 0.2;
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
}

/// Everything the thread owns.
pub struct EngineLoop {
    host: ModelHost,
    options: EngineOptions,
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    scheduler: Scheduler,
    pool: HostPool,
    jobs: HashMap<RequestId, Job>,
    events: Vec<Event>,
    plan: StepPlan,
    result: StepResult,
    swaps: Vec<SwapDone>,
    swaps_in_flight: usize,
    /// Of swaps in flight, the model and the way.
    swap_directions: HashMap<SwapId, (ModelId, Direction)>,
    /// Bytes a second of the last swaps.
    swap_rate: Option<f64>,
    active: Option<ModelId>,
    /// Ends when everything is answered.
    draining: bool,
    started: Instant,
    panics: VecDeque<Instant>,
    restarts: u64,
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Turn {
    Again,
    Stop,
}

impl EngineLoop {
    pub fn new(
        host: ModelHost,
        options: EngineOptions,
        shared: Arc<Shared>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let scheduler = Scheduler::new(options.scheduler.clone());
        let pool = HostPool::new(options.swap_space_bytes);
        let mut engine = Self {
            host,
            options,
            shared,
            observer,
            scheduler,
            pool,
            jobs: HashMap::new(),
            events: Vec::new(),
            plan: StepPlan::default(),
            result: StepResult::default(),
            swaps: Vec::new(),
            swaps_in_flight: 0,
            swap_directions: HashMap::new(),
            swap_rate: None,
            active: None,
            draining: false,
            started: Instant::now(),
            panics: VecDeque::new(),
            restarts: 0,
        };
        engine.announce_models();
        engine
    }

    /// Runs until told to stop, or until the engine gives up.
    pub fn run(mut self) {
        self.shared.ready.store(true, Ordering::Release);
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Turn::Again) => {}
                Ok(Turn::Stop) => break,
                Err(panic) => {
                    if !self.recover(&panic_text(&*panic)) {
                        self.shared.dead.store(true, Ordering::Release);
                        break;
                    }
                }
            }
        }
        self.shared.ready.store(false, Ordering::Release);
        let why = match self.shared.dead.load(Ordering::Acquire) {
            true => GenerateError::Engine("the engine gave up".into()),
            false => GenerateError::ShutDown,
        };
        self.fail_all(&why);
        for job in self.shared.inbox.close().submissions {
            job.fail(why.clone()); // it came after the last look
        }
        self.publish();
    }

    fn turn(&mut self) -> Turn {
        let mail = self.shared.inbox.take(self.wait());
        if self.accept(mail) == Turn::Stop {
            return Turn::Stop;
        }
        self.poll_swaps();
        let now = Tick(self.started.elapsed().as_micros() as u64);
        self.scheduler.step(now, &mut self.events, &mut self.plan);
        let plan = std::mem::take(&mut self.plan);
        self.settle(&plan);
        self.switch(&plan);
        self.start_swaps(&plan);
        if !plan.rows.is_empty() {
            let event = match self.execute(&plan) {
                Ok(outcome) => Event::StepDone(outcome),
                Err(error) => {
                    tracing::error!(step = plan.id.0, %error, "step failed");
                    Event::StepFailed(plan.id)
                }
            };
            self.events.push(event);
        }
        self.plan = plan;
        self.publish();
        let is_done = self.jobs.is_empty() && self.swaps_in_flight == 0;
        if self.draining && is_done { Turn::Stop } else { Turn::Again }
    }

    /// How long the next look into the mailbox may take. A step leaves an event behind, so without events nothing
    /// ran: what is waited for comes by mail, by a swap's end, or with time (another model's turn).
    fn wait(&self) -> Option<Duration> {
        if !self.events.is_empty() {
            None
        } else if self.swaps_in_flight > 0 {
            Some(SWAP_WAIT)
        } else if self.jobs.is_empty() {
            Some(IDLE_WAIT)
        } else {
            Some(STALLED_WAIT)
        }
    }

    /// Turns mail into events.
    fn accept(&mut self, mail: Mail) -> Turn {
        if mail.stop {
            return Turn::Stop;
        }
        for mut job in mail.submissions {
            if let Some(request) = job.request.take() {
                self.jobs.insert(job.id, job);
                self.events.push(Event::Submit(request));
            }
        }
        self.events.extend(mail.cancels.into_iter().map(Event::Cancel));
        // After the submissions: what was accepted before is still answered.
        if mail.drain {
            self.draining = true;
            self.events.push(Event::Shutdown);
        }
        Turn::Again
    }

    /// Answers what ended or was refused.
    fn settle(&mut self, plan: &StepPlan) {
        for finished in &plan.finished {
            if let Some(job) = self.jobs.remove(&finished.request) {
                let request_id = job.request_id.clone();
                let stats = job.finish(finished);
                tracing::info!(
                    request_id = %request_id,
                    model = %stats.model,
                    prompt_tokens = stats.prompt_tokens,
                    cached_tokens = stats.cached_tokens,
                    completion_tokens = stats.completion_tokens,
                    queue_s = stats.queue_s,
                    prefill_s = stats.prefill_s,
                    decode_s = stats.decode_s,
                    finish_reason = ?stats.reason,
                    "request ended"
                );
                self.observer.request(&stats);
            }
        }
        for &Refused { request, reason } in &plan.refused {
            if let Some(job) = self.jobs.remove(&request) {
                job.fail(GenerateError::Refused(reason));
            }
        }
        for &host in &plan.host_released {
            self.pool.release(host);
        }
    }

    /// Every served model has its own executor, so a switch only changes whose turn it is.
    fn switch(&mut self, plan: &StepPlan) {
        let Some(target) = plan.switch_to else { return };
        let known = self.host.get_mut(target).is_some();
        if known {
            self.active = Some(target);
        }
        let result = if known { Ok(()) } else { Err(quarry_core::plan::SwitchFailed) };
        self.events.push(Event::SwitchDone(target, result));
    }

    fn start_swaps(&mut self, plan: &StepPlan) {
        for order in &plan.swaps {
            let started = match self.host.get_mut(order.model) {
                Some(hosted) => hosted.executor.swap(order.id, &self.pool, &order.moves),
                None => Err(ExecError::BadMove(format!("model {} is not here", order.model))),
            };
            match started {
                Ok(()) => {
                    self.swaps_in_flight += 1;
                    if let Some(first) = order.moves.first() {
                        self.swap_directions.insert(order.id, (order.model, first.direction));
                    }
                }
                Err(error) => {
                    tracing::warn!(swap = order.id.0, %error, "swap failed");
                    self.events.push(Event::SwapDone(order.id, Err(SwapFailed)));
                }
            }
        }
    }

    fn poll_swaps(&mut self) {
        if self.swaps_in_flight == 0 {
            return;
        }
        for hosted in &mut self.host.models {
            hosted.executor.poll(&mut self.swaps);
        }
        for done in self.swaps.drain(..) {
            self.swaps_in_flight -= 1;
            if let Some((model, direction)) = self.swap_directions.remove(&done.id)
                && let Some(hosted) = self.host.get_mut(model)
            {
                match direction {
                    Direction::Out => hosted.swap_out_bytes += done.bytes as u64,
                    Direction::In => hosted.swap_in_bytes += done.bytes as u64,
                }
            }
            if done.result.is_ok() && done.seconds > 0.0 {
                let rate = done.bytes as f64 / done.seconds;
                self.swap_rate =
                    Some(self.swap_rate.map_or(rate, |mean| mean + SWAP_RATE_WEIGHT * (rate - mean)));
            }
            let result = done.result.map_err(|error| {
                tracing::warn!(swap = done.id.0, %error, "swap failed");
                SwapFailed
            });
            self.events.push(Event::SwapDone(done.id, result));
        }
    }

    /// Runs the plan's rows and tells the scheduler, the observer and the next plan's sizes what it took.
    fn execute(&mut self, plan: &StepPlan) -> Result<StepOutcome, ExecError> {
        let model =
            plan.model.ok_or_else(|| ExecError::BadBatch("a plan with rows names no model".into()))?;
        let Self { host, scheduler, jobs, result, observer, events, swap_rate, .. } = self;
        let hosted =
            host.get_mut(model).ok_or_else(|| ExecError::BadBatch(format!("model {model} is not here")))?;
        let (outcome, stats) = Pass { plan, hosted, scheduler, jobs, result }.run()?;
        if let Some(prefill_tokens_per_s) = hosted.cost.prefill_tokens_per_s() {
            let decode_step_s = hosted.cost.decode_s();
            let rates = MeasuredRates { swap_bytes_per_s: *swap_rate, prefill_tokens_per_s, decode_step_s };
            events.push(Event::Rates(model, rates));
        }
        observer.step(&stats);
        Ok(outcome)
    }

    /// After a panic: everyone in flight gets an answer, the executors are made anew, the scheduler starts empty.
    /// False when that happened too often or fails.
    fn recover(&mut self, panic: &str) -> bool {
        let now = Instant::now();
        self.panics.push_back(now);
        let window = Duration::from_secs_f64(self.options.restart_window_s);
        while self.panics.front().is_some_and(|first| now.duration_since(*first) > window) {
            self.panics.pop_front();
        }
        tracing::error!(panic, recent = self.panics.len(), "the engine panicked");
        self.shared.ready.store(false, Ordering::Release);
        self.fail_all(&GenerateError::Engine(format!("the engine panicked: {panic}")));
        if self.panics.len() > self.options.restarts_max {
            tracing::error!("the engine gives up");
            return false;
        }
        self.events.clear();
        self.swaps.clear();
        self.swaps_in_flight = 0;
        self.swap_directions.clear();
        self.plan = StepPlan { id: StepId::default(), ..StepPlan::default() };
        self.scheduler = Scheduler::new(self.options.scheduler.clone());
        self.pool = HostPool::new(self.options.swap_space_bytes);
        if let Err(error) = self.host.reactivate() {
            tracing::error!(%error, "the engine could not be reloaded and gives up");
            return false;
        }
        self.restarts += 1;
        self.announce_models();
        self.shared.ready.store(true, Ordering::Release);
        true
    }

    /// Tells the scheduler of every model; the first (or the one active before) becomes active.
    fn announce_models(&mut self) {
        for hosted in &self.host.models {
            self.events.push(Event::Load(hosted.setup(&self.options)));
        }
        let first = self.host.models.first().map(|hosted| hosted.served.id);
        self.active = self.active.or(first);
        if let Some(active) = self.active {
            self.events.push(Event::SwitchRequested(active));
        }
    }

    fn fail_all(&mut self, why: &GenerateError) {
        for (_, job) in self.jobs.drain() {
            job.fail(why.clone());
        }
    }

    fn publish(&mut self) {
        let model = |hosted: &Hosted| {
            let counts = self.scheduler.counts(hosted.served.id).unwrap_or_default();
            let Totals { prefix_query_tokens, prefix_hit_tokens, preemptions, .. } = counts.totals;
            ModelSnapshot {
                model: hosted.served.name.clone(),
                running: counts.running as u32,
                waiting: counts.waiting as u32,
                swapped: counts.swapped as u32,
                suspended: counts.suspended as u32,
                kv_usage: counts.kv_usage(),
                prefix_query_tokens,
                prefix_hit_tokens,
                preemptions,
                swap_out_bytes: hosted.swap_out_bytes,
                swap_in_bytes: hosted.swap_in_bytes,
            }
        };
        let snapshot = Snapshot {
            models: self.host.models.iter().map(model).collect(),
            host_pool_bytes: self.pool.bytes_used() as u64,
            host_pool_bytes_max: self.pool.bytes_max() as u64,
            restarts: self.restarts,
            healthy: !self.shared.dead.load(Ordering::Acquire),
        };
        *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
