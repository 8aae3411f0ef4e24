//! Models of the configuration that are not on this machine yet: the server serves the others while these are fetched.

use std::time::Duration;

use quarry_models::{Progress, Registry};
use quarry_runtime::{Arrival, Engine, ModelSource, Yarn};

/// Wait before a failed fetch is tried again; doubled up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// A known model to fetch and serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// As the registry knows it.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// Switches YaRN on.
    pub yarn: Option<Yarn>,
}

/// Fetches these one after another on a thread of its own and hands each to the engine. What fails is tried again, after
/// the others, until it is here or the process ends.
///
/// # Errors
/// No thread.
pub fn in_background(registry: Registry, wanted: Vec<Wanted>, engine: &Engine) -> std::io::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut missing: Vec<(Wanted, Arrival)> = wanted
        .into_iter()
        .map(|one| {
            let arrival = engine.expect(one.name.clone(), one.aliases.clone());
            (one, arrival)
        })
        .collect();
    let work = move || {
        let mut wait = RETRY_FIRST;
        loop {
            missing.retain(|(one, arrival)| !fetch(&registry, one, arrival));
            if missing.is_empty() {
                return;
            }
            tracing::info!(retry_s = wait.as_secs(), models = missing.len(), "models are still missing");
            std::thread::sleep(wait);
            wait = (wait * 2).min(RETRY_MAX);
        }
    };
    std::thread::Builder::new().name("fetcher".into()).spawn(work).map(drop)
}

/// Whether the engine has it.
fn fetch(registry: &Registry, wanted: &Wanted, arrival: &Arrival) -> bool {
    let Wanted { name, aliases, yarn } = wanted;
    tracing::info!(model = %name, "fetching");
    let mut tenth = 0;
    let mut progress = |event: Progress<'_>| match event {
        Progress::Bytes { done, total: Some(total) } if total > 0 => {
            let share = done as f32 / total as f32;
            arrival.progress(share);
            if (share * 10.0) as u32 > tenth {
                tenth = (share * 10.0) as u32;
                tracing::info!(model = %name, bytes = done, bytes_total = total, "fetching");
            }
        }
        Progress::Failed { source, reason } => {
            tracing::warn!(model = %name, source = %source, reason = %reason, "a source failed");
        }
        _ => {}
    };
    let pulled = registry.pull(name, None, &mut progress).map_err(|error| error.to_string());
    let arrived = pulled.and_then(|pulled| {
        let source =
            ModelSource { name: name.clone(), aliases: aliases.clone(), path: pulled.path, yarn: *yarn };
        arrival.arrived(&source).map_err(|error| error.to_string())
    });
    arrived
        .inspect_err(|error| {
            tracing::error!(model = %name, %error, "a model could not be fetched");
            arrival.failed(error.clone());
        })
        .is_ok()
}
