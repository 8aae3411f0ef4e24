//! One run: the real scheduler, a fake runtime around it and a virtual clock.

use std::collections::{BTreeMap, BTreeSet};

use quarry_core::ids::{ModelId, RequestId, StepId, SwapId, Tick, TokenId};
use quarry_core::plan::{
    Direction, Event, FinishReason, Finished, PlanRow, RowOutcome, StepOutcome, StepPlan, SwapFailed,
    SwapOrder, SwitchFailed,
};
use quarry_core::request::RequestParts;
use quarry_core::scheduler::Scheduler;

use crate::device::{Device, Work};
use crate::oracle::{answer, content, expected};
use crate::rng::{Rng, mix};
use crate::workload::{Faults, Workload};

/// Steps after which a run that has not ended never will.
const STEPS_MAX: u64 = 60_000;

/// What the world knows will happen.
enum Future {
    Outside(Event),
    Step,
    Swap(SwapId),
    SwitchStart,
    SwitchEnd,
}

struct Step {
    id: StepId,
    model: ModelId,
    works: Vec<Work>,
    fails: bool,
    /// Contents of each row's last position and of its draft's, where the pass ran at once.
    early: Option<Vec<Vec<u64>>>,
}

struct Swap {
    order: SwapOrder,
    fails: bool,
    early: bool,
}

/// What a run saw, for coverage and for equality of two runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub plans: u64,
    pub steps: u64,
    pub completed: u64,
    pub cancelled: u64,
    pub failed: u64,
    pub refused: u64,
    pub cached_tokens: u64,
    pub swaps_out: u64,
    pub swaps_in: u64,
    pub preemptions: u64,
    pub switches: u64,
    pub draft_tokens: u64,
    pub draft_tokens_accepted: u64,
    /// Over every plan in full.
    pub fingerprint: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.plans += other.plans;
        self.steps += other.steps;
        self.completed += other.completed;
        self.cancelled += other.cancelled;
        self.failed += other.failed;
        self.refused += other.refused;
        self.cached_tokens += other.cached_tokens;
        self.swaps_out += other.swaps_out;
        self.swaps_in += other.swaps_in;
        self.preemptions += other.preemptions;
        self.switches += other.switches;
        self.draft_tokens += other.draft_tokens;
        self.draft_tokens_accepted += other.draft_tokens_accepted;
        self.fingerprint ^= other.fingerprint;
    }

    /// Takes a plan into the fingerprint.
    fn note(&mut self, plan: &StepPlan) {
        let text = format!("{plan:?}");
        self.fingerprint = text.bytes().fold(self.fingerprint, |hash, byte| mix(hash ^ u64::from(byte)));
    }
}

pub struct World {
    rng: Rng,
    scheduler: Scheduler,
    device: Device,
    faults: Faults,
    now: u64,
    futures: BTreeMap<(u64, u64), Future>,
    order: u64,
    step: Option<Step>,
    swaps: BTreeMap<SwapId, Swap>,
    resident: Vec<ModelId>,
    residents_max: usize,
    /// Asked for; the second is whether the runtime has said that it began.
    switching: Option<(ModelId, bool)>,
    requests: BTreeMap<RequestId, RequestParts>,
    unanswered: BTreeSet<RequestId>,
    live: BTreeSet<RequestId>,
    cancelled: BTreeSet<RequestId>,
    may_fail: BTreeSet<RequestId>,
    must_fail: BTreeSet<RequestId>,
    wait_us: u64,
    kv_slabs: u32,
    seen: Seen,
}

