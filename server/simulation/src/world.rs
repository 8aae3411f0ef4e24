//! One run: the real scheduler, a fake runtime around it and a virtual clock.

use std::collections::{BTreeMap, BTreeSet};

use quarry_core::ids::{HostBlockId, ModelId, RequestId, StepId, SwapId, Tick};
use quarry_core::limits::SchedulerLimits;
use quarry_core::plan::{Event, StepPlan, SwapOrder};
use quarry_core::request::RequestParts;
use quarry_core::scheduler::Scheduler;
use quarry_core::verdict::Verdict;

use crate::device::{Device, Work};
use crate::queues::Queues;
use crate::rng::Rng;
use crate::seen::Seen;
use crate::workload::{Faults, Workload};

/// Steps after which a run that has not ended never will.
const STEPS_MAX: u64 = 60_000;

/// What the world knows will happen.
pub enum Future {
    Outside(Event),
    Step,
    Swap(SwapId),
    SwitchStart,
    SwitchEnd,
    /// A model comes that no switch is for.
    Loaded(ModelId),
    /// Somebody wants a model gone.
    Unload(ModelId),
    /// The scheduler is lost.
    Restart,
}

pub struct Step {
    pub id: StepId,
    pub model: ModelId,
    pub works: Vec<Work>,
    pub fails: bool,
    /// Contents of each row's last position and of its draft's, where the pass ran at once.
    pub early: Option<Vec<Vec<u64>>>,
}

pub struct Swap {
    pub order: SwapOrder,
    pub fails: bool,
    pub early: bool,
}

pub struct Switching {
    pub model: ModelId,
    /// Whether the runtime has said that it began.
    pub has_started: bool,
    /// Who made room for it.
    pub left: Vec<ModelId>,
}

pub struct World {
    pub rng: Rng,
    pub scheduler: Scheduler,
    pub limits: SchedulerLimits,
    pub device: Device,
    pub faults: Faults,
    now: u64,
    pub futures: BTreeMap<(u64, u64), Future>,
    order: u64,
    pub step: Option<Step>,
    pub swaps: BTreeMap<SwapId, Swap>,
    /// By the last of them, the host blocks of each sequence that was swapped out, in order.
    pub hosts_out: BTreeMap<HostBlockId, Vec<HostBlockId>>,
    pub resident: Vec<ModelId>,
    pub residents_max: usize,
    pub switching: Option<Switching>,
    pub is_shut: bool,
    pub requests: BTreeMap<RequestId, RequestParts>,
    /// Of everybody who has asked.
    pub verdicts: BTreeMap<RequestId, Verdict>,
    pub unanswered: BTreeSet<RequestId>,
    /// Asked and not answered yet.
    pub live: BTreeSet<RequestId>,
    /// Those that the next step takes in, in order.
    pub submitted: Vec<RequestId>,
    pub cancelled: BTreeSet<RequestId>,
    pub may_fail: BTreeSet<RequestId>,
    pub must_fail: BTreeSet<RequestId>,
    pub must_refuse: BTreeSet<RequestId>,
    pub queues: Queues,
    /// Of each model, as counted after the last step.
    pub displacements: BTreeMap<ModelId, u64>,
    pub seen: Seen,
}

/// Runs a seed to its end; the same seed makes the same run.
///
/// # Panics
/// Where something is wrong.
pub fn run(seed: u64) -> Seen {
    let mut rng = Rng::new(seed);
    let workload = Workload::draw(&mut rng);
    let mut world = World {
        rng,
        scheduler: Scheduler::new(workload.limits.clone()),
        device: Device::new(workload.limits.kv_slabs),
        limits: workload.limits,
        faults: workload.faults,
        now: 0,
        futures: BTreeMap::new(),
        order: 0,
        step: None,
        swaps: BTreeMap::new(),
        hosts_out: BTreeMap::new(),
        resident: Vec::new(),
        residents_max: workload.residents_max,
        switching: None,
        is_shut: false,
        unanswered: workload.requests.iter().map(|parts| parts.id).collect(),
        requests: workload.requests.into_iter().map(|parts| (parts.id, parts)).collect(),
        verdicts: BTreeMap::new(),
        live: BTreeSet::new(),
        submitted: Vec::new(),
        cancelled: BTreeSet::new(),
        may_fail: BTreeSet::new(),
        must_fail: BTreeSet::new(),
        must_refuse: BTreeSet::new(),
        queues: Queues::default(),
        displacements: BTreeMap::new(),
        seen: Seen::default(),
    };
    for (at, event) in workload.events {
        world.expect(at, Future::Outside(event));
    }
    for (at, model) in workload.unloads {
        world.expect(at, Future::Unload(model));
    }
    for at in workload.restarts {
        world.expect(at, Future::Restart);
    }
    world.live_on();
    world.seen
}

