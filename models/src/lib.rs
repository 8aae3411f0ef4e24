//! Model registry: which models are known, where their files come from, which are here.
//!
//! [`Registry`] joins the embedded manifests (`manifests/*.toml`) with a cache folder. A pull takes the sources of a
//! manifest in order, resumes what an earlier try left, checks every sum, and puts the file in place by rename,
//! under a lock that holds across processes; a source that fails gives its reason and the next one is tried.
//! Everything is synchronous: call it outside async code, or in `spawn_blocking`.
//!
//! ```text
//! CACHE/models/NAME.gguf             whole and checked
//! CACHE/models/NAME/                 the same for a model that is a folder (`folder.rs` draws it)
//! CACHE/models/NAME.sha256           what the hub said, where the manifest has no sum
//! CACHE/models/NAME.pip.partial      what a pull has so far, one file per kind of source
//! CACHE/models/NAME.downloads/       the package being fetched; goes with each part
//! CACHE/models/NAME.lock             held while pulling or removing; stays, empty
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod assemble;
mod cache;
mod error;
mod folder;
mod hub;
mod manifest;
mod pip;
mod pull;
mod registry;
pub mod testing;

pub use cache::cache_dir_from;
pub use error::{ModelsError, SourceError};
pub use hub::{HUB_DEFAULT, HubClient};
pub use manifest::{Decoder, Format, Manifest, Part, Source};
pub use pip::{PartFetcher, Pip};
pub use pull::{Fetchers, Progress, Pulled, Skipped};
pub use registry::{Against, Listing, Registry, State, Verified};

/// The model of `quarry demo`, and the default of `quarry serve`.
pub const DEFAULT_MODEL: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m";
