//! A server within this process: models resolved, engine loaded, HTTP bound. `serve`, `demo`, `scrape` and `eval`
//! all use it; `bench model` and `eval perplexity` take the model and the back end without the server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use quarry_cpu::isa::Isa;
use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_http::{AppState, Limits, Metrics, ServeError};
use quarry_model::backend::{Backend, ModelFiles};
use quarry_models::Registry;
use quarry_runtime::devices::{self, DeviceOptions};
use quarry_runtime::{Engine, EngineOptions, ModelSource, Yarn};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cli::BackendArgs;
use crate::config::{
    Config, Environment, IsaChoice, KvCacheType, ModelChoice, PrefillChoice, RopeScalingChoice,
};
use crate::descriptors;
use crate::fetching::{self, Wanted};
use crate::fit::{Candidate, Terms};
use crate::progress::PullProgress;

/// What a name without a quantization means on a GPU, where it has it; see `Registry::resolve_for`.
const GPU_QUANTIZATION: &str = "awq";

/// A server that listens.
pub struct Host {
    /// Where.
    pub address: SocketAddr,
    state: AppState,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Host {
    /// Binds and answers at once; `/ready` is false until [`Host::load`] is done.
    pub async fn bind(config: &Config, address: SocketAddr) -> anyhow::Result<Self> {
        let is_aliased = config.server.metrics_llamacpp_names;
        let metrics = if is_aliased { Metrics::with_llamacpp_names() } else { Metrics::new() };
        let metrics = Arc::new(metrics.context("metrics")?);
        let limits = Limits {
            connections_max: config.server.connections_max,
            priority_min: config.server.priority_min,
            drain: Duration::from_secs(config.server.drain_seconds),
            ..Limits::default()
        };
        let state = AppState::new(metrics.clone(), limits).context("limits")?;
        descriptors::raise(limits.connections_max.saturating_add(limits.reserved_connections_max));
        let listener = quarry_http::bind(address).with_context(|| {
            format!("cannot listen on {address}; is another server there? --port 0 takes a free port")
        })?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(quarry_http::serve(listener, state.clone(), async {
            let _ = stopped.await; // a dropped sender is the same wish
        }));
        Ok(Self { address, state, metrics, stop, serving })
    }

    /// Loads the models that are here and starts the engine; the others are fetched and served once they have come.
    pub async fn load(
        &self,
        config: &Config,
        backend: Box<dyn Backend>,
        models: Models,
        registry: Registry,
    ) -> anyhow::Result<()> {
        let server = &config.server;
        let mut options = EngineOptions::new(models.here);
        let kv_bytes = server.kv_cache.map(|bytes| usize::try_from(bytes.0));
        options.kv_bytes = kv_bytes.transpose().context("server.kv_cache")?;
        options.swap_space_bytes = usize::try_from(server.swap_space.0).context("server.swap_space")?;
        options.memory_bytes = server.memory.map(|bytes| bytes.0);
        options.scheduler.switch_wait_us = server.switch_wait_ms.saturating_mul(1000);
        options.scheduler.queue_max = server.queue_max;
        options.context_tokens_max = server.context_tokens_max;
        options.block_tokens = server.block_tokens;
        options.step_tokens_max = server.step_tokens_max;
        options.step_rows_max = server.step_rows_max;
        options.scheduler.step_us_max = server.step_ms_max.saturating_mul(1000);
        options.forced_tokens = server.forced_tokens;
        options.drafts = server.drafts;
        if has_own_memory(&*backend) {
            // What is still to be fetched must find room beside a KV cache that takes the rest.
            let terms = Terms::of(server);
            let known = models.wanted.iter().filter_map(|one| registry.manifest(&one.name).ok());
            options.awaited_costs = known.filter_map(Candidate::known).map(|one| one.cost(&terms)).collect();
        }
        let metrics = self.metrics.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let mut tenth = 0;
            Engine::start(backend, options, metrics, &mut |model, share| {
                let now = (share * 10.0) as u32;
                if now > tenth {
                    tenth = now;
                    tracing::debug!(model, share, "loading");
                }
            })
        });
        let engine = loading.await.context("loading was interrupted")??;
        fetching::in_background(registry, models.wanted, &engine).context("no thread to fetch models")?;
        self.state.set_engine(engine);
        Ok(())
    }

    /// The base address for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops admitting, drains, ends.
    pub async fn shut_down(self) -> anyhow::Result<()> {
        let _ = self.stop.send(()); // gone when serving has ended by itself
        self.serving.await.context("the server task")??;
        Ok(())
    }

    /// Serves until SIGINT or SIGTERM, or until the engine gives up.
    pub async fn until_signal(self) -> anyhow::Result<()> {
        let mut serving = self.serving;
        tokio::select! {
            ended = &mut serving => return Ok(ended.context("the server task")??),
            signal = wait_for_signal() => tracing::info!(signal = signal?, "shutting down"),
        }
        let _ = self.stop.send(());
        Ok(serving.await.context("the server task")??)
    }
}

