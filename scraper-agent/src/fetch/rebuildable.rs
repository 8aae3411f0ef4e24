//! The sled database of what can be fetched again: pages and what is known of hosts.
//!
//! One process at a time has it; another runs without. Its calls wait for the disk, so async code reaches them through
//! [`blocking`].

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::AgentError;

/// How often and how long to wait for the folder's lock before it is given up.
const LOCK_TRIES: u32 = 10;
const LOCK_WAIT: Duration = Duration::from_millis(50);
/// Bytes that sled keeps in memory: well below its default of 1 GiB, for the bodies are large and each is read once.
const MEMORY_BYTES: u64 = 16 << 20;

/// Opens or makes the database. Waits for a moment where another holds it.
///
/// # Errors
/// The folder cannot be used, or another process has it.
pub fn open(folder: &Path) -> Result<sled::Db, AgentError> {
    let config = sled::Config::new().path(folder).cache_capacity(MEMORY_BYTES);
    let mut tries = 0;
    loop {
        match config.open() {
            // The lock of a database that was just closed is let go by a thread of its own.
            Err(sled::Error::Io(_)) if tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(LOCK_WAIT);
            }
            opened => return Ok(opened?),
        }
    }
}

/// Runs what waits for the disk beside the async threads; `None` where it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(|error| tracing::error!(%error, "a worker of the page cache failed")).ok()
}

/// Bytes of the head's length before the head.
const LENGTH: usize = 4;

/// A head as JSON and a body, in one value.
pub fn join(head: &impl Serialize, body: &[u8]) -> Result<Vec<u8>, AgentError> {
    let head =
        serde_json::to_vec(head).map_err(|source| AgentError::Stored { what: "cached entry", source })?;
    let mut value = (head.len() as u32).to_be_bytes().to_vec();
    value.extend_from_slice(&head);
    value.extend_from_slice(body);
    Ok(value)
}

/// Head and body again; `None` where they cannot be read.
pub fn split<H: DeserializeOwned>(value: &[u8]) -> Option<(H, &[u8])> {
    let (length, rest) = value.split_at_checked(LENGTH)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    let (head, body) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(head).ok()?, body))
}
