//! The handle: submits generations, reports state, drains. Cheap to clone; never blocks on the engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quarry_core::ids::{RequestId, Tick, TokenId};
use quarry_core::request::{Request, RequestParts};
use quarry_core::verdict::Verdict;
use quarry_model::backend::{Backend, DeviceFigures, Monitor};
use quarry_text::detokenizer::Detokenizer;
use quarry_text::stop::StopMatcher;
use tokio::sync::mpsc;

use crate::arrivals::{Arrival, AwaitedModel};
use crate::bind::{Job, Times, Waiting};
use crate::budget::WeightBytes;
use crate::drafts::Acceptance;
use crate::engine_loop::{EngineLoop, Shared};
use crate::generate::{Generate, Generation, SubmitError};
use crate::inbox::{Closed, Inbox, Wish};
use crate::observe::{ModelState, Observer, Snapshot};
use crate::opening::{HostError, ServedModel};
use crate::options::EngineOptions;
use crate::queue::{Queue, Reservation};
use crate::registry::Registry;

/// How often [`Engine::drain`] looks whether all is done.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// How long [`Engine::drain`] waits for the thread once it was told to end.
const JOIN_WAIT: Duration = Duration::from_secs(5);
/// What a client refused for a full queue is told to wait, in seconds.
const RETRY_AFTER_S: u32 = 2;
/// Events beside text that one generation can have: its end, and text held back to its end.
const END_EVENTS: usize = 4;

/// The engine, from outside.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    /// Taken by whoever joins it.
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    next_id: Arc<AtomicU64>,
    inbox: Arc<Inbox>,
    queue: Arc<Queue>,
    forced_tokens: bool,
    drafts: bool,
    monitor: Option<Arc<dyn Monitor>>,
}