/// Runs a seed to its end; panics where something is wrong.
pub fn run(seed: u64) -> Seen {
    let mut rng = Rng::new(seed);
    let workload = Workload::draw(&mut rng);
    let limits = workload.limits;
    let mut world = World {
        device: Device::new(limits.kv_slabs),
        kv_slabs: limits.kv_slabs,
        wait_us: limits.switch_wait_us,
        scheduler: Scheduler::new(limits),
        faults: workload.faults,
        now: 0,
        futures: BTreeMap::new(),
        order: 0,
        step: None,
        swaps: BTreeMap::new(),
        resident: Vec::new(),
        residents_max: workload.residents_max,
        switching: None,
        unanswered: workload.requests.iter().map(|parts| parts.id).collect(),
        requests: workload.requests.into_iter().map(|parts| (parts.id, parts)).collect(),
        live: BTreeSet::new(),
        cancelled: BTreeSet::new(),
        may_fail: BTreeSet::new(),
        must_fail: BTreeSet::new(),
        seen: Seen::default(),
        rng,
    };
    for (at, event) in workload.events {
        world.expect(at, Future::Outside(event));
    }
    world.live_on();
    world.seen
}

impl World {
    fn expect(&mut self, at: u64, future: Future) {
        self.order += 1;
        self.futures.insert((at, self.order), future);
    }

