//! What every handler sees.

use std::sync::{Arc, OnceLock};

use quarry_runtime::{Engine, ServedModel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::HttpError;
use crate::limits::{LimitError, Limits};
use crate::metrics::Metrics;

/// Shared by all handlers; cheap to clone. Made before the engine, so that the server can say that it is loading.
#[derive(Clone)]
pub struct AppState {
    inner: Arc<Inner>,
}

struct Inner {
    engine: OnceLock<Engine>,
    metrics: Arc<Metrics>,
    limits: Limits,
    preparing: Semaphore,
    /// One permit per [`BODY_UNIT`] of bodies in memory.
    bodies: Arc<Semaphore>,
}

/// Bytes that one permit of the bodies' room stands for.
const BODY_UNIT: usize = 4 << 10;

/// Room that a body takes up; given back when this is dropped.
pub(crate) struct BodyRoom {
    permit: OwnedSemaphorePermit,
}

impl BodyRoom {
    /// Makes room for a body that has become longer.
    pub fn grow(&mut self, state: &AppState, bytes: usize) -> Result<(), HttpError> {
        let more = bytes.div_ceil(BODY_UNIT).saturating_sub(self.permit.num_permits());
        if more > 0 {
            self.permit.merge(state.body_units(more)?);
        }
        Ok(())
    }
}

impl AppState {
    /// State of a server whose engine is still to come. Give the same `metrics` to the engine as its observer.
    ///
    /// # Errors
    /// [`LimitError`] where a limit lets nothing through.
    pub fn new(metrics: Arc<Metrics>, limits: Limits) -> Result<Self, LimitError> {
        limits.check()?;
        let preparing = Semaphore::new(limits.preparing_max.min(Semaphore::MAX_PERMITS));
        let units = limits.bodies_bytes_max.div_ceil(BODY_UNIT);
        let bodies = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Ok(Self { inner: Arc::new(Inner { engine: OnceLock::new(), metrics, limits, preparing, bodies }) })
    }

    /// The engine is there: requests are served from now on. A second engine is ignored.
    pub fn set_engine(&self, engine: Engine) {
        // Losing the race to an earlier engine is the documented outcome.
        let _ = self.inner.engine.set(engine);
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(crate) fn try_engine(&self) -> Option<&Engine> {
        self.inner.engine.get()
    }

    pub(crate) fn engine(&self) -> Result<&Engine, HttpError> {
        self.try_engine().ok_or_else(|| HttpError::not_ready(self.limits().retry_after_not_ready_s))
    }

    /// Room for a body that is still empty.
    pub(crate) fn body_room(&self) -> Result<BodyRoom, HttpError> {
        self.body_units(0).map(|permit| BodyRoom { permit })
    }

    fn body_units(&self, units: usize) -> Result<OwnedSemaphorePermit, HttpError> {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let permit = self.inner.bodies.clone().try_acquire_many_owned(units);
        permit.map_err(|_| HttpError::overloaded(self.limits().retry_after_not_ready_s))
    }

    /// A model by name; the first where a request may leave the name out and does.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<Arc<ServedModel>, HttpError> {
        let engine = self.engine()?;
        let found = match name {
            Some(name) => engine.model(name),
            None => engine.models().into_iter().next(),
        };
        found.ok_or_else(|| {
            let name = name.unwrap_or_default();
            if let Some(model) = engine.awaited().into_iter().find(|model| model.is_called(name)) {
                return HttpError::model_absent(&model, self.limits().retry_after_not_ready_s);
            }
            let served: Vec<String> = engine.models().iter().map(|m| m.name.clone()).collect();
            HttpError::model_not_found(name, &served)
        })
    }

    /// Runs work that takes a thread for a while (templates, tokenizers, schemas) off the async threads, no more
    /// than [`Limits::preparing_max`] at once.
    pub(crate) async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HttpError> + Send + 'static,
    ) -> Result<T, HttpError> {
        let closed = |_| HttpError::internal("the server is gone");
        let _permit = self.inner.preparing.acquire().await.map_err(closed)?;
        let span = tracing::Span::current();
        match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
            Ok(result) => result,
            Err(error) => Err(HttpError::internal(format!("preparing the prompt failed: {error}"))),
        }
    }
}
