//! Single behaviours of the scheduler, each shown by the smallest schedule that needs it.

use std::collections::BTreeMap;

use quarry_core::ids::{ModelId, RequestId, SequenceId, StepId, SwapId, Tick, TokenId};
use quarry_core::limits::SchedulerLimits;
use quarry_core::plan::{
    Event, FinishReason, MeasuredRates, ModelSetup, Refused, RefusedReason, RowOutcome, StepOutcome, StepPlan,
};
use quarry_core::request::{Request, RequestParts, SamplingParams};
use quarry_core::scheduler::Scheduler;
use quarry_core::verdict::Verdict;

const MODEL: ModelId = ModelId(0);

/// A scheduler, its clock and a runtime that draws token 9 for every row.
struct Engine {
    scheduler: Scheduler,
    plan: StepPlan,
    /// The last plan with rows: what a later outcome is of.
    flight: (StepId, Vec<(SequenceId, RequestId)>),
    /// Tokens that a sequence of each model may have.
    rooms: BTreeMap<ModelId, u32>,
    verdicts: BTreeMap<RequestId, Verdict>,
    now: u64,
    draw: TokenId,
    forced: Vec<TokenId>,
    draft: Vec<TokenId>,
    /// Swaps that were ordered and did not end yet.
    swaps: Vec<SwapId>,
}

impl Engine {
    fn new(limits: SchedulerLimits, setups: &[ModelSetup]) -> Self {
        let room = |setup: &ModelSetup| {
            setup.context_tokens_max.min(limits.kv_slabs * setup.slab_blocks * setup.block_tokens)
        };
        let mut engine = Self {
            rooms: setups.iter().map(|setup| (setup.model, room(setup))).collect(),
            verdicts: BTreeMap::new(),
            scheduler: Scheduler::new(limits),
            plan: StepPlan::default(),
            flight: (StepId::default(), Vec::new()),
            now: 0,
            draw: 9,
            forced: Vec::new(),
            draft: Vec::new(),
            swaps: Vec::new(),
        };
        engine.send(setups.iter().map(|setup| Event::Load(*setup)).collect());
        engine
    }

    fn one(setup: ModelSetup) -> Self {
        Self::resident(SchedulerLimits { kv_slabs: 16, ..SchedulerLimits::default() }, &[setup])
    }

    /// Every model is there.
    fn resident(limits: SchedulerLimits, setups: &[ModelSetup]) -> Self {
        let mut engine = Self::new(limits, setups);
        engine.send(setups.iter().map(|setup| Event::Resident(setup.model, true)).collect());
        engine
    }

    fn send(&mut self, mut events: Vec<Event>) -> &StepPlan {
        self.now += 1;
        let is_over =
            |id: &SwapId| events.iter().any(|e| matches!(e, Event::SwapDone(done, _) if done == id));
        self.swaps.retain(|id| !is_over(id));
        self.scheduler.step(Tick(self.now), &mut events, &mut self.plan);
        self.scheduler.check_invariants();
        self.swaps.extend(self.plan.swaps.iter().map(|order| order.id));
        if !self.plan.rows.is_empty() {
            let sampling = self.plan.rows.iter().filter(|row| row.samples);
            self.flight = (self.plan.id, sampling.map(|row| (row.sequence, row.request)).collect());
        }
        &self.plan
    }

    fn submit(&mut self, parts: RequestParts) -> &StepPlan {
        let room =
            self.rooms.get(&parts.model).map_or(0, |room| room.saturating_sub(parts.prompt.len() as u32));
        self.verdicts.insert(parts.id, Verdict::new(&parts, room));
        self.send(vec![Event::Submit(Request::new(parts).unwrap())])
    }

    /// The outcome of the plan in flight.
    fn outcome(&mut self) -> Event {
        let Self { flight, verdicts, draw, forced, draft, .. } = self;
        let rows = flight.1.iter().map(|&(sequence, request)| {
            let verdict = verdicts.get_mut(&request).unwrap();
            let comes = std::iter::once(*draw).chain(forced.iter().copied());
            let tokens = comes.take_while(|token| verdict.takes(*token)).collect();
            RowOutcome { sequence, tokens, draft: draft.clone(), finish: verdict.reason() }
        });
        Event::StepDone(StepOutcome { id: flight.0, rows: rows.collect() })
    }

