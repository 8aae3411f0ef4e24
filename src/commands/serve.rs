//! `quarry serve`

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::cli::ServeArgs;
use crate::config::{Config, Environment};
use crate::inference;

/// Serves until a signal; a non-zero status where the engine gave up.
pub async fn run(args: ServeArgs, config: Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let host = args.host.unwrap_or(config.server.host);
    let address = SocketAddr::new(host, args.port.unwrap_or(config.server.port));
    let server = inference::start(args.model.as_deref(), address, &config, environment).await?;
    server.until_signal().await?;
    Ok(ExitCode::SUCCESS)
}
