//! What a person types after `quarry bench`, and after `quarry eval perplexity`, which runs a back end as well.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use quarry_cpu::isa::Isa;
use quarry_formats::quant::TensorType;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Cleaning pages to text on one core: pages/s, and how much of a labelled folder's truth is still in the text.
    #[command(after_help = "Example: quarry bench clean corpus/ --beside trafilatura=texts.jsonl")]
    Clean(BenchCleanArgs),
    /// Seconds a page: one request a page under a JSON schema, greedy; several servers take turns.
    Extract(BenchExtractArgs),
    /// Tokens a second of a model in this process: prefill, decode, at depth, several streams together.
    #[command(after_help = "Example: quarry bench model --model FILE.gguf --prompt 512 --depth 0,4096")]
    Model(BenchModelArgs),
    /// A CUDA device: decode, prefill, switches and swaps as shares of what it does at most; JSON and pictures.
    #[command(after_help = "Example: quarry bench gpu qwen3-4b-random qwen3-8b-random --out record")]
    Gpu(BenchGpuArgs),
    /// Kernels of the CPU: products, attention and the rest as shares of what the machine can do at most.
    #[command(after_help = "Example: quarry bench kernels --isa all --formats Q4_0,Q4_K --rows 1,512")]
    Kernels(BenchKernelsArgs),
    /// Load on OpenAI-compatible servers, streaming: first token, pauses between tokens, the end.
    #[command(after_help = "Example: quarry bench serve --url http://127.0.0.1:8000 --clients 8")]
    Serve(BenchServeArgs),
    /// Seeded schedules of the engine with faults, restarts and switches; no model is needed.
    #[command(after_help = "Example: quarry bench simulation --seeds 50000")]
    Simulation(BenchSimulationArgs),
    /// Write a model of a real one's shapes with random weights: for speed only.
    #[command(after_help = "Example: quarry bench make-model --shape qwen3-4b qwen3-4b-random.gguf")]
    MakeModel(BenchMakeModelArgs),
}

/// The back end that runs in this process.
#[derive(Args, Clone, Copy)]
pub struct BackendArgs {
    /// Threads; server.threads of the configuration otherwise.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Force an instruction set, such as avx2; the best there is otherwise.
    #[arg(long, value_name = "NAME", value_parser = isa)]
    pub isa: Option<Isa>,
}

fn isa(name: &str) -> Result<Isa, String> {
    let known = || Isa::ALL.map(Isa::name).join(", ");
    let found = Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("there are {}", known()))
}

#[derive(Args)]
pub struct BenchCleanArgs {
    /// The folder with index.tsv, truth.jsonl and html/, as `quarry eval` takes it.
    pub corpus: PathBuf,
    /// Times that all pages are cleaned; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub repeats: usize,
    /// The same pages as others cleaned them: a line {"file", "text"} a page, and one {"seconds"} a repeat.
    #[arg(long, value_name = "NAME=FILE", value_parser = named_file)]
    pub beside: Vec<(String, PathBuf)>,
    /// Write every figure here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("NAME=FILE is meant")?;
    Ok((name.to_owned(), file.into()))
}

#[derive(Args)]
pub struct BenchExtractArgs {
    /// The folder with job.json (system, schema, max_tokens) and messages.jsonl (file, user).
    pub job: PathBuf,
    /// A server; ratios are of the first. Without one our own is started.
    #[arg(long = "url", value_name = "URL")]
    pub urls: Vec<String>,
    /// The model of the server that is started.
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "urls")]
    pub model: Option<String>,
    /// Pages asked for at a time.
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
    /// Only the first so many pages.
    #[arg(long)]
    pub pages: Option<usize>,
    /// Write every answer and figure here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct BenchModelArgs {
    /// A known model's name, or the path of a GGUF file; models.primary of the configuration otherwise.
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// Lengths of prompts to read; 0 for none.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "512,2048")]
    pub prompt: Vec<usize>,
    /// Steps to decode; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub generate: usize,
    /// Tokens in the cache before each test.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0,4096")]
    pub depth: Vec<usize>,
    /// Sequences that decode together.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8")]
    pub streams: Vec<usize>,
    /// Tokens of a prefill step at most.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub batch: usize,
    /// Timed runs of each test.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub repeats: usize,
    #[command(flatten)]
    pub backend: BackendArgs,
    /// Write every figure here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A part of `bench gpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GpuPart {
    /// Steps of one token for some sequences behind some context.
    Decode,
    /// Prompts.
    Prefill,
    /// From one model's warm weights to the other's first token.
    Switch,
    /// KV blocks to the host pool and back.
    Swap,
}