async fn wait_for_signal() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// The models to serve.
#[derive(Debug, Default)]
pub struct Models {
    /// The first answers where a request names no other.
    pub here: Vec<ModelSource>,
    /// Known ones that are still to be fetched.
    pub wanted: Vec<Wanted>,
}

/// The device of the configuration.
pub fn open_device(config: &Config) -> anyhow::Result<Box<dyn Backend>> {
    let server = &config.server;
    Ok(devices::open(DeviceOptions {
        choice: server.device.0.clone(),
        cpu: CpuOptions { threads: server.threads, isa: isa(server.isa) },
        gpu_memory_utilization: server.gpu_memory_utilization,
        prefill_attention: match server.prefill_attention {
            PrefillChoice::Own => devices::PrefillChoice::Own,
            PrefillChoice::FlashAttn => devices::PrefillChoice::FlashAttn,
        },
        kv_cache_type: match server.kv_cache_type {
            KvCacheType::Auto => devices::KvCacheType::Auto,
            KvCacheType::Bf16 => devices::KvCacheType::Bf16,
            KvCacheType::Int8 => devices::KvCacheType::Int8,
        },
        int8_head: server.int8_head,
    })?)
}

/// Whether it is a GPU, for all that the rest of the program needs to know.
pub fn has_own_memory(backend: &dyn Backend) -> bool {
    backend.own_memory_bytes().is_some()
}

/// The models to serve: the one named, else those of the configuration. The first is pulled if it is not here. `is_gpu`
/// says for which kind of device a name without a quantization is meant.
pub fn resolve_models(
    named: Option<&str>,
    config: &Config,
    registry: &Registry,
    is_gpu: bool,
) -> anyhow::Result<Models> {
    let preferred = is_gpu.then_some(GPU_QUANTIZATION);
    let choices: Vec<(ModelChoice, &str)> = match named {
        Some(name) => vec![(ModelChoice::named(name, None), "primary")],
        None => {
            let models = &config.models;
            let parts = [(Some(&models.primary), "primary"), (models.thinking.as_ref(), "thinking")];
            let more = [(models.maximum.as_ref(), "maximum"), (models.fast.as_ref(), "fast")];
            parts.into_iter().chain(more).filter_map(|(choice, part)| Some((choice?.clone(), part))).collect()
        }
    };
    let mut models = Models::default();
    for (choice, part) in choices {
        let yarn = choice.rope_scaling.map(RopeScalingChoice::yarn);
        let other =
            || anyhow::anyhow!("models.{part}: {} is served already, with another rope_scaling", choice.name);
        match resolve_one(&choice, part, yarn, registry, preferred)? {
            Resolved::Here(source) => match models.here.iter_mut().find(|known| known.path == source.path) {
                Some(known) if known.yarn != source.yarn => return Err(other()),
                Some(known) => known.aliases.extend(source.aliases),
                None => models.here.push(source),
            },
            // Without it there is nothing to serve.
            Resolved::Wanted(Wanted { name, aliases, yarn }) if models.here.is_empty() => {
                let path = pull(registry, &name)?;
                models.here.push(ModelSource { name, aliases, path, yarn });
            }
            Resolved::Wanted(one) => match models.wanted.iter_mut().find(|known| known.name == one.name) {
                Some(known) if known.yarn != one.yarn => return Err(other()),
                Some(known) => known.aliases.extend(one.aliases),
                None => models.wanted.push(one),
            },
        }
    }
    Ok(models)
}