    fn expect_within(&mut self, within_us: u64, future: Future) {
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
                    self.now += self.wait_us + 1;
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
            self.scheduler.step(Tick(self.now), &mut events, &mut plan);
            assert!(events.is_empty());
            self.scheduler.check_invariants();
            self.seen.note(&plan);
            if !plan.rows.is_empty() || !plan.swaps.is_empty() || plan.switch_to.is_some() {
                quiet = 0;
            }
            self.apply(&plan);
        }
        for counts in (0..4).filter_map(|id| self.scheduler.counts(ModelId(id))) {
            self.seen.preemptions += counts.totals.preemptions;
            self.seen.draft_tokens += counts.totals.draft_tokens;
            self.seen.draft_tokens_accepted += counts.totals.draft_tokens_accepted;
            let left =
                counts.running + counts.waiting + counts.swapped + counts.suspended + counts.blocks_held;
            assert_eq!(left, 0, "something is left: {counts:?}");
        }
        let cached = self.scheduler.host_bytes_cached();
        assert_eq!(self.scheduler.host_bytes(), cached, "the host pool holds prefixes alone at the end");
    }

    /// An event about something that does not exist (any more).
    fn stray(&mut self) -> Event {
        match self.rng.within(0, 4) {
            0 => Event::Cancel(RequestId(777)),
            1 => Event::StepDone(StepOutcome { id: StepId(1 << 40), rows: Vec::new() }),
            2 => Event::StepFailed(StepId(0)),
            3 => Event::SwapDone(SwapId(1 << 40), Ok(())),
            _ => Event::SwitchDone(ModelId(98), Ok(())),
        }
    }

    fn happen(&mut self, future: Future, events: &mut Vec<Event>) {
        let doubled = self.rng.percent(self.faults.doubled);
        match future {
            Future::Outside(event) => {
                self.note(&event);
                events.push(event);
            }
            Future::Step => {
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
                let contents =
                    step.early.unwrap_or_else(|| run_all(&mut self.device, step.model, &step.works));
                let outcome = outcome(step.id, step.model, &step.works, &contents);
                if doubled {
                    events.push(Event::StepDone(outcome.clone()));
                }
                events.push(Event::StepDone(outcome));
            }
            Future::Swap(id) => {
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
            Future::SwitchStart => {
                let (model, _) = self.switching.expect("asked for");
                if self.rng.percent(self.faults.switch) {
                    self.switching = None;
                    self.fail_all_of(model);
                    events.push(Event::SwitchDone(model, Err(SwitchFailed)));
                    return;
                }
                while self.resident.len() >= self.residents_max {
                    let leaves =
                        self.resident.remove(self.rng.within(0, self.resident.len() as u64 - 1) as usize);
                    events.push(Event::Resident(leaves, false));
                }
                self.switching = Some((model, true));
                events.push(Event::SwitchStarted(model));
                self.expect_within(400, Future::SwitchEnd);
            }
            Future::SwitchEnd => {
                let (model, _) = self.switching.take().expect("asked for");
                if self.rng.percent(self.faults.switch) {
                    self.fail_all_of(model);
                    events.push(Event::SwitchDone(model, Err(SwitchFailed)));
                } else {
                    self.resident.push(model);
                    events.push(Event::SwitchDone(model, Ok(())));
                }
            }
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Submit(request) => {
                self.live.insert(request.parts().id);
            }
            Event::Cancel(request) if self.live.contains(request) => {
                self.cancelled.insert(*request);
            }
            Event::Load(setup) => self.device.load(*setup),
            _ => {}
        }
    }

    fn fail_all_of(&mut self, model: ModelId) {
        let of_model = |id: &&RequestId| self.requests[id].model == model;
        self.may_fail.extend(self.live.iter().filter(of_model));
    }

    fn apply(&mut self, plan: &StepPlan) {
        for finished in &plan.finished {
            self.finish(finished);
        }
        for refused in &plan.refused {
            self.seen.refused += 1;
            assert!(self.unanswered.remove(&refused.request), "{refused:?} is answered once");
        }
        let idle = self.step.is_none() && self.swaps.is_empty();
        for request in self.cancelled.iter().filter(|_| idle) {
            assert!(!self.unanswered.contains(request), "cancelled request {request} ends in the next step");
        }
        if let Some(model) = plan.switch_to {
            self.switch(model, plan);
        }
        for order in &plan.swaps {
            self.start_swap(order);
        }
        if !plan.rows.is_empty() {
            self.start_step(plan);
        }
    }

    fn finish(&mut self, finished: &Finished) {
        let request = finished.request;
        assert!(self.unanswered.remove(&request), "{finished:?} is answered once");
        self.live.remove(&request);
        let parts = &self.requests[&request];
        assert_eq!(finished.prompt_tokens as usize, parts.prompt.len());
        assert!(finished.cached_tokens < finished.prompt_tokens, "the last prompt token is always computed");
        self.seen.cached_tokens += u64::from(finished.cached_tokens);
        match finished.reason {
            FinishReason::Cancelled => {
                self.seen.cancelled += 1;
                assert!(self.cancelled.contains(&request));
            }
            FinishReason::Failed => {
                self.seen.failed += 1;
                assert!(self.may_fail.contains(&request), "{finished:?} had no reason to fail");
            }
            FinishReason::Stop | FinishReason::Length => {
                self.seen.completed += 1;
                assert!(!self.must_fail.contains(&request), "the step of {finished:?} failed");
                let room = self.room(parts.model);
                let expected = expected(parts, room as usize);
                assert_eq!((finished.reason, finished.output_tokens), expected, "{finished:?}");
            }
        }
    }

    /// Tokens that a sequence of the model may have.
    fn room(&self, model: ModelId) -> u32 {
        let setup = self.device.setups[&model];
        setup.context_tokens_max.min(self.kv_slabs * setup.slab_blocks * setup.block_tokens)
    }

    fn switch(&mut self, model: ModelId, plan: &StepPlan) {
        assert!(self.switching.is_none() && self.step.is_none() && plan.rows.is_empty());
        assert!(!self.resident.contains(&model) && self.device.setups.contains_key(&model));
        self.switching = Some((model, false));
        self.seen.switches += 1;
        self.expect_within(200, Future::SwitchStart);
    }

    fn start_swap(&mut self, order: &SwapOrder) {
        assert!(!order.moves.is_empty());
        assert!(order.moves.windows(2).all(|pair| pair[0].direction == pair[1].direction));
        match order.moves[0].direction {
            Direction::Out => self.seen.swaps_out += 1,
            Direction::In => self.seen.swaps_in += 1,
        }
        let fails = self.rng.percent(self.faults.swap);
        let early = self.rng.percent(50);
        if early && !fails {
            self.device.swap(order);
        }
        self.swaps.insert(order.id, Swap { order: order.clone(), fails, early });
        self.expect_within(400, Future::Swap(order.id));
    }

    fn start_step(&mut self, plan: &StepPlan) {
        let model = plan.model.expect("rows have a model");
        assert!(self.step.is_none() && self.switching.is_none_or(|(_, has_started)| has_started));
        assert!(self.resident.contains(&model), "rows are of a resident model");
        let setup = self.device.setups[&model];
        assert!(plan.rows.len() <= setup.step_rows_max as usize);
        let tokens: u32 = plan.rows.iter().map(PlanRow::tokens).sum();
        assert!(tokens <= setup.step_tokens_max);
        let moving: BTreeSet<_> = self
            .swaps
            .values()
            .filter(|swap| swap.order.model == model)
            .flat_map(|swap| {
                swap.order.moves.iter().map(|step| (step.direction == Direction::In, step.device))
            })
            .collect();
        let mut written = BTreeSet::new();
        let mut works = Vec::new();
        for row in &plan.rows {
            let sequence = self.scheduler.sequence(row.sequence).expect("alive");
            assert!(row.start < row.end && self.live.contains(&row.request));
            assert_eq!(row.samples, row.end as usize == sequence.tokens().len());
            assert!(sequence.tokens().starts_with(&self.requests[&row.request].prompt));
            assert!(row.draft.is_empty() || row.samples);
            let positions = row.start + row.tokens();
            let room = self.room(model);
            assert!(row.draft.is_empty() || positions < room, "the token behind the draft has room");
            assert_eq!(row.blocks.len(), positions.div_ceil(setup.block_tokens) as usize);
            for block in &row.blocks {
                assert!(!moving.contains(&(true, *block)), "block {block} of {row:?} is being swapped in");
            }
            for block in &row.blocks[(row.start / setup.block_tokens) as usize..] {
                assert!(written.insert(*block), "block {block} has one writer");
                assert!(!moving.contains(&(false, *block)), "block {block} is being swapped out");
            }
            let known = &sequence.tokens()[..row.end as usize];
            works.push(Work { row: row.clone(), tokens: [known, &row.draft].concat() });
        }
        for row in &plan.rows {
            let read = &row.blocks[..(row.start / setup.block_tokens) as usize];
            assert!(read.iter().all(|block| !written.contains(block)), "{row:?} reads what is being written");
        }
        self.seen.steps += 1;
        let fails = self.rng.percent(self.faults.step);
        let early = (!fails && self.rng.percent(50)).then(|| run_all(&mut self.device, model, &works));
        self.step = Some(Step { id: plan.id, model, works, fails, early });
        self.expect_within(60, Future::Step);
    }
}

