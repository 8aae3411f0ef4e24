//! Benchmarks: the server and rivals through the same client, models and logits in process.
//!
//! Every endpoint gets the same requests in the same run, turn by turn, so that figures can be compared as ratios
//! whatever else the machine does. [`extract`] and [`serve`] ask servers; [`model`] and [`perplexity`] drive an
//! executor; [`kernels`] drives the CPU's kernels alone; [`make_model`] and [`make_hub`] make models of real shapes;
//! [`clean`] cleans saved pages; [`simulation`] runs seeds of the engine without a model.
#![forbid(unsafe_code)]

#[cfg(any(feature = "cuda", test))]
mod chart;
pub mod clean;
pub mod extract;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod kernels;
pub mod make_hub;
pub mod make_model;
pub mod model;
pub mod perplexity;
mod random;
mod rig;
pub mod serve;
pub mod simulation;
mod spread;

pub use spread::{Percentiles, Spread};