impl World {
    fn expect(&mut self, at: u64, future: Future) {
        self.order += 1;
        self.futures.insert((at, self.order), future);
    }

    pub fn now(&self) -> Tick {
        Tick(self.now)
    }

    pub fn expect_within(&mut self, within_us: u64, future: Future) {
        let at = self.now + self.rng.within(0, within_us);
        self.expect(at, future);
    }

    fn live_on(&mut self) {
        let mut plan = StepPlan::default();
        let mut events = Vec::new();
        let mut quiet = 0;
        while !(self.unanswered.is_empty() && self.futures.is_empty()) {
            self.seen.plans += 1;
            assert!(self.seen.plans < STEPS_MAX, "unanswered for ever: {:?}", self.unanswered);
            match self.futures.first_key_value() {
                Some((&(at, _), _)) => self.now = self.now.max(at),
                None => {
                    // Nothing will happen any more but time: at most another model's turn.
                    quiet += 1;
                    assert!(quiet < 10, "nothing moves, unanswered: {:?}", self.unanswered);
                    self.now += self.limits.switch_wait_us + 1;
                }
            }
            while let Some((&(at, order), _)) = self.futures.first_key_value()
                && at <= self.now
            {
                let future = self.futures.remove(&(at, order)).expect("just seen");
                self.happen(future, &mut events);
                // Some arrive one by one, some together.
                if self.rng.percent(30) {
                    break;
                }
            }
            if self.rng.percent(self.faults.doubled) {
                events.push(self.stray());
            }
            self.scheduler.step(self.now(), &mut events, &mut plan);
            assert!(events.is_empty());
            self.scheduler.check_invariants();
            self.check_queues(&plan);
            self.check_displaced();
            self.seen.note(&plan);
            if !plan.rows.is_empty() || !plan.swaps.is_empty() || plan.switch_to.is_some() {
                quiet = 0;
            }
            self.apply(&plan);
        }
        self.count_totals();
        for counts in (0..4).filter_map(|id| self.scheduler.counts(ModelId(id))) {
            let left =
                counts.running + counts.waiting + counts.swapped + counts.suspended + counts.blocks_held;
            assert_eq!(left, 0, "something is left: {counts:?}");
        }
        let cached = self.scheduler.host_bytes_cached();
        assert_eq!(self.scheduler.host_bytes(), cached, "the host pool holds prefixes alone at the end");
    }

    fn check_queues(&mut self, plan: &StepPlan) {
        let is_refused = |id: &RequestId| plan.refused.iter().any(|refused| refused.request == *id);
        let accepted: Vec<&RequestParts> =
            self.submitted.iter().filter(|id| !is_refused(id)).map(|id| &self.requests[id]).collect();
        self.queues.submitted(&accepted);
        self.submitted.clear();
        self.queues.stepped(&self.scheduler, self.limits.queue_max, &mut self.seen);
    }

    /// Sequences of a model that could have run make room only in another one's exclusive turn.
    fn check_displaced(&mut self) {
        for model in self.device.setups.keys() {
            let Some(counts) = self.scheduler.counts(*model) else { continue };
            let before = self.displacements.insert(*model, counts.totals.displacements).unwrap_or_default();
            let displaced = counts.totals.displacements - before;
            self.seen.displaced += displaced;
            if self.resident.contains(model) {
                self.seen.displaced_in_turns += displaced;
            }
        }
    }

    /// Takes in what the scheduler has counted, at its end.
    pub fn count_totals(&mut self) {
        self.seen.strays += self.scheduler.stray_events();
        for counts in (0..4).filter_map(|id| self.scheduler.counts(ModelId(id))) {
            self.seen.preemptions += counts.totals.preemptions;
            self.seen.drafted += counts.totals.draft_tokens_accepted;
            self.seen.drafted_in_vain += counts.totals.draft_tokens - counts.totals.draft_tokens_accepted;
        }
    }
}