impl Engine {
    /// Loads every model (blocking; `progress` is told model and share done) and starts the engine thread.
    ///
    /// # Errors
    /// [`HostError`] names the file and what is wrong with it.
    pub fn start(
        backend: Box<dyn Backend>,
        options: EngineOptions,
        observer: Arc<dyn Observer>,
        progress: &mut dyn FnMut(&str, f32),
    ) -> Result<Self, HostError> {
        let mut options = options;
        options.scheduler.swap_space_bytes = options.swap_space_bytes as u64;
        let monitor = backend.monitor();
        let mut registry = Registry::open(backend, &options)?;
        options.scheduler.kv_slabs = registry.kv_slabs();
        registry.load_first(progress)?;
        let models = registry.models.iter().map(|known| known.served.clone()).collect();
        let inbox = Arc::new(Inbox::default());
        let queue = Queue::new(options.scheduler.queue_max);
        let shared = Arc::new(Shared {
            inbox: inbox.clone(),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            snapshot: Mutex::new(Snapshot { healthy: true, ..Snapshot::default() }),
            models: RwLock::new(models),
            arrivals: Arc::default(),
            started: Instant::now(),
        });
        let (forced_tokens, drafts) = (options.forced_tokens, options.drafts);
        let engine = EngineLoop::new(registry, options, shared.clone(), observer);
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || engine.run())
            .map_err(HostError::Thread)?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        let next_id = Arc::new(AtomicU64::new(1));
        Ok(Self { shared, thread, next_id, inbox, queue, forced_tokens, drafts, monitor })
    }

    /// Every model served.
    pub fn models(&self) -> Vec<Arc<ServedModel>> {
        self.shared.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A model that will come: it is listed as absent, and requests for it wait outside until it is here.
    pub fn expect(&self, name: String, aliases: Vec<String>) -> Arrival {
        Arrival::new(name, aliases, self.shared.arrivals.clone(), self.inbox.clone())
    }

    /// Models that are still to come.
    pub fn awaited(&self) -> Vec<AwaitedModel> {
        self.shared.arrivals.list()
    }

    /// A model by name or alias.
    pub fn model(&self, name: &str) -> Option<Arc<ServedModel>> {
        let named = |m: &&Arc<ServedModel>| m.name == name || m.aliases.iter().any(|alias| alias == name);
        self.shared.models.read().unwrap_or_else(PoisonError::into_inner).iter().find(named).cloned()
    }

    /// Where a model's weights are now.
    pub fn model_state(&self, model: &ServedModel) -> ModelState {
        let snapshot = self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.models.get(model.id.0 as usize).map(|found| found.state.clone()).unwrap_or_default()
    }

    /// Wants a model's weights on the device. Other models may make room; their conversations go on later.
    ///
    /// # Errors
    /// What does not fit, before anything is touched.
    pub fn load(&self, model: &ServedModel) -> Result<(), String> {
        self.snapshot().budget.fits(WeightBytes::default(), model.weight_bytes, false)?;
        self.inbox.wish(model.id, Wish::Load);
        Ok(())
    }

    /// Wants a model's weights out of memory once its requests are answered. A later request loads it again.
    pub fn unload(&self, model: &ServedModel) {
        self.inbox.wish(model.id, Wish::Unload);
    }

    /// Room in the queue for one request, to be had before its prompt is made.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`], [`SubmitError::NotReady`] and [`SubmitError::ShuttingDown`].
    pub fn reserve(&self) -> Result<Reservation, SubmitError> {
        if self.shared.draining.load(Ordering::Acquire) {
            return Err(SubmitError::ShuttingDown);
        }
        if !self.is_ready() {
            return Err(SubmitError::NotReady);
        }
        let full = |queued| SubmitError::QueueFull { queued, retry_after_s: RETRY_AFTER_S };
        self.queue.reserve().map_err(full)
    }

    /// Starts a generation. Never waits for the engine, but compiles the constraint (milliseconds, then cached).
    ///
    /// # Errors
    /// [`SubmitError`]; what only the scheduler can know comes as the generation's first event instead.
    pub fn submit(&self, g: Generate, reservation: Reservation) -> Result<Generation, SubmitError> {
        if self.model_state(&g.model) == ModelState::Unloading {
            return Err(SubmitError::Unloading);
        }
        let prompt_tokens = u32::try_from(g.prompt.len()).unwrap_or(u32::MAX);
        let prompt_tokens_max = g.model.prompt_tokens_max;
        if prompt_tokens > prompt_tokens_max {
            return Err(SubmitError::PromptTooLong { prompt_tokens, prompt_tokens_max });
        }
        let room = g.model.context_tokens_max - prompt_tokens;
        let tokens_max = g.tokens_max.unwrap_or(room).min(room);
        let mut stop_tokens: Vec<TokenId> = g.stop_tokens;
        if !g.ignore_eos {
            stop_tokens.extend_from_slice(g.model.text.tokenizer.eos_tokens());
        }
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        let constraint = match &g.constraint {
            Some(spec) => Some(g.model.text.constraints.compile(spec)?.start()),
            None => None,
        };
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let is_drafting = g.drafts.unwrap_or(self.drafts);
        let since_start = |at: Instant| at.saturating_duration_since(self.shared.started).as_micros();
        let parts = RequestParts {
            id,
            model: g.model.id,
            prompt: g.prompt,
            sampling: g.sampling,
            tokens_max,
            tokens_min: g.tokens_min,
            stop_tokens,
            priority: g.priority,
            deadline: g.deadline.map(|at| Tick(u64::try_from(since_start(at)).unwrap_or(u64::MAX))),
            client: g.client,
            cache_salt: g.cache_salt,
        };
        let verdict = Verdict::new(&parts, room);
        let (tokens, sampling) = (parts.prompt.clone(), parts.sampling.clone());
        let request = Request::new(parts)?;
        let is_cancelled = Arc::new(AtomicBool::new(false));
        // A token makes at most one event, so this bound is never met and sending never waits.
        let (sender, events) = mpsc::channel(tokens_max as usize + END_EVENTS);
        let job = Job {
            request: Some(request),
            reservation: Some(reservation),
            id,
            detokenizer: Detokenizer::new(g.model.text.tokenizer.clone()),
            stops: StopMatcher::new(g.stop_strings),
            model: g.model,
            events: sender,
            constraint,
            is_forcing: g.forced_tokens.unwrap_or(self.forced_tokens),
            masks: Vec::new(),
            prompt_tokens: tokens.len(),
            tokens,
            sampling,
            is_drafting,
            acceptance: Acceptance::default(),
            draft_end: 0,
            verdict,
            waiting: Waiting { is_cancelled: is_cancelled.clone(), deadline: g.deadline },
            tokens_unsent: 0,
            times: Times::new(),
            request_id: g.request_id,
        };
        let generation = Generation { id, events, inbox: self.inbox.clone(), is_cancelled, ended: false };
        match self.inbox.submit(job) {
            Ok(()) => Ok(generation),
            Err(Closed) if self.is_dead() => Err(SubmitError::NotReady),
            Err(Closed) => Err(SubmitError::ShuttingDown),
        }
    }

    /// The engine at this moment.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the devices tell of themselves, where they do. May take milliseconds: not for an async thread.
    pub fn devices(&self) -> Vec<DeviceFigures> {
        self.monitor.as_ref().map(|monitor| monitor.read()).unwrap_or_default()
    }

    /// Whether a request would be taken now.
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire) && !self.shared.draining.load(Ordering::Acquire)
    }

    /// Whether the engine gave up after repeated panics: the process should end with a non-zero status.
    pub fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Acquire)
    }

    /// Stops admitting, waits until all is answered or `within` is over, then cancels the rest and joins the thread: a step
    /// in flight ends between two layers. A device that hangs is waited for five seconds more, and left.
    pub async fn drain(&self, within: Duration) {
        self.shared.draining.store(true, Ordering::Release);
        self.inbox.drain();
        let deadline = Instant::now() + within;
        // The thread ends by itself when it has answered everything that it was given.
        while Instant::now() < deadline && self.shared.ready.load(Ordering::Acquire) {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        self.inbox.stop();
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let deadline = Instant::now() + JOIN_WAIT;
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                tracing::error!("the engine's thread does not end and is left");
                return;
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
        // It catches its panics and answers for them.
        let _ = thread.join();
    }
}