    fn done(&mut self) -> &StepPlan {
        let outcome = self.outcome();
        self.send(vec![outcome])
    }

    /// Every swap that is ordered ends well, until a plan has rows.
    fn end_swaps(&mut self) {
        for _ in 0..20 {
            if !self.plan.rows.is_empty() {
                return;
            }
            let swaps = self.swaps.iter().map(|id| Event::SwapDone(*id, Ok(()))).collect();
            self.send(swaps);
        }
        panic!("nothing runs: {:?}", self.scheduler);
    }

    /// Rows of the plan as (request, start, end).
    fn rows(&self) -> Vec<(u64, u32, u32)> {
        self.plan.rows.iter().map(|row| (row.request.0, row.start, row.end)).collect()
    }
}

fn setup() -> ModelSetup {
    ModelSetup {
        model: MODEL,
        block_tokens: 4,
        slab_blocks: 4,
        block_bytes: 10,
        context_tokens_max: 200,
        step_tokens_max: 16,
        step_rows_max: 8,
        runs_ahead: false,
    }
}

fn request(id: u64, prompt: std::ops::Range<TokenId>) -> RequestParts {
    RequestParts {
        id: RequestId(id),
        model: MODEL,
        prompt: prompt.collect(),
        sampling: SamplingParams::default(),
        tokens_max: 100,
        tokens_min: 0,
        stop_tokens: Vec::new(),
        priority: 0,
        deadline: None,
        client: 0,
        cache_salt: 0,
    }
}

#[test]
fn a_long_prompt_does_not_hold_up_decodes() {
    let mut engine = Engine::one(setup());
    engine.submit(request(1, 0..3));
    engine.done();
    assert_eq!(engine.rows(), [(1, 3, 4)]);
    engine.submit(request(2, 100..150));
    for step in 0..3 {
        engine.done();
        let decode = 4 + step;
        assert_eq!(engine.rows(), [(1, decode, decode + 1), (2, step * 15, (step + 1) * 15)]);
        assert!(!engine.plan.rows[1].samples);
    }
    engine.done();
    assert_eq!(engine.rows(), [(1, 7, 8), (2, 45, 50)]);
    assert!(engine.plan.rows[1].samples, "the last chunk is drawn from");
}

#[test]
fn a_short_prompt_does_not_wait_for_the_end_of_a_long_one() {
    let mut engine = Engine::one(setup());
    engine.submit(request(1, 100..200));
    engine.submit(request(2, 0..3));
    engine.done();
    assert_eq!(engine.rows(), [(1, 16, 29), (2, 0, 3)]);
}

#[test]
fn a_chunk_beside_decodes_lasts_as_long_as_it_may() {
    for (step_us_max, decode_step_s, chunk) in
        [(1_000, Some(1e-5), 8), (1_000, Some(0.000_9), 12), (1, Some(0.0), 4), (1_000, None, 8)]
    {
        let limits = SchedulerLimits { step_us_max, ..SchedulerLimits::default() };
        let mut engine = Engine::new(limits, &[setup()]);
        engine.send(vec![Event::SwitchRequested(MODEL)]);
        engine.send(vec![Event::SwitchDone(MODEL, Ok(()))]);
        let rates = MeasuredRates { swap_bytes_per_s: None, prefill_tokens_per_s: 8_000.0, decode_step_s };
        engine.send(vec![Event::Rates(MODEL, rates)]);
        engine.submit(request(1, 0..3));
        engine.done();
        engine.submit(request(2, 100..150));
        engine.done();
        assert_eq!(engine.rows(), [(1, 4, 5), (2, 0, chunk)], "{step_us_max} us, {decode_step_s:?} s");
    }
}

