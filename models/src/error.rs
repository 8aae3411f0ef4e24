//! What can go wrong, with what a user needs to mend it.

use std::io;
use std::path::{Path, PathBuf};

use crate::pull::Skipped;

/// Why an order to the registry was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// No manifest has this name.
    #[error("no model is called {name:?}; known: {}", .known.join(", "))]
    Unknown {
        /// As asked for.
        name: String,
        /// All names.
        known: Vec<String>,
    },
    /// A model is known, but not in the quantization that was asked for.
    #[error("{name} is not known in {quantization:?}; known: {}", .known.join(", "))]
    Quantization {
        /// Which model.
        name: String,
        /// As asked for.
        quantization: String,
        /// Its quantizations.
        known: Vec<String>,
    },
    /// The model is known but not in the cache.
    #[error("{name} is not here ({}); `quarry models pull {name}` gets it", .path.display())]
    Absent {
        /// Which model.
        name: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// Every source failed.
    #[error("no source gave {name}:{}", list(.tried))]
    NoSource {
        /// Which model.
        name: String,
        /// Each source with its reason, in order.
        tried: Vec<Skipped>,
    },
    /// The file in the cache is not what the manifest says.
    #[error("{}: {source}; `quarry models rm {name}`, then pull it again", .path.display())]
    Damaged {
        /// Which model.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: SourceError,
    },
    /// The cache folder cannot be used.
    #[error("cannot {what} {}: {source}", .path.display())]
    Cache {
        /// Verb.
        what: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// Why one source did not give the file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// `python3` could not be started.
    #[error("python3 cannot be started ({source}); install Python 3 with pip, or give a local file")]
    PythonMissing {
        /// The operating system's reason.
        source: io::Error,
    },
    /// Python has no pip.
    #[error("python3 has no pip; install it (for example the package python3-pip)")]
    PipMissing,
    /// pip ended with a failure.
    #[error("pip could not download {package}: {message}")]
    Pip {
        /// `NAME==VERSION`.
        package: String,
        /// The end of what it printed.
        message: String,
    },
    /// pip took longer than allowed and was ended.
    #[error("pip took over {seconds} s for {package}")]
    PipTimeout {
        /// `NAME==VERSION`.
        package: String,
        /// The bound.
        seconds: u64,
    },
    /// The package does not hold the expected file.
    #[error("{package}: {message}")]
    Package {
        /// File name of the wheel.
        package: String,
        /// What is wrong with it.
        message: String,
    },
    /// The hub did not answer as it should.
    #[error("{url}: {message}")]
    Hub {
        /// What was asked for.
        url: String,
        /// Connection error, or the status.
        message: String,
    },
    /// A sum differs.
    #[error("{what}: sha256 is {found}, should be {expected}")]
    Checksum {
        /// File or part.
        what: String,
        /// As computed.
        found: String,
        /// As in the manifest.
        expected: String,
    },
    /// A length differs.
    #[error("{what}: {found} bytes, should be {expected}")]
    Size {
        /// File or part.
        what: String,
        /// Bytes there.
        found: u64,
        /// Bytes in the manifest.
        expected: u64,
    },
    /// A source of one file for a model that is a folder, or the other way round.
    #[error(
        "{name} is a folder of several files; name a folder of your own in models.primary.name instead of pulling it"
    )]
    Format {
        /// Which model.
        name: String,
    },
    /// The file does not begin as a GGUF file does.
    #[error("{what} is not a GGUF file")]
    NotGguf {
        /// Which file.
        what: String,
    },
    /// No space is left.
    #[error("the disk is full: {} needs {needed} bytes in all", .path.display())]
    DiskFull {
        /// Where it was writing.
        path: PathBuf,
        /// Bytes of the whole model, 0 where not known.
        needed: u64,
    },
    /// Reading or writing failed otherwise.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// Verb.
        what: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl SourceError {
    /// For `map_err`: names the verb and the path, and tells a full disk apart.
    pub(crate) fn io<'a>(what: &'static str, path: &'a Path, needed: u64) -> impl Fn(io::Error) -> Self + 'a {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                SourceError::DiskFull { path: path.to_owned(), needed }
            }
            _ => SourceError::Io { what, path: path.to_owned(), source },
        }
    }
}

impl ModelsError {
    /// For `map_err`.
    pub(crate) fn cache<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| ModelsError::Cache { what, path: path.to_owned(), source }
    }
}

fn list(tried: &[Skipped]) -> String {
    tried.iter().map(|s| format!("\n  {}: {}", s.source, s.reason)).collect()
}
