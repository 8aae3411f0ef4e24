//! Native CPU back end: our own forward pass over packed weights.
//!
//! Weights are packed once into one form that serves prefill and decode alike ([`packing`]); activations are
//! quantized to int8 ([`activations`]); every matrix product has one accumulation tree over K, whatever the batch,
//! so the same row gives the same bits alone, batched or chunked. The instruction set is chosen once per model load
//! ([`isa`]); what sets agree on is written once ([`kernels`]), each set has a folder for the rest, and each kernel
//! has a naive twin as its oracle.

pub mod activations;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "x86_64")]
pub mod avx_vnni;
pub mod backend;
mod executor;
mod forward;
pub mod isa;
#[cfg(test)]
mod kernel_tests;
pub mod kernels;
mod kv;
pub mod limits;
pub mod packing;
pub mod portable;
mod quota;
mod swap;
pub mod threads;
pub mod topology;
mod weights;

pub use backend::{CpuBackend, CpuOptions};
