//! One file per subcommand.

pub mod config;
pub mod models;
pub mod openapi;
pub mod serve;
