//! What can stop the agent, or one page. A page's error never stops the run.

use std::path::PathBuf;

/// An error of the agent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AgentError {
    /// A setting makes no sense.
    #[error("{key} {why}")]
    Config { key: String, why: String },
    /// A seed is neither a readable path nor an http(s) address.
    #[error("{seed}: {why}")]
    Seed { seed: String, why: String },
    /// A file or folder cannot be read or made.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The database.
    #[error("database: {0}")]
    Store(#[from] rusqlite::Error),
    /// The database was written by a newer program.
    #[error("the database {} has version {found}, this program knows {known}: use the newer program, or another storage.data_dir", path.display())]
    StoreVersion { path: PathBuf, found: u32, known: u32 },
    /// The tables cannot be brought to this program's version.
    #[error("database: its tables cannot be brought up to date, and are as they were: {0}")]
    Migration(#[from] rusqlite_migration::Error),
    /// The store was closed.
    #[error("the database is closed already")]
    StoreClosed,
    /// The page cache.
    #[error("page cache: {0}")]
    Cache(#[from] sled::Error),
    /// A stored row cannot be read back.
    #[error("stored {what} cannot be read: {source}")]
    Stored { what: &'static str, source: serde_json::Error },
    /// The client of a model's server.
    #[error("model server: {0}")]
    Client(#[from] quarry_client::ClientError),
    /// The connection cannot be set up.
    #[error("fetching cannot be set up: {0}")]
    Http(String),
    /// The server has no model to ask.
    #[error("{server} lists no model")]
    NoModel { server: String },
    /// The local model's server answers nothing.
    #[error(
        "the local model's server failed {failures} pages in a row; the last time: {why}. Start or mend it and run the \
         same command again: it goes on with the pages that are left"
    )]
    LocalServer { failures: u32, why: String },
    /// The measuring corpus.
    #[error("{}: {why}", path.display())]
    Corpus { path: PathBuf, why: String },
    /// Something on a thread of its own failed.
    #[error("a worker stopped: {0}")]
    Worker(String),
}

impl AgentError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