enum Resolved {
    Here(ModelSource),
    Wanted(Wanted),
}

fn resolve_one(
    choice: &ModelChoice,
    part: &str,
    yarn: Option<Yarn>,
    registry: &Registry,
    preferred: Option<&str>,
) -> anyhow::Result<Resolved> {
    let aliases = vec![part.to_owned()];
    let path = Path::new(&choice.name);
    let is_gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    if path.is_dir() {
        // The folder's own name, also where it was given as `.` or with a slash at the end.
        let name =
            path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = name.unwrap_or_else(|| choice.name.clone());
        return Ok(Resolved::Here(ModelSource { name, aliases, path: path.to_owned(), yarn }));
    }
    if is_gguf || path.is_file() {
        let name = path.file_stem().map_or_else(|| choice.name.clone(), |s| s.to_string_lossy().into_owned());
        return Ok(Resolved::Here(ModelSource { name, aliases, path: path.to_owned(), yarn }));
    }
    let wanted = choice.quantization.as_deref();
    let name = registry.resolve_for(&choice.name, wanted, preferred)?.name.clone();
    let mut aliases = aliases;
    if choice.name != name {
        aliases.push(choice.name.clone());
    }
    Ok(match registry.path(&name) {
        Ok(path) => Resolved::Here(ModelSource { name, aliases, path, yarn }),
        Err(_) => Resolved::Wanted(Wanted { name, aliases, yarn }),
    })
}

/// One model's files, for commands that run a back end without a server.
pub fn open_model(
    named: Option<&str>,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<ModelFiles> {
    let registry = environment.registry()?;
    let models = resolve_models(named, config, &registry, false)?; // the commands that come here use the CPU
    let source = models.here.into_iter().next().context("no model")?;
    source.open().with_context(|| source.path.display().to_string())
}

/// The CPU, and how many threads it has.
pub fn cpu(args: BackendArgs, config: &Config) -> anyhow::Result<(CpuBackend, usize)> {
    let threads = args.threads.unwrap_or(config.server.threads);
    let backend = CpuBackend::new(CpuOptions { threads, isa: args.isa.or(isa(config.server.isa)) })?;
    let threads = backend.threads();
    Ok((backend, threads))
}

/// What the configuration names; `None` leaves the choice to the back end.
fn isa(choice: IsaChoice) -> Option<Isa> {
    match choice {
        IsaChoice::Auto => None,
        IsaChoice::Avx512Vnni => Some(Isa::Avx512Vnni),
        IsaChoice::AvxVnni => Some(Isa::AvxVnni),
        IsaChoice::Avx2 => Some(Isa::Avx2),
        IsaChoice::Portable => Some(Isa::Portable),
    }
}

/// A known model's file; fetched with progress where it is not here.
pub fn pull(registry: &Registry, name: &str) -> anyhow::Result<PathBuf> {
    if let Ok(path) = registry.path(name) {
        return Ok(path);
    }
    let mut progress = PullProgress::new(name);
    let pulled = registry.pull(name, None, &mut |event| progress.event(&event));
    progress.finish();
    Ok(pulled?.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`crate::main`] turns any error into a non-zero status.
    #[tokio::test]
    async fn an_engine_that_gave_up_is_an_error_of_the_command() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let state = AppState::new(metrics.clone(), Limits::default()).unwrap();
        let serving = tokio::spawn(async { Err(ServeError::EngineDead) });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let host = Host { address, state, metrics, stop: oneshot::channel().0, serving };
        assert!(host.until_signal().await.unwrap_err().to_string().contains("gave up"));
    }
}
