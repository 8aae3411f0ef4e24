//! Pure engine: what runs next, where its KV lives, and which token is drawn.
//!
//! Why pure: the scheduler knows no time but the [`ids::Tick`] it is handed, owns no thread, does no I/O,
//! logs nothing and cannot fail, so that thousands of schedules can be simulated from a seed and checked
//! after every step.
//!
//! How: the runtime feeds [`plan::Event`]s to [`scheduler::Scheduler::step`], which fills a
//! [`plan::StepPlan`]; the executor carries it out; a [`plan::StepOutcome`] comes back as an event.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admit;
pub mod block_pool;
mod check;
mod events;
mod fairness;
pub mod ids;
pub mod limits;
mod memory;
pub mod plan;
mod prefill;
pub mod prefix;
pub mod request;
pub mod sampler;
mod save;
pub mod scheduler;
pub mod sequence;
pub mod swap;
mod switch;
pub mod verdict;
