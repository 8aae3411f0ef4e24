//! `quarry serve`

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::cli::ServeArgs;
use crate::config::{Config, Environment};
use crate::host::{Host, resolve_models};

/// Serves until a signal; a non-zero status where the engine gave up.
pub async fn run(args: ServeArgs, config: Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let host = args.host.unwrap_or(config.server.host);
    let address = SocketAddr::new(host, args.port.unwrap_or(config.server.port));
    // Models first: a pull may take minutes, and a name that does not exist should fail before a port is taken.
    let models = tokio::task::block_in_place(|| resolve_models(args.model.as_deref(), &config, environment))?;
    let server = Host::bind(&config, address).await?;
    server.load(&config, models).await?;
    tracing::info!(address = %server.address, "listening");
    server.until_signal().await?;
    Ok(ExitCode::SUCCESS)
}
