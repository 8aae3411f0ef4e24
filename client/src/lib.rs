//! Typed async client for any OpenAI-compatible endpoint.
//!
//! Why our own: the agent needs bounded bodies, typed errors with the attempts made, retries that honour what the
//! server says, and the endpoints beside OpenAI's (`render`, `tokenize`, `ready`), against our server and others.
//! How: [`Client`] sends, [`retry`] decides whether and when to try again (pure), [`sse`] cuts a byte stream into
//! events (pure), [`ChatStream`] turns events into chunks.
#![forbid(unsafe_code)]

mod body;
mod call;
mod error;
mod options;
pub mod retry;
pub mod sse;
mod stream;

pub use call::Client;
pub use error::ClientError;
pub use options::ClientOptions;
pub use stream::ChatStream;

/// The wire types that requests and answers are made of.
pub use quarry_openapi as wire;
