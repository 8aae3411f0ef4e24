//! An engine over the CPU back end, with parts that fail, or end late, when they are told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quarry_core::plan::BlockMove;
use quarry_core::sampler::SampleRow;
use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_model::backend::{
    ActivateOptions, Backend, BackendError, Loader, ModelCost, ModelFiles, WarmModel,
};
use quarry_model::executor::{
    Batch, BlockCopy, Caps, ExecError, Executor, KvBlocks, StepResult, StepTicket, SwapDone,
};
use quarry_model::kv::{HostPool, KvArena};
use quarry_model::spec::DecoderSpec;
use quarry_runtime::ids::SwapId;
use quarry_runtime::request::SamplingParams;
use quarry_runtime::{
    Engine, EngineOptions, FinishReason, Generate, GenerateError, Generation, GenerationEvent, ModelSource,
    NoObserver, Observer, SubmitError,
};
use quarry_tiny::{TensorType, TinyModel};

/// What the executor does instead of its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// At the next step alone.
    Panic,
    /// At every step.
    PanicAlways,
    /// The next step's error.
    Error,
    /// The device is broken at the next step.
    Device,
    /// The next step begins when nobody waits for it any more.
    Unwanted,
}

#[derive(Clone, Default)]
pub struct Faults {
    pub next: Arc<Mutex<Fault>>,
    pub activations: Arc<AtomicUsize>,
    /// So many activations fail.
    pub activations_fail: Arc<AtomicUsize>,
    pub loads_fail: Arc<AtomicBool>,
    /// Loads wait as long as it is set.
    pub loads_wait: Arc<AtomicBool>,
    /// Loads that were begun.
    pub loads: Arc<AtomicUsize>,
    /// A step waits until it is unwanted.
    pub is_waiting: Arc<AtomicBool>,
    /// Polls until one swap ends; 0 is at once.
    pub swaps_late: Arc<AtomicUsize>,
}

impl Faults {
    pub fn set(&self, fault: Fault) {
        *self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fault;
    }

    pub fn take(&self) -> Fault {
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fault = *next;
        if fault != Fault::PanicAlways {
            *next = Fault::None;
        }
        fault
    }
}

/// The CPU back end, whose executors fail when they are told to.
pub struct FaultyBackend {
    pub inner: CpuBackend,
    pub faults: Faults,
    /// As if it were a device with so much memory of its own.
    pub own_memory_bytes: Option<u64>,
}

impl Backend for FaultyBackend {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn own_memory_bytes(&self) -> Option<u64> {
        self.own_memory_bytes
    }

    fn cost(&self, spec: &DecoderSpec, files: &ModelFiles, options: &ActivateOptions) -> ModelCost {
        self.inner.cost(spec, files, options)
    }

    fn loader(&self) -> Arc<dyn Loader> {
        let (inner, faults) = (self.inner.loader(), self.faults.clone());
        Arc::new(FaultyLoader { inner, faults })
    }

    fn arena(&mut self, slab_bytes: usize, slabs: usize) -> Result<KvArena, BackendError> {
        self.inner.arena(slab_bytes, slabs)
    }

    fn kv_blocks(
        &mut self,
        spec: &DecoderSpec,
        arena: &KvArena,
        block_tokens: usize,
    ) -> Result<Box<dyn KvBlocks>, BackendError> {
        let inner = self.inner.kv_blocks(spec, arena, block_tokens)?;
        Ok(Box::new(LateKvBlocks { inner, faults: self.faults.clone(), held: Vec::new(), polls: 0 }))
    }

    fn activate(
        &mut self,
        model: &WarmModel,
        kv: &dyn KvBlocks,
        options: &ActivateOptions,
    ) -> Result<Box<dyn Executor>, BackendError> {
        self.faults.activations.fetch_add(1, Ordering::Relaxed);
        let fails = &self.faults.activations_fail;
        if fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(BackendError::Device("told not to".into()));
        }
        let inner = self.inner.activate(model, kv, options)?;
        Ok(Box::new(FaultyExecutor { inner, faults: self.faults.clone() }))
    }
}

/// Fails where it is told to.
pub struct FaultyLoader {
    pub inner: Arc<dyn Loader>,
    pub faults: Faults,
}

impl Loader for FaultyLoader {
    fn warm(&self, files: &ModelFiles, progress: &mut dyn FnMut(f32)) -> Result<WarmModel, BackendError> {
        self.faults.loads.fetch_add(1, Ordering::Relaxed);
        while self.faults.loads_wait.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if self.faults.loads_fail.load(Ordering::Relaxed) {
            return Err(BackendError::Device("told not to load".into()));
        }
        self.inner.warm(files, progress)
    }
}

/// Blocks whose swaps end late and in another order; every third fails where that is wanted.
pub struct LateKvBlocks {
    pub inner: Box<dyn KvBlocks>,
    pub faults: Faults,
    held: Vec<SwapDone>,
    polls: usize,
}

impl KvBlocks for LateKvBlocks {
    fn blocks(&self) -> usize {
        self.inner.blocks()
    }

