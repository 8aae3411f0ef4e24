//! What happens in one run, drawn from its seed: models, limits, requests, faults.

use quarry_core::ids::{ModelId, RequestId, Tick, TokenId};
use quarry_core::limits::SchedulerLimits;
use quarry_core::plan::{Event, MeasuredRates, ModelSetup};
use quarry_core::request::{Request, RequestParts, SamplingParams};

use crate::rng::Rng;

pub struct Workload {
    pub limits: SchedulerLimits,
    pub models: Vec<ModelSetup>,
    /// What the outside world sends, with the time it arrives.
    pub events: Vec<(u64, Event)>,
    /// Models that somebody wants gone, and when.
    pub unloads: Vec<(u64, ModelId)>,
    /// When the engine is lost.
    pub restarts: Vec<u64>,
    pub requests: Vec<RequestParts>,
    pub faults: Faults,
    /// Models that fit on the device at once; they leave in order of their ids.
    pub residents_max: usize,
}

/// Shares in percent of what goes wrong.
#[derive(Clone, Copy)]
pub struct Faults {
    pub step: u64,
    pub swap: u64,
    pub switch: u64,
    /// Results that arrive twice.
    pub doubled: u64,
}

/// Requests arrive in this span, in microseconds.
const SPAN_US: u64 = 4_000;

impl Workload {
    pub fn draw(rng: &mut Rng) -> Self {
        let kv_slabs = rng.within(1, 12) as u32;
        let models: Vec<ModelSetup> =
            (0..rng.within(1, 3)).map(|id| setup(ModelId(id as u32), kv_slabs, rng)).collect();
        let limits = SchedulerLimits {
            queue_max: rng.pick(&[2, 1000, 1000]),
            kv_slabs,
            swap_space_bytes: rng.pick(&[0, 200, 3_000, 20_000, 1 << 20]),
            swap_extent_bytes: rng.pick(&[64, 200, 1_000, 1 << 20]),
            switch_wait_us: rng.pick(&[20, 300, 3_000]),
            step_us_max: rng.pick(&[0, 1_000, 1_000_000]),
        };
        let share = |rng: &mut Rng| rng.pick(&[0, 0, 0, 5, 30]);
        let faults = Faults {
            step: rng.pick(&[0, 0, 0, 2, 20]),
            // Every swap may fail: then all is recomputed.
            swap: rng.pick(&[0, 0, 10, 50, 100]),
            switch: share(rng),
            doubled: share(rng),
        };
        let texts: Vec<Vec<TokenId>> = (0..rng.within(1, 4)).map(|_| text(rng, 120)).collect();
        let residents_max = rng.within(1, 3) as usize;
        let mut workload = Self {
            limits,
            models,
            events: Vec::new(),
            unloads: Vec::new(),
            restarts: Vec::new(),
            requests: Vec::new(),
            faults,
            residents_max,
        };
        workload.outside(rng);
        // Sometimes one client sends most.
        let busy = rng.pick(&[0, 0, 60, 90]);
        for id in 0..rng.within(2, 40) {
            let client = if rng.percent(busy) { 0 } else { rng.within(0, 4) };
            workload.request(RequestId(id), client, &texts, rng);
        }
        workload
    }

