//! A decoder described by data, and the seams between the engine and a device.
//!
//! [`spec::DecoderSpec`] serves all families; `families/` maps each architecture's file metadata to it.
//! [`executor::Executor`] is one active model on one device and owns its whole forward pass;
//! [`backend::Backend`] brings models up and down. KV memory ([`kv::KvArena`], [`kv::HostPool`]) outlives executors; which
//! block is whose only the scheduler knows.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod backend;
pub mod checks;
pub mod copier;
pub mod executor;
pub mod families;
pub mod kv;
pub mod rope;
pub mod spec;
pub mod weights;

/// The engine's ids and the shared sampler, so that back ends depend on this crate alone.
pub use quarry_core::{ids, limits, plan, request, sampler};