fn run_all(device: &mut Device, model: ModelId, works: &[Work]) -> Vec<Vec<u64>> {
    works.iter().map(|work| device.run(model, work)).collect()
}

fn outcome(id: StepId, model: ModelId, works: &[Work], contents: &[Vec<u64>]) -> StepOutcome {
    let sampling = works.iter().zip(contents).filter(|(work, _)| work.row.samples);
    let rows = sampling.map(|(work, contents)| {
        let draft = &work.row.draft;
        let (mut tokens, mut finish) = (Vec::new(), None);
        // On as long as what came is what the draft says.
        while finish.is_none() && tokens.len() <= draft.len() && draft.starts_with(&tokens) {
            let answer = answer(contents[tokens.len()]);
            tokens.push(answer.token);
            tokens.extend(answer.forced);
            finish = answer.finish;
        }
        let known = &work.tokens[..work.row.end as usize];
        let draft = guess(model, &[known, &tokens].concat());
        RowOutcome { sequence: work.row.sequence, tokens, draft, finish }
    });
    StepOutcome { id, rows: rows.collect() }
}

/// What comes after these tokens, often with a mistake in it.
fn guess(model: ModelId, tokens: &[TokenId]) -> Vec<TokenId> {
    let mut last = tokens.iter().fold(None, |before, &token| Some(content(model, before, token)));
    let mut draft = Vec::new();
    let seed = mix(last.expect("prompts are not empty") ^ 5);
    while draft.len() < (seed % 8) as usize {
        let answer = answer(last.expect("set"));
        for token in std::iter::once(answer.token).chain(answer.forced) {
            last = Some(content(model, last, token));
            draft.push(token);
        }
    }
    if !draft.is_empty() && (seed >> 8).is_multiple_of(2) {
        let at = (seed >> 16) as usize % draft.len();
        draft[at] ^= 1;
    }
    draft
}