    fn swap(&mut self, id: SwapId, host: &HostPool, moves: &[BlockMove]) -> Result<(), ExecError> {
        self.inner.swap(id, host, moves)
    }

    fn poll(&mut self, done: &mut Vec<SwapDone>) {
        let late = self.faults.swaps_late.load(Ordering::Relaxed);
        self.inner.poll(&mut self.held);
        self.polls += 1;
        if late == 0 {
            done.append(&mut self.held);
        } else if self.polls.is_multiple_of(late)
            && let Some(mut last) = self.held.pop()
        {
            if last.id.0.is_multiple_of(3) {
                last.result = Err(ExecError::Device("told to lose it".into()));
            }
            done.push(last);
        }
    }

    fn state(&self) -> Arc<dyn std::any::Any + Send + Sync> {
        self.inner.state()
    }
}

pub struct FaultyExecutor {
    pub inner: Box<dyn Executor>,
    pub faults: Faults,
}

impl Executor for FaultyExecutor {
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn submit(&mut self, batch: &Batch<'_>) -> Result<StepTicket, ExecError> {
        match self.faults.take() {
            Fault::None => self.inner.submit(batch),
            Fault::Panic | Fault::PanicAlways => panic!("told to"),
            Fault::Error => Err(ExecError::BadBatch("told to".into())),
            Fault::Device => Err(ExecError::Device("told to".into())),
            Fault::Unwanted => {
                self.faults.is_waiting.store(true, Ordering::Release);
                let begun = std::time::Instant::now();
                while (batch.is_wanted)() {
                    assert!(begun.elapsed() < Duration::from_secs(20), "wanted all the time");
                    std::thread::sleep(Duration::from_millis(1));
                }
                let result = self.inner.submit(batch);
                assert!(matches!(result, Err(ExecError::Abandoned)), "{result:?}");
                result
            }
        }
    }

    fn finish(
        &mut self,
        ticket: StepTicket,
        samples: &[SampleRow<'_>],
        out: &mut StepResult,
    ) -> Result<(), ExecError> {
        self.inner.finish(ticket, samples, out)
    }

    fn copy_blocks(&mut self, moves: &[BlockCopy]) -> Result<(), ExecError> {
        self.inner.copy_blocks(moves)
    }
}

pub fn backend() -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: 1, isa: None }).unwrap()
}

/// A back end that fails when it is told to.
pub fn faulty_backend() -> (FaultyBackend, Faults) {
    let faults = Faults::default();
    (FaultyBackend { inner: backend(), faults: faults.clone(), own_memory_bytes: None }, faults)
}

/// An engine with a tiny random model; the folder holds its file.
pub fn faulty() -> (Engine, Faults, tempfile::TempDir) {
    faulty_observed(Arc::new(NoObserver))
}

pub fn faulty_observed(observer: Arc<dyn Observer>) -> (Engine, Faults, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel::qwen3().write(&path, TensorType::F32).unwrap();
    let (backend, faults) = faulty_backend();
    let source = ModelSource { name: "tiny".into(), aliases: vec!["small".into()], path, yarn: None };
    let options = EngineOptions { kv_bytes: Some(64 << 20), ..EngineOptions::new(vec![source]) };
    (start_observed(Box::new(backend), options, observer), faults, folder)
}

pub fn start(backend: Box<dyn Backend>, options: EngineOptions) -> Engine {
    start_observed(backend, options, Arc::new(NoObserver))
}

pub fn start_observed(
    backend: Box<dyn Backend>,
    options: EngineOptions,
    observer: Arc<dyn Observer>,
) -> Engine {
    let engine = Engine::start(backend, options, observer, &mut |_, _| {}).unwrap();
    while !engine.is_ready() {
        std::thread::sleep(Duration::from_millis(1));
    }
    engine
}

pub fn generate(engine: &Engine, prompt: Vec<u32>, tokens: u32) -> Generate {
    Generate {
        model: engine.models()[0].clone(),
        prompt,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        tokens_max: Some(tokens),
        tokens_min: 0,
        stop_tokens: Vec::new(),
        ignore_eos: true,
        stop_strings: Vec::new(),
        constraint: None,
        forced_tokens: None,
        drafts: None,
        priority: 0,
        deadline: None,
        client: 0,
        cache_salt: 0,
        request_id: String::new(),
    }
}

pub fn submit_to(engine: &Engine, generate: Generate) -> Result<Generation, SubmitError> {
    engine.submit(generate, engine.reserve()?)
}

pub fn submit(engine: &Engine, tokens: u32) -> Generation {
    submit_to(engine, generate(engine, (10..30).collect(), tokens)).unwrap()
}

/// The whole text, and how it ended.
pub async fn all(generation: &mut Generation) -> Result<(String, FinishReason), GenerateError> {
    let mut whole = String::new();
    loop {
        match generation.next().await.expect("an end comes before nothing") {
            GenerationEvent::Text { text, .. } => whole.push_str(&text),
            GenerationEvent::Finished { reason, .. } => return Ok((whole, reason)),
            GenerationEvent::Failed(error) => return Err(error),
        }
    }
}

pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..5000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("never {what}");
}
