//! Engine loop, models' lives and swapper: the only place below HTTP with threads and clocks.
//!
//! [`Engine`] is the handle that the edge holds: it turns a [`Generate`] into a [`Generation`], an async stream of
//! text. Behind it one thread per device feeds events to the pure scheduler, carries out its plans on an executor,
//! binds constraints and detokenizers to what was drawn, and is supervised: a panic answers what was in flight,
//! reloads, and after repeated failures gives up so that the process can end with a non-zero status.
#![forbid(unsafe_code)]

mod ahead;
mod arrivals;
mod bind;
mod budget;
pub mod devices;
mod drafts;
mod engine;
mod engine_loop;
mod execute;
mod generate;
mod inbox;
mod observe;
mod opening;
mod options;
mod queue;
mod registry;

pub use arrivals::{Arrival, AwaitedModel};
pub use budget::{Budget, WeightBytes, kv_slabs};
pub use engine::Engine;
pub use generate::{FinishReason, Generate, GenerateError, Generation, GenerationEvent, SubmitError, Usage};
pub use observe::{
    DraftStats, ModelSnapshot, ModelState, NoObserver, Observer, RequestStats, Snapshot, StepStats,
    SwitchStats,
};
pub use opening::{HostError, ServedModel};
pub use options::{EngineOptions, ModelSource, Yarn};
/// The engine's pure types that requests are made of.
pub use quarry_core::{ids, limits, request};
/// What devices tell of themselves.
pub use quarry_model::backend::DeviceFigures;
/// What models speak.
pub use quarry_text as text;
pub use queue::Reservation;
