//! `quarry`: the inference server and the scraper agent in one binary.
//!
//! One file per subcommand in `commands/`; the environment is read here and nowhere else.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod config;
mod descriptors;
mod fetching;
mod fit;
mod host;
mod inference;
mod logging;
mod progress;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::config::Environment;

/// What threads that are left have to end when a command is done.
const END_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quarry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let environment = Environment::read();
    if let Command::Config(command) = &cli.command {
        return commands::config::run(command, cli.config.as_deref(), &environment);
    }
    let config = config::load(cli.config.as_deref(), &environment)?;
    if let Command::Health(args) = &cli.command {
        return commands::health::run(args, &config.server);
    }
    let is_server = matches!(cli.command, Command::Serve(_));
    logging::start(&config.logging, is_server)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = match cli.command {
        Command::Serve(command) => runtime.block_on(commands::serve::run(command, config, &environment)),
        Command::Scrape(command) => runtime.block_on(commands::scrape::run(command, config, &environment)),
        Command::Demo(command) => runtime.block_on(commands::demo::run(command, config, &environment)),
        Command::Eval(command) => runtime.block_on(commands::eval::run(command, config, &environment)),
        Command::Bench(command) => runtime.block_on(commands::bench::run(command, config, &environment)),
        Command::Models(command) => commands::models::run(command, &config, &environment),
        Command::Openapi => commands::openapi::run(),
        Command::Config(_) | Command::Health(_) => Ok(ExitCode::SUCCESS), // answered above
    };
    // A prompt of megabytes that nobody waits for any more must not keep the process.
    runtime.shutdown_timeout(END_MAX);
    ended
}
