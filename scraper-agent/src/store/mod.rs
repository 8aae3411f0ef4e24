//! What must survive: frontier and queue, attempts, jobs, observations with the texts that prove them, costs.
//!
//! One SQLite file in WAL mode. A page's result, its attempts, its jobs and the links it led to are written in one
//! transaction with its queue entry, so that a process killed at any instant has either done a page or not begun it.
//! One thread talks to the file (`thread.rs`); the methods here are async and hand it commands.

mod costs;
mod evidence;
mod fill;
mod finish;
mod identity;
mod jobs;
mod json;
mod queue;
mod schema;
mod texts;
mod thread;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::config::StorageConfig;
use crate::error::AgentError;
use thread::StoreThread;

pub use costs::{BudgetExceeded, Reservation};
pub use evidence::Proof;
pub(crate) use fill::fill;
pub use finish::Finished;
pub use identity::{canonical_url, identity_key, url_key};
pub use jobs::{JobId, StoredJob};
pub use queue::{Found, Lease, RunId, RunState};

/// The store of one data folder. Several processes may share it.
pub struct Store {
    thread: StoreThread,
    evidence_bytes_max: u64,
}

/// Waiting for another process's write at most.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Opens or makes `quarry.sqlite` in the data folder and brings it to this program's version.
    ///
    /// # Errors
    /// A folder or file that cannot be used, a file of a newer program.
    pub async fn open(config: &StorageConfig) -> Result<Self, AgentError> {
        let folder = config.data_dir.clone();
        let thread = StoreThread::start(move || open_file(&folder)).await?;
        Ok(Self { thread, evidence_bytes_max: config.evidence_bytes_max })
    }

    /// A store that ends with this value, for runs of which nothing shall remain.
    ///
    /// # Errors
    /// No memory, no thread.
    pub async fn in_memory() -> Result<Self, AgentError> {
        let open = || {
            let mut connection = Connection::open_in_memory()?;
            prepare(&mut connection)?;
            schema::migrate(&mut connection, Path::new(":memory:"))?;
            Ok(connection)
        };
        // Its texts die with it.
        Ok(Self { thread: StoreThread::start(open).await?, evidence_bytes_max: 0 })
    }

    /// Finishes what was handed over and closes the file; later calls fail with [`AgentError::StoreClosed`].
    pub async fn close(&self) {
        self.thread.close().await;
    }
}

fn open_file(folder: &Path) -> Result<Connection, AgentError> {
    std::fs::create_dir_all(folder).map_err(AgentError::io(folder))?;
    let path: PathBuf = folder.join("quarry.sqlite");
    let mut connection = Connection::open(&path)?;
    prepare(&mut connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode NORMAL keeps the file whole after a crash; FULL also keeps the last commits through a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    schema::migrate_shared(&mut connection, &path)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection) -> Result<(), AgentError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    // A transaction that reads first and writes then would fail where another process wrote in between.
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    Ok(())
}