#[test]
fn a_drafts_positions_are_kept_as_far_as_it_was_right() {
    let mut engine = Engine::one(setup());
    engine.submit(RequestParts { tokens_max: 9, ..request(1, 0..3) });
    engine.draft = vec![9, 20, 21, 22];
    engine.done();
    let row = &engine.plan.rows[0];
    assert_eq!((row.start, row.end, row.draft(), row.blocks.len()), (3, 4, &[9, 20, 21, 22][..], 2));
    // Drawn: 9, as guessed, then 20, which is forced, as guessed, then 9 where the draft says 21.
    engine.forced = vec![20, 9];
    engine.draft = Vec::new();
    engine.done();
    assert_eq!(engine.rows(), [(1, 6, 7)], "the KV of 9 and 20 is there, that of the last 9 is not");
    let counts = engine.scheduler.counts(MODEL).unwrap().totals;
    assert_eq!((counts.draft_tokens, counts.draft_tokens_accepted), (4, 2));
    // A draft leaves room for the token behind it: seven of nine are there after this.
    engine.forced = vec![20, 21];
    engine.draft = vec![1, 2, 3];
    engine.done();
    assert_eq!(engine.plan.rows[0].draft(), [1]);
}

#[test]
fn several_prompts_share_a_step_in_order_of_priority() {
    let mut engine = Engine::one(setup());
    let urgent = RequestParts { priority: -1, ..request(3, 40..45) };
    let submits = [request(1, 0..5), request(2, 20..30), urgent];
    engine.send(submits.into_iter().map(|parts| Event::Submit(Request::new(parts).unwrap())).collect());
    assert_eq!(engine.rows(), [(3, 0, 5), (1, 0, 5), (2, 0, 6)]);
}

#[test]
fn a_prompt_seen_before_is_computed_from_its_last_full_block() {
    let mut engine = Engine::one(setup());
    engine.submit(RequestParts { tokens_max: 1, ..request(1, 0..8) });
    engine.done();
    // All eight tokens are cached, but the last must be run for its logits.
    engine.submit(RequestParts { tokens_max: 1, ..request(2, 0..8) });
    assert_eq!(engine.rows(), [(2, 4, 8)]);
    assert_eq!(engine.done().finished[0].cached_tokens, 4);
    engine.submit(RequestParts { tokens_max: 1, cache_salt: 1, ..request(3, 0..8) });
    assert_eq!(engine.rows(), [(3, 0, 8)], "another salt shares nothing");
    let counts = engine.scheduler.counts(MODEL).unwrap().totals;
    assert_eq!((counts.prefix_query_tokens, counts.prefix_hit_tokens), (24, 4));
}

#[test]
fn forced_tokens_run_in_one_row() {
    let mut engine = Engine::one(setup());
    engine.submit(RequestParts { tokens_max: 6, ..request(1, 0..3) });
    engine.forced = vec![20, 21, 22];
    engine.done();
    assert_eq!(engine.rows(), [(1, 3, 7)]);
    assert!(engine.plan.rows[0].samples);
    let sequence = engine.scheduler.sequence(engine.plan.rows[0].sequence).unwrap();
    assert_eq!(sequence.tokens(), [0, 1, 2, 9, 20, 21, 22]);
    let finished = engine.done().finished[0];
    assert_eq!((finished.reason, finished.output_tokens), (FinishReason::Length, 6), "two of four fit");
}