    fn outside(&mut self, rng: &mut Rng) {
        for (index, setup) in self.models.iter().enumerate() {
            // The first is there from the start; others may come while requests already name them.
            let at = if index == 0 || rng.percent(70) { 0 } else { rng.within(1, SPAN_US) };
            self.events.push((at, Event::Load(*setup)));
        }
        for _ in 0..rng.pick(&[0, 0, 1, 4]) {
            let model = ModelId(rng.within(0, 3) as u32);
            self.events.push((rng.within(0, SPAN_US), Event::SwitchRequested(model)));
        }
        for _ in 0..rng.within(0, 2) {
            let rates = MeasuredRates {
                swap_bytes_per_s: rng.pick(&[
                    None,
                    Some(0.0),
                    Some(1e3),
                    Some(f64::INFINITY),
                    Some(f64::NAN),
                ]),
                prefill_tokens_per_s: rng.pick(&[0.0, 1.0, 1e3, f64::INFINITY, f64::NAN]),
                decode_step_s: rng.pick(&[None, Some(0.0), Some(0.01), Some(f64::INFINITY), Some(f64::NAN)]),
            };
            let model = ModelId(rng.within(0, 3) as u32);
            self.events.push((rng.within(0, SPAN_US), Event::Rates(model, rates)));
        }
        for _ in 0..rng.pick(&[0, 0, 1, 4]) {
            let model = rng.pick(&self.models).model;
            self.unloads.push((rng.within(0, SPAN_US * 2), model));
        }
        for _ in 0..rng.pick(&[0, 0, 0, 1, 2]) {
            self.restarts.push(rng.within(0, SPAN_US * 3 / 2));
        }
        if rng.percent(15) {
            self.events.push((rng.within(SPAN_US / 2, SPAN_US), Event::Shutdown));
        }
    }

    fn request(&mut self, id: RequestId, client: u64, texts: &[Vec<TokenId>], rng: &mut Rng) {
        let setup = rng.pick(&self.models);
        let shared = &texts[rng.within(0, texts.len() as u64 - 1) as usize];
        // Short prompts crowd the device and grow there; long ones are chunked.
        let cut = rng.pick(&[0, 5, shared.len() / 3, shared.len()]);
        let cut = rng.within(0, cut.min(shared.len()) as u64) as usize;
        let mut prompt = shared[..cut].to_vec();
        prompt.extend(text(rng, 12));
        // Some are left too long on purpose.
        if rng.percent(90) {
            let room =
                setup.context_tokens_max.min(self.limits.kv_slabs * setup.slab_blocks * setup.block_tokens);
            let room = room as usize;
            prompt.truncate((room - 1).max(1));
        }
        let at = rng.within(0, SPAN_US);
        let deadline = rng.percent(15).then(|| Tick(at + rng.within(0, SPAN_US)));
        let parts = RequestParts {
            id,
            model: if rng.percent(2) { ModelId(99) } else { setup.model },
            prompt,
            sampling: SamplingParams::default(),
            tokens_max: rng.pick(&[1, 2, 20, 1_000]),
            tokens_min: rng.pick(&[0, 0, 3]),
            stop_tokens: if rng.percent(50) { Vec::new() } else { text(rng, 3) },
            priority: rng.pick(&[0, 0, 0, -1, 5]),
            deadline,
            client,
            cache_salt: rng.pick(&[0, 0, 0, 9]),
        };
        let request = Request::new(parts.clone()).expect("in range");
        self.events.push((at, Event::Submit(request)));
        if rng.percent(25) {
            self.events.push((at + rng.within(0, SPAN_US / 4), Event::Cancel(id)));
        }
        self.requests.push(parts);
    }
}

fn setup(model: ModelId, kv_slabs: u32, rng: &mut Rng) -> ModelSetup {
    let block_tokens = rng.pick(&[1, 2, 4, 8]);
    let slab_blocks = rng.pick(&[1, 2, 5, 20]);
    let all = kv_slabs * slab_blocks * block_tokens;
    ModelSetup {
        model,
        block_tokens,
        slab_blocks,
        block_bytes: rng.pick(&[1, 64, 130]),
        context_tokens_max: rng.within(2, (u64::from(all) * 5 / 4).clamp(2, 300)) as u32,
        step_tokens_max: rng.pick(&[1, 3, 8, 32, 64]),
        step_rows_max: rng.pick(&[1, 2, 4, 16]),
        runs_ahead: rng.percent(50),
    }
}

/// At least one token, few distinct ones.
fn text(rng: &mut Rng, tokens_max: u64) -> Vec<TokenId> {
    (0..rng.within(1, tokens_max)).map(|_| rng.within(0, 39) as TokenId).collect()
}
