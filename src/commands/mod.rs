//! One file per subcommand.

pub mod bench;
pub mod config;
pub mod demo;
pub mod eval;
pub mod health;
pub mod models;
pub mod openapi;
pub mod scrape;
pub mod serve;
