//! Native CPU back end: our own forward pass over packed weights.
//!
//! Weights are packed once into one form that serves prefill and decode alike ([`packed`]); activations are
//! quantized to int8 per 32; every matrix product has one accumulation tree over K, whatever the batch, so the
//! same row gives the same bits alone, batched or chunked. The instruction set is chosen once per model load
//! ([`isa`]), and each kernel has a portable twin as its oracle.

pub mod backend;
mod executor;
mod forward;
pub mod isa;
#[cfg(test)]
mod kernel_tests;
pub mod kernels;
mod kv;
pub mod packed;
pub mod quantize;
pub mod threads;
mod weights;

pub use backend::{CpuBackend, CpuOptions};
