//! Random schedules over the real scheduler and a fake device, everything from a seed. The engine's invariants and who
//! asserts them after every step; `check.rs` of quarry-core has what only the scheduler can see:
//!
//! ```text
//! device    every row reads exactly the KV that its tokens, model and salt demand: nothing before its swap is done, no
//!           wrong draft in the prefix cache, nothing from before a restart
//! plans     one step in flight, of one resident model, within its bounds, decodes first; one writer a block; pinned
//!           until the swap's end; one switch, between steps; a swap brings back what it took, in order
//! answers   each request once, with what it would have got alone; failed only for a reason; cancelled at once
//! queues    no more wait than may; a client's first request waits for one of each other client; none after shutdown
//! world     something always moves; at the end nothing is held on device and host
//! check.rs  slabs, blocks, references and host blocks are whose they are, exactly once, within their bounds
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod answers;
mod device;
mod happen;
mod model;
mod oracle;
mod plans;
mod queues;
mod rng;
mod runs;
mod seen;
mod workload;
mod world;

pub use runs::{Failure, Progress, run_seeds};
pub use seen::Seen;
pub use world::run;
