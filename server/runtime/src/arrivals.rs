//! Models that are to be served and whose files are still on their way.
//!
//! Whoever fetches them tells an [`Arrival`] how far they are; once they are here, the engine opens and serves them as it
//! does those that it was started with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::inbox::Inbox;
use crate::observe::ModelState;
use crate::opening::{HostError, Opened};
use crate::options::ModelSource;

/// A model that is to come.
#[derive(Clone, Debug, PartialEq)]
pub struct AwaitedModel {
    /// What clients call it.
    pub name: String,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// [`ModelState::Absent`] with the share that is here, or [`ModelState::Failed`].
    pub state: ModelState,
}

impl AwaitedModel {
    /// Whether clients call it so.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// All models that are to come.
#[derive(Default)]
pub struct Arrivals {
    awaited: Mutex<Vec<AwaitedModel>>,
}

impl Arrivals {
    pub fn list(&self) -> Vec<AwaitedModel> {
        self.lock().clone()
    }

    pub fn set(&self, name: &str, state: ModelState) {
        if let Some(found) = self.lock().iter_mut().find(|model| model.name == name) {
            found.state = state;
        }
    }

    pub fn remove(&self, name: &str) {
        self.lock().retain(|model| model.name != name);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AwaitedModel>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One model that is to come, for whoever fetches it.
pub struct Arrival {
    name: String,
    arrivals: Arc<Arrivals>,
    inbox: Arc<Inbox>,
}

impl Arrival {
    pub(crate) fn new(
        name: String,
        aliases: Vec<String>,
        arrivals: Arc<Arrivals>,
        inbox: Arc<Inbox>,
    ) -> Self {
        let state = ModelState::Absent { share: 0.0 };
        arrivals.lock().push(AwaitedModel { name: name.clone(), aliases, state });
        Self { name, arrivals, inbox }
    }

    /// So much of it is here, 0 to 1.
    pub fn progress(&self, share: f32) {
        self.arrivals.set(&self.name, ModelState::Absent { share });
    }

    /// It could not be had, for now or for good.
    pub fn failed(&self, why: String) {
        self.arrivals.set(&self.name, ModelState::Failed(why));
    }

    /// Its files are here: it is opened on this thread, and soon served.
    ///
    /// # Errors
    /// [`HostError`] for files that cannot be opened; what does not fit the engine is logged by it and shown as the
    /// model's state.
    pub fn arrived(&self, source: &ModelSource) -> Result<(), HostError> {
        self.inbox.arrived(Opened::read(source)?);
        Ok(())
    }
}
