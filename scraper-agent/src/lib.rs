//! Scraper agent: crawls career pages and job boards and extracts evidence-backed job postings.
//!
//! It reaches a model only over HTTP, as one more OpenAI client. `pipeline.rs` is the whole way of a page on one
//! screen; each stage is a pure function with its own type.
#![forbid(unsafe_code)]

pub mod posting;
