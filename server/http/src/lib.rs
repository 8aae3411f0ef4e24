//! The OpenAI-compatible HTTP edge: the only layer of the server that knows JSON and status codes.
//!
//! A request's way: [`extract`] reads a bounded body into a wire type and answers mistakes in OpenAI's shape;
//! [`convert`] resolves every default and refuses by name what is not served; [`prompt`] renders and tokenizes off
//! the async threads; the engine's handle runs it; [`routes`] and [`sse`] render what comes back. A client that goes
//! away drops its generation, which cancels it.
#![forbid(unsafe_code)]

mod convert;
mod error;
mod extract;
mod limits;
mod listener;
mod metrics;
mod observe;
mod prompt;
mod reasoning;
mod refuse;
mod routes;
mod serve;
mod sse;
mod state;

pub use limits::{CONNECTIONS_MAX_DEFAULT, LimitError, Limits};
pub use listener::bind;
pub use metrics::Metrics;
pub use routes::router;
pub use serve::{ServeError, serve};
pub use state::AppState;
