//! Scraper agent: crawls career pages and job boards and extracts evidence-backed job postings.
//!
//! It reaches a model only over HTTP, as one more OpenAI client. `pipeline.rs` is the whole way of a page on one
//! screen; each stage is a pure function with its own type.
#![forbid(unsafe_code)]

pub mod agent;
pub mod ats;
pub mod attempt;
pub mod chat;
pub mod clean;
pub mod config;
pub mod document;
pub mod error;
pub mod eval;
pub mod extract;
pub mod extracted;
pub mod facts;
pub mod fetch;
pub mod frontier;
pub mod gate;
pub mod job_title;
pub mod listing;
pub mod nesting;
pub mod normalize;
pub mod output;
pub mod page;
pub mod pipeline;
pub mod posting;
pub mod reading;
pub mod route;
mod run;
pub mod sample_site;
pub mod seed;
pub mod site;
pub mod standing;
pub mod store;
pub mod structured;
pub mod tokens;
pub mod words;