#[derive(Args)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "read where the back end is built in"))]
pub struct BenchGpuArgs {
    /// Files or folders of models.
    #[arg(value_name = "NAME|FILE", required = true)]
    pub models: Vec<String>,
    /// Only these parts; all of them otherwise.
    #[arg(long, value_name = "PART,…", value_delimiter = ',')]
    pub parts: Vec<GpuPart>,
    /// Sequences that decode together.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    pub batches: Vec<usize>,
    /// Tokens in the cache before a decode.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0,1024,4096,8192")]
    pub contexts: Vec<usize>,
    /// Lengths of prompts.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "128,512,2048")]
    pub prompts: Vec<usize>,
    /// Steps of a decode test.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub steps: usize,
    /// Timed runs of each test.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub repeats: usize,
    /// MiB that are copied to find what the device does at most.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub probe_mib: usize,
    /// The folder for gpu.json and the pictures.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct BenchSimulationArgs {
    /// How many seeds; the first that fails ends the run.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub first: u64,
    /// Seeds at a time; one for each processor otherwise.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Write every count here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct BenchKernelsArgs {
    /// An instruction set, such as avx2, or all of this machine but portable; the best there is otherwise.
    #[arg(long, value_name = "NAME|all", value_parser = isas)]
    pub isa: Option<Isas>,
    /// Weight formats.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        value_parser = format,
        default_value = "Q4_0,Q4_1,Q5_0,Q5_1,Q8_0,Q4_K,Q5_K,Q6_K"
    )]
    pub formats: Vec<TensorType>,
    /// Output rows and input columns of matrices.
    #[arg(
        long,
        value_name = "RxC,…",
        value_delimiter = ',',
        value_parser = shape,
        default_value = "896x896,4864x896,896x4864"
    )]
    pub shapes: Vec<(usize, usize)>,
    /// Rows of activations of a product.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8,512")]
    pub rows: Vec<usize>,
    /// Keys before the queries of attention.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0,512,4096")]
    pub depth: Vec<usize>,
    /// Threads; server.threads of the configuration otherwise.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Timed passes of each figure.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub repeats: usize,
    /// Megabytes of weights or keys taken in turns: several times what the caches hold.
    #[arg(long, value_name = "MB", default_value_t = 128)]
    pub cold: usize,
    /// Write every figure here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// One instruction set, or all.
#[derive(Clone, Copy)]
pub enum Isas {
    /// All of this machine but the portable one.
    All,
    /// This one.
    One(Isa),
}

fn isas(name: &str) -> Result<Isas, String> {
    if name.eq_ignore_ascii_case("all") { Ok(Isas::All) } else { isa(name).map(Isas::One) }
}

fn format(name: &str) -> Result<TensorType, String> {
    let known = || TensorType::ALL.map(TensorType::name).join(", ");
    let found = TensorType::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("there are {}", known()))
}

fn shape(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once(['x', 'X']).and_then(|(r, c)| Some((r.parse().ok()?, c.parse().ok()?)));
    sides.ok_or_else(|| "rows x columns, such as 896x4864".to_owned())
}

#[derive(Args)]
pub struct BenchServeArgs {
    /// A server; several take turns. Without one our own is started.
    #[arg(long = "url", value_name = "URL")]
    pub urls: Vec<String>,
    /// The model of the server that is started.
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "urls")]
    pub model: Option<String>,
    /// Requests at any time; the next begins when one ends.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub clients: usize,
    /// Requests to each server.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub requests: usize,
    /// Tokens of a prompt, about; the table has the server's own count.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub prompt_tokens: usize,
    /// Tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub output_tokens: u32,
    /// Arrivals a second at random times, instead of clients that wait.
    #[arg(long, value_name = "N", conflicts_with = "clients")]
    pub rate: Option<f64>,
    /// Turns that several servers take.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub turns: usize,
    /// Of words and arrivals.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Do not send ignore_eos, which not every server takes: answers may end early.
    #[arg(long)]
    pub may_stop: bool,
    /// Write every figure here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
pub struct BenchMakeModelArgs {
    /// qwen3-0.6b, qwen3-4b or qwen3-8b.
    #[arg(long, value_name = "NAME")]
    pub shape: String,
    /// q4_k_m, or one format for all matrices (q8_0, q4_0, …): a GGUF file. awq: a hub folder.
    #[arg(long, value_name = "NAME", default_value = "q4_k_m")]
    pub quant: String,
    /// Take tokenizer and vocabulary of this model; models.primary of the configuration otherwise. awq takes none.
    #[arg(long, value_name = "NAME|FILE")]
    pub tokenizer: Option<String>,
    /// Fewer layers than the shape has, for a smaller file.
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,
    /// The file or folder to write.
    #[arg(value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct PerplexityArgs {
    /// A known model's name, or the path of a GGUF file.
    #[arg(value_name = "NAME|FILE")]
    pub model: String,
    /// The text; a short one that the binary carries otherwise.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Tokens of the text at most.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub tokens: usize,
    /// Tokens of a window.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub context: usize,
    #[command(flatten)]
    pub backend: BackendArgs,
    /// Write every figure here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
