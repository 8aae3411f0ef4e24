//! What must survive: frontier and queue, attempts, jobs, observations, costs.
//!
//! One SQLite file in WAL mode. A page's result, its attempts, its jobs and the links it led to are written in one
//! transaction with its queue entry, so that a process killed at any instant has either done a page or not begun it.
//! Calls are short (a few rows), so async code calls them directly; the mutex is never held across an await.

mod costs;
mod identity;
mod jobs;
mod queue;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use crate::error::AgentError;

pub use costs::{BudgetExceeded, Reservation};
pub use identity::{canonical_url, identity_key};

pub use jobs::StoredJob;
pub(crate) use jobs::fill;
pub use queue::{Found, Lease, RunId, RunState};

/// The store of one data folder. Several processes may share it.
pub struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
}

/// Waiting for another process's write at most.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Opens or makes `quarry.sqlite` in `folder` and brings it to this program's version.
    pub fn open(folder: &Path) -> Result<Self, AgentError> {
        std::fs::create_dir_all(folder).map_err(AgentError::io(folder))?;
        let path = folder.join("quarry.sqlite");
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // In WAL mode NORMAL keeps the file whole after a crash; FULL also keeps the last commits through a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        schema::migrate(&mut connection, &path)?;
        Ok(Self { connection: Mutex::new(connection), path })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back; the connection is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
