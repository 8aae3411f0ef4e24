//! The engine thread's mailbox. Submissions are bounded by the queue's room ([`crate::queue`]), cancels by the live
//! requests; none is lost and none blocks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quarry_core::ids::{ModelId, RequestId};
use quarry_model::backend::WarmModel;

use crate::bind::Job;
use crate::opening::Opened;

/// What waits for the engine thread.
#[derive(Default)]
pub struct Mail {
    /// New work.
    pub submissions: Vec<Job>,
    /// Clients that went away; at most one per live request.
    pub cancels: Vec<RequestId>,
    /// Models that somebody wants loaded or unloaded; a model is in here once.
    pub wishes: BTreeMap<ModelId, Wish>,
    /// Weights that loader threads have read, or why not; at most one per model.
    pub loaded: Vec<(ModelId, Result<WarmModel, String>)>,
    /// Models whose files have come; each comes once.
    pub arrived: Vec<Opened>,
    /// Admit nothing more.
    pub drain: bool,
    /// End the thread now, cancelling what runs.
    pub stop: bool,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.submissions.is_empty()
            && self.cancels.is_empty()
            && self.wishes.is_empty()
            && self.loaded.is_empty()
            && self.arrived.is_empty()
            && !self.drain
            && !self.stop
    }
}

/// What somebody wants of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Its weights on the device.
    Load,
    /// Its weights out of memory once its requests are answered.
    Unload,
}

/// Nobody will look into the mailbox any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

#[derive(Default)]
struct Slot {
    mail: Mail,
    closed: bool,
}

/// A mutex and a condition variable; every critical section is a few moves long.
#[derive(Default)]
pub struct Inbox {
    slot: Mutex<Slot>,
    arrived: Condvar,
    /// For whoever cannot look into the mail now: `stop` is in it.
    is_stopping: AtomicBool,
}

impl Inbox {
    /// Puts a job in, unless nobody will take it out.
    pub fn submit(&self, job: Job) -> Result<(), Closed> {
        let mut slot = self.lock();
        if slot.closed {
            return Err(Closed);
        }
        slot.mail.submissions.push(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// The client of `id` is gone.
    pub fn cancel(&self, id: RequestId) {
        self.lock().mail.cancels.push(id);
        self.arrived.notify_one();
    }

    /// Somebody wants a model loaded or unloaded; the last wish counts.
    pub fn wish(&self, model: ModelId, wish: Wish) {
        self.lock().mail.wishes.insert(model, wish);
        self.arrived.notify_one();
    }

    /// A loader thread is done.
    pub fn loaded(&self, model: ModelId, result: Result<WarmModel, String>) {
        self.lock().mail.loaded.push((model, result));
        self.arrived.notify_one();
    }

    /// A model's files have come.
    pub fn arrived(&self, opened: Opened) {
        self.lock().mail.arrived.push(opened);
        self.arrived.notify_one();
    }

    /// Admit nothing more.
    pub fn drain(&self) {
        self.lock().mail.drain = true;
        self.arrived.notify_one();
    }

    /// End the thread.
    pub fn stop(&self) {
        self.lock().mail.stop = true;
        self.is_stopping.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Whether the thread shall end now.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Whether no mail waits.
    pub fn is_empty(&self) -> bool {
        self.lock().mail.is_empty()
    }

    /// Takes all mail; waits up to `wait` for some when there is none.
    pub fn take(&self, wait: Option<Duration>) -> Mail {
        let mut slot = self.lock();
        if let Some(wait) = wait
            && slot.mail.is_empty()
        {
            slot = self.arrived.wait_timeout(slot, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut slot.mail)
    }

    /// Takes the last mail; from now on nothing is accepted.
    pub fn close(&self) -> Mail {
        let mut slot = self.lock();
        slot.closed = true;
        std::mem::take(&mut slot.mail)
    }

    /// A panic while the lock is held can only lose a notification; the data is whole after every statement.
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
