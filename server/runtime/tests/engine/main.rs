//! The engine over the CPU back end: faults, a KV cache that is too small, models that come and go.

mod faults;
mod models;
mod support;
