//! Benchmarks of the server and of rivals through the same client.
//!
//! Every endpoint gets the same requests in the same run, turn by turn, so that figures can be compared as ratios
//! whatever else the machine does.
#![forbid(unsafe_code)]

pub mod extract;
