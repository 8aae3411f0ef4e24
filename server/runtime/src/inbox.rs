//! The engine thread's mailbox: bounded submissions, and cancels that are never lost and never block.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quarry_core::ids::RequestId;

use crate::bind::Job;

/// What waits for the engine thread.
#[derive(Default)]
pub struct Mail {
    /// New work, at most [`Inbox::submissions_max`].
    pub submissions: Vec<Job>,
    /// Clients that went away; at most one per live request.
    pub cancels: Vec<RequestId>,
    /// Admit nothing more.
    pub drain: bool,
    /// End the thread now, cancelling what runs.
    pub stop: bool,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.submissions.is_empty() && self.cancels.is_empty() && !self.drain && !self.stop
    }
}

/// A mutex and a condition variable; every critical section is a few moves long.
pub struct Inbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
    submissions_max: usize,
}

impl Inbox {
    /// An empty mailbox.
    pub fn new(submissions_max: usize) -> Self {
        Self { mail: Mutex::default(), arrived: Condvar::new(), submissions_max }
    }

    /// Puts a job in, or gives it back when the bound is met. The flag in the mail is the caller's business.
    pub fn submit(&self, job: Job) -> Result<(), usize> {
        let mut mail = self.lock();
        if mail.submissions.len() >= self.submissions_max {
            return Err(mail.submissions.len());
        }
        mail.submissions.push(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// The client of `id` is gone.
    pub fn cancel(&self, id: RequestId) {
        self.lock().cancels.push(id);
        self.arrived.notify_one();
    }

    /// Admit nothing more.
    pub fn drain(&self) {
        self.lock().drain = true;
        self.arrived.notify_one();
    }

    /// End the thread.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.arrived.notify_one();
    }

    /// Takes all mail; waits up to `wait` for some when there is none.
    pub fn take(&self, wait: Option<Duration>) -> Mail {
        let mut mail = self.lock();
        if let Some(wait) = wait
            && mail.is_empty()
        {
            mail = self.arrived.wait_timeout(mail, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut mail)
    }

    /// A panic while the lock is held can only lose a notification; the data is whole after every statement.
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