#[test]
fn stop_tokens_end_the_output_and_are_not_part_of_it() {
    for (tokens_min, draws, output_tokens) in [(0, 1, 0), (3, 4, 3)] {
        let mut engine = Engine::one(setup());
        engine.submit(RequestParts { stop_tokens: vec![9], tokens_min, ..request(1, 0..3) });
        for _ in 1..draws {
            assert!(engine.done().finished.is_empty());
        }
        let finished = engine.done().finished[0];
        assert_eq!((finished.reason, finished.output_tokens), (FinishReason::Stop, output_tokens));
    }
    let mut engine = Engine::one(setup());
    engine.submit(RequestParts { stop_tokens: vec![21], ..request(1, 0..3) });
    engine.forced = vec![20, 21, 22];
    let finished = engine.done().finished[0];
    assert_eq!((finished.reason, finished.output_tokens), (FinishReason::Stop, 2), "also a forced one");
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_reason() {
    let limits = SchedulerLimits { queue_max: 1, ..SchedulerLimits::default() };
    let mut engine = Engine::new(limits, &[setup()]);
    let refused = |engine: &mut Engine, parts: RequestParts| {
        engine.submit(parts).refused.first().map(|Refused { reason, .. }| *reason)
    };
    let long = RefusedReason::PromptTooLong { prompt_tokens: 200, prompt_tokens_max: 199 };
    assert_eq!(refused(&mut engine, request(1, 0..200)), Some(long));
    let elsewhere = RequestParts { model: ModelId(7), ..request(1, 0..2) };
    assert_eq!(refused(&mut engine, elsewhere), Some(RefusedReason::UnknownModel));
    assert_eq!(refused(&mut engine, request(1, 0..2)), None);
    assert_eq!(refused(&mut engine, request(1, 0..2)), Some(RefusedReason::DuplicateId));
    assert_eq!(refused(&mut engine, request(2, 0..2)), Some(RefusedReason::QueueFull));
    engine.send(vec![Event::Shutdown]);
    assert_eq!(refused(&mut engine, request(3, 0..2)), Some(RefusedReason::ShuttingDown));
}

#[test]
fn a_small_pool_bounds_prompt_and_output() {
    let limits = SchedulerLimits { kv_slabs: 1, ..SchedulerLimits::default() };
    let mut engine = Engine::resident(limits, &[ModelSetup { slab_blocks: 2, ..setup() }]);
    let long = RefusedReason::PromptTooLong { prompt_tokens: 8, prompt_tokens_max: 7 };
    assert_eq!(engine.submit(request(1, 0..8)).refused[0].reason, long);
    engine.submit(request(2, 0..6));
    engine.done();
    let finished = engine.done().finished[0];
    assert_eq!((finished.reason, finished.output_tokens), (FinishReason::Length, 2));
}

#[test]
fn a_cancel_in_flight_pins_blocks_until_the_outcome() {
    let mut engine = Engine::one(setup());
    engine.submit(request(1, 0..3));
    let outcome = engine.outcome();
    engine.send(vec![Event::Cancel(RequestId(1))]);
    assert!(engine.plan.finished.is_empty());
    assert_eq!(engine.scheduler.counts(MODEL).unwrap().blocks_held, 1);
    assert_eq!(engine.send(vec![outcome]).finished[0].reason, FinishReason::Cancelled);
    assert_eq!(engine.scheduler.counts(MODEL).unwrap().blocks_held, 0);
}

#[test]
fn a_failed_step_fails_its_sequences_alone() {
    let mut engine = Engine::one(ModelSetup { step_rows_max: 1, ..setup() });
    engine.submit(request(1, 0..3));
    let step = engine.plan.id;
    engine.submit(request(2, 0..3));
    engine.send(vec![Event::StepFailed(step)]);
    assert_eq!(engine.plan.finished[0].reason, FinishReason::Failed);
    assert_eq!(engine.rows(), [(2, 0, 3)]);
}

/// Two models with room for the blocks of one: what a conversation of either needs.
fn crowded() -> Engine {
    let limits = SchedulerLimits { kv_slabs: 2, switch_wait_us: 50, ..SchedulerLimits::default() };
    Engine::resident(limits, &[setup(), ModelSetup { model: ModelId(1), slab_blocks: 2, ..setup() }])
}

#[test]
fn a_model_without_memory_gets_its_turn_and_the_others_sequences_return() {
    let mut engine = crowded();
    engine.submit(request(1, 0..25)); // seven blocks of four: both slabs
    engine.done();
    assert_eq!(engine.rows(), [(1, 16, 25)]);
    engine.submit(RequestParts { model: ModelId(1), ..request(2, 0..7) });
    engine.done();
    assert_eq!(engine.rows(), [(1, 25, 26)], "who came later waits");
    engine.now += 50;
    engine.done();
    assert!(engine.plan.rows.is_empty());
    let out = engine.plan.swaps[0].id;
    engine.send(vec![Event::SwapDone(out, Ok(()))]);
    assert_eq!(engine.rows(), [(2, 0, 7)]);
    assert_eq!(engine.scheduler.counts(MODEL).unwrap().swapped, 1);
    // Its turn ends with its work; the other goes on where it was, its prefix still on the device in part.
    engine.send(vec![Event::Cancel(RequestId(2))]);
    let outcome = engine.outcome();
    engine.send(vec![outcome]);
    engine.end_swaps();
    assert_eq!(engine.rows(), [(1, 26, 27)]);
}

#[test]
fn a_prefix_that_lost_its_memory_comes_back_from_the_host_pool() {
    let mut engine = crowded();
    engine.submit(RequestParts { tokens_max: 1, ..request(1, 0..25) });
    engine.done();
    engine.done();
    assert_eq!(engine.plan.finished.len(), 1);
    // No slab is free: what is cached is copied out before somebody takes its memory.
    let saved = engine.plan.swaps[0].clone();
    assert_eq!(saved.moves.len(), 6, "the full blocks");
    engine.send(vec![Event::SwapDone(saved.id, Ok(()))]);
    engine.submit(RequestParts { model: ModelId(1), tokens_max: 1, ..request(2, 0..15) });
    engine.done();
    assert_eq!(engine.scheduler.counts(MODEL).unwrap().blocks_idle, 0, "all slabs were needed");
    engine.submit(RequestParts { tokens_max: 1, ..request(3, 0..25) });
    engine.end_swaps();
    assert_eq!(engine.rows(), [(3, 24, 25)]);
    assert_eq!(engine.done().finished[0].cached_tokens, 24);
}

#[test]
fn a_switch_is_asked_for_when_nobody_else_has_work_and_a_failed_one_fails_its_requests() {
    let other = ModelId(1);
    let setups = [setup(), ModelSetup { model: other, ..setup() }];
    let mut engine =
        Engine::new(SchedulerLimits { switch_wait_us: 50, ..SchedulerLimits::default() }, &setups);
    engine.send(vec![Event::Resident(MODEL, true)]);
    engine.submit(request(1, 0..3));
    engine.submit(RequestParts { model: other, ..request(2, 0..3) });
    engine.done();
    assert_eq!(engine.rows(), [(1, 3, 4)], "a switch may cost much: who is there goes on");
    engine.now += 50;
    assert_eq!(engine.done().switch_to, Some(other));
    engine.send(vec![Event::Resident(MODEL, false)]);
    assert!(engine.plan.rows.is_empty(), "until the runtime says who stays nothing runs");
    engine.send(vec![Event::SwitchStarted(other)]);
    assert_eq!(engine.scheduler.counts(MODEL).unwrap().suspended, 1, "with its KV");
    let failed = Event::SwitchDone(other, Err(quarry_core::plan::SwitchFailed));
    engine.send(vec![failed, Event::Resident(MODEL, true)]);
    assert_eq!(engine.plan.finished[0].reason, FinishReason::Failed);
    assert_eq!(engine.rows(), [(1, 4, 5)]);
}

#[test]
fn who_came_by_a_long_switch_stays_as_long() {
    let other = ModelId(1);
    let setups = [setup(), ModelSetup { model: other, ..setup() }];
    let mut engine =
        Engine::new(SchedulerLimits { switch_wait_us: 50, ..SchedulerLimits::default() }, &setups);
    engine.send(vec![Event::Resident(MODEL, true)]);
    engine.submit(request(1, 0..3));
    engine.submit(RequestParts { model: other, ..request(2, 0..3) });
    engine.now += 50;
    assert_eq!(engine.done().switch_to, Some(other));
    engine.send(vec![Event::Resident(MODEL, false), Event::SwitchStarted(other)]);
    engine.now += 1000;
    engine.send(vec![Event::SwitchDone(other, Ok(()))]);
    assert_eq!(engine.rows(), [(2, 0, 3)]);
    engine.now += 500;
    assert_eq!(engine.done().switch_to, None, "ten times the wait, half of what the switch took");
    engine.now += 500;
    assert_eq!(engine.done().switch_to, Some(MODEL));
}

#[test]
fn clients_take_turns_however_many_requests_one_sends() {
    let mut engine = Engine::one(ModelSetup { step_rows_max: 1, ..setup() });
    for id in 0..4 {
        engine.submit(RequestParts { tokens_max: 1, ..request(id, 10 * id as u32..10 * id as u32 + 5) });
    }
    engine.submit(RequestParts { client: 1, tokens_max: 1, ..request(9, 90..95) });
    let mut order = vec![engine.flight.1[0].0.0];
    while order.len() < 5 {
        engine.done();
        order.push(engine.plan.rows[0].sequence.0);
    }
    assert_eq!(order, [1, 5, 2, 3, 4], "the newcomer is second");
}

#[test]
fn the_earliest_deadline_of_a_client_goes_first_and_of_nobody_else() {
    let mut engine = Engine::one(ModelSetup { step_rows_max: 1, ..setup() });
    let brief = |id: u64, client, deadline| RequestParts {
        tokens_max: 1,
        client,
        deadline,
        ..request(id, id as u32 * 50..id as u32 * 50 + 5)
    };
    engine.submit(brief(1, 1, None));
    for (id, client, deadline) in [(2, 1, Some(900)), (3, 2, None), (4, 1, Some(800)), (5, 2, None)] {
        engine.submit(brief(id, client, deadline.map(Tick)));
    }
    let order: Vec<u64> = (0..4).map(|_| engine.done().rows[0].request.0).collect();
    assert_eq!(order, [3, 4, 5, 2], "4 changes places with 2, not with another client's");
}

#[test]
fn what_is_late_ends_once_nothing_uses_its_memory() {
    let mut engine = Engine::one(ModelSetup { step_rows_max: 1, ..setup() });
    let late = |id: u64, at| RequestParts { deadline: Some(Tick(at)), ..request(id, 0..8) };
    engine.submit(late(1, 10));
    engine.submit(late(2, 5));
    let ends = |engine: &Engine| {
        engine.plan.finished.iter().map(|end| (end.request.0, end.reason)).collect::<Vec<_>>()
    };
    while engine.now < 4 {
        engine.send(Vec::new());
    }
    assert_eq!(ends(&engine), []);
    engine.send(Vec::new());
    assert_eq!(ends(&engine), [(2, FinishReason::Deadline)], "it waited");
    while engine.now < 12 {
        engine.send(Vec::new());
        assert_eq!(ends(&engine), [], "its step is in flight");
    }
    // Nobody waits for the step any more, so the runtime abandons it.
    let abandoned = engine.flight.0;
    engine.send(vec![Event::Cancel(RequestId(1)), Event::StepFailed(abandoned)]);
    assert_eq!(ends(&engine), [(1, FinishReason::Deadline)]);
    assert_eq!(engine.scheduler.counts(MODEL).unwrap().blocks_held, 0);
    // What a step completes is an answer, however late it comes.
    let at = engine.now + 3;
    engine.submit(RequestParts { tokens_max: 1, ..late(3, at) });
    engine.now += 10;
    engine.done();
    assert_eq!(ends(&engine), [(3, FinishReason::Length)]);
}

#[test]
fn resident_models_share_time_step_by_step() {
    let other = ModelId(1);
    let setups = [setup(), ModelSetup { model: other, ..setup() }];
    let mut engine = Engine::resident(SchedulerLimits::default(), &setups);
    engine.submit(request(1, 0..3));
    engine.submit(RequestParts { model: other, ..request(2, 0..3) });
    let (mut time, mut running) = ([0, 0], 0);
    for _ in 0..60 {
        // Steps of the first model take three times as long.
        let took = [30, 10][running];
        time[running] += took;
        engine.now += took;
        engine.done();
        running = engine.plan.rows[0].request.0 as usize - 1;
    }
    assert!(time[0].abs_diff(time[1]) <= 60, "{time:?}");
}

#[test]
fn strays_are_counted_and_change_nothing() {
    let mut engine = Engine::one(setup());
    engine.submit(request(1, 0..3));
    let outcome = engine.outcome();
    engine.send(vec![
        Event::Cancel(RequestId(5)),
        Event::SwapDone(SwapId(1), Ok(())),
        Event::SwitchDone(MODEL, Ok(())),
        Event::Resident(ModelId(5), true),
        Event::SwitchStarted(MODEL),
        Event::Load(setup()),
    ]);
    assert_eq!(engine.scheduler.stray_events(), 6);
    assert!(engine.scheduler.sequence(SequenceId(77)).is_none());
    engine.send(vec![outcome]);
    assert_eq!(engine.rows(), [(1, 3, 4)]);
}
