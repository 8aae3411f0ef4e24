//! One log format for both programs: on stderr, pretty or JSON, the same field names.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LoggingConfig};

/// Starts logging for the process. Commands that print results beside their logs stay at warnings unless the
/// configuration says a level.
///
/// # Errors
/// A level that is none.
pub fn start(config: &LoggingConfig, is_server: bool) -> anyhow::Result<()> {
    // The HTML parser warns of what it leaves to browsers, on ordinary pages.
    let level = config.level.as_deref().unwrap_or(if is_server { "info" } else { "warn,html5ever=error" });
    let filter = EnvFilter::try_new(level)
        .with_context(|| format!("logging.level {level:?} is neither a level nor a filter"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let started = match config.format {
        LogFormat::Pretty => builder.compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))
}
