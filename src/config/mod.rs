//! The one configuration file, `quarry.yaml`, with overrides from the environment.
//!
//! Each subsystem owns its struct; this joins them. A variable `QUARRY__SERVER__PORT=9000` sets `server.port`.

mod device;
mod models;
mod origin;
pub mod schema;
mod size;
mod suggest;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use quarry_agent::config::{AgentConfig, CloudConfig, HybridConfig, ScrapingConfig, StorageConfig};
use quarry_models::{HUB_DEFAULT, Registry};
use quarry_runtime::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use device::Device;
pub use models::{ModelChoice, ModelsConfig, RopeScalingChoice};
pub use origin::{Origin, origins};
pub use size::ByteSize;

/// The file looked for when none is named.
pub const FILE_DEFAULT: &str = "quarry.yaml";
/// Variables with this prefix override the file; `__` separates the parts of a key.
const PREFIX: &str = "QUARRY__";

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub models: ModelsConfig,
    pub server: ServerConfig,
    pub scraping: ScrapingConfig,
    pub hybrid: HybridConfig,
    pub cloud: CloudConfig,
    pub storage: StorageConfig,
    pub logging: LoggingConfig,
}

impl Config {
    /// The agent's part.
    pub fn agent(&self) -> AgentConfig {
        AgentConfig {
            scraping: self.scraping.clone(),
            hybrid: self.hybrid.clone(),
            cloud: self.cloud.clone(),
            storage: self.storage.clone(),
        }
    }
}

/// An instruction set of the CPU back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IsaChoice {
    /// The best that the processor has.
    Auto,
    /// AVX-512 with VNNI.
    Avx512Vnni,
    /// AVX2 with AVX-VNNI.
    AvxVnni,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// No vector instructions of its own.
    Portable,
}

/// What computes attention of prompts on a CUDA device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PrefillChoice {
    /// Our own kernel.
    Own,
    /// FlashAttention-2.
    FlashAttn,
}

/// How the KV cache is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KvCacheType {
    /// What loses least on the device.
    Auto,
    /// bfloat16, on a CUDA device.
    Bf16,
    /// Integers of 8 bits, on a CUDA device.
    Int8,
}

/// The inference server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address to listen on. Anything but loopback opens the server to the network.
    pub host: IpAddr,
    /// Port.
    pub port: u16,
    /// What computes: `auto` takes the first CUDA device where the program has that back end and the machine such a device,
    /// else the CPU. `cuda` and `cpu` insist; `cuda:1` and `cuda:GPU-UUID` (or the beginning of it) name a device as
    /// `nvidia-smi -L` lists them. A model that is named without its quantization is AWQ on a CUDA device, if the name has
    /// that; elsewhere it is the first that `quarry models list` shows.
    pub device: Device,
    /// Share of a CUDA device's memory that may be taken for weights, KV cache and scratch; less where other programs have
    /// taken more than the rest.
    pub gpu_memory_utilization: f64,
    /// What computes attention of prompts on a CUDA device: `own` gives a token the same bits however a batch is made up;
    /// `flash-attn`, where the program was built with it, is FlashAttention-2, which does not.
    pub prefill_attention: PrefillChoice,
    /// How a CUDA device holds the KV cache: `auto` is `bf16`; `int8` takes about half the memory, with a scale for each key
    /// and value of a head, and changes answers slightly. The CPU has a way of its own, `auto`, and refuses the others.
    pub kv_cache_type: KvCacheType,
    /// Round heads of 16-bit numbers, as AWQ models have, to 8 bits on a CUDA device: each step reads less, answers change
    /// slightly. An error on the CPU.
    pub int8_head: bool,
    /// Threads of the CPU back end; 0 takes one per physical core that the process may use, within its
    /// container's quota, rounded to the nearest whole thread.
    pub threads: usize,
    /// Instruction set of the CPU back end: `auto` takes the best that the processor has; a set that it lacks is an
    /// error. All sets but `portable` give the same bits.
    pub isa: IsaChoice,
    /// Memory that weights, KV cache, swap space and the scratch of a step take at most, all models together. Models that
    /// do not fit beside each other take turns: the weights of one leave, its conversations stay. Absent: no bound, every
    /// model is loaded at start. With a CUDA device it bounds host memory: weights that are kept warm, and swap space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// KV cache on the device, all models together, in parts of 64 MiB. Absent: on a CUDA device what is left of
    /// `gpu_memory_utilization` beside the weights (of all models where 2 GiB are left then, else of the largest) and the
    /// scratch of a step; on the CPU 2 GiB, taken as they are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<ByteSize>,
    /// Host memory for swapped-out KV; taken as it is used.
    pub swap_space: ByteSize,
    /// Prompt + output tokens at most; absent takes the model's own bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens_max: Option<u32>,
    /// KV positions of a block.
    pub block_tokens: u32,
    /// Tokens of one step, prefill and decode together.
    pub step_tokens_max: u32,
    /// Sequences of one step.
    pub step_rows_max: u32,
    /// Milliseconds that prompts may hold up running answers in one step; two steps of answers where those take longer.
    pub step_ms_max: u64,
    /// Milliseconds that a model's requests wait for memory, or for a switch, that other models' work holds. Smaller
    /// switches more often; for a switch it is at least as long as the last one took.
    pub switch_wait_ms: u64,
    /// Take tokens that a schema forces without drawing them; a request's `forced_tokens` overrides it.
    pub forced_tokens: bool,
    /// Guess what comes next from prompt and answer, and check several guesses in one step. Changes speed, never the
    /// answer; a request's `drafts` overrides it.
    pub drafts: bool,
    /// Requests that may wait; more get 429.
    pub queue_max: usize,
    /// The smallest `priority` a request may ask for; smaller runs earlier. 0: a request may step back, not overtake.
    pub priority_min: i32,
    /// Open connections; more wait until one closes, but for probes. The process may open as many files and some more,
    /// if the system's hard limit allows it.
    pub connections_max: usize,
    /// Seconds that running requests have to finish at shutdown.
    pub drain_seconds: u64,
    /// Serve llama-server's metric names (`llamacpp:…`) beside vLLM's and our own.
    pub metrics_llamacpp_names: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8000,
            device: Device::default(),
            gpu_memory_utilization: limits::GPU_MEMORY_UTILIZATION_DEFAULT,
            prefill_attention: PrefillChoice::Own,
            kv_cache_type: KvCacheType::Auto,
            int8_head: false,
            threads: 0,
            isa: IsaChoice::Auto,
            memory: None,
            kv_cache: None,
            swap_space: ByteSize(limits::SWAP_SPACE_BYTES_DEFAULT),
            context_tokens_max: None,
            block_tokens: limits::BLOCK_TOKENS_DEFAULT,
            step_tokens_max: limits::STEP_TOKENS_DEFAULT,
            step_rows_max: limits::STEP_ROWS_DEFAULT,
            step_ms_max: limits::STEP_US_MAX_DEFAULT / 1000,
            switch_wait_ms: limits::SWITCH_WAIT_US_DEFAULT / 1000,
            forced_tokens: true,
            drafts: true,
            queue_max: limits::QUEUE_MAX_DEFAULT,
            priority_min: 0,
            connections_max: quarry_http::CONNECTIONS_MAX_DEFAULT,
            drain_seconds: 30,
            metrics_llamacpp_names: false,
        }
    }
}

/// Logs of both programs, on stderr.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingConfig {
    /// `pretty` or `json`; the same fields in both.
    pub format: LogFormat,
    /// A level, or tracing's filter syntax (`info,quarry_agent=debug`); absent: info in the server, warn elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Pretty,
    Json,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self { format: LogFormat::Pretty, level: None }
    }
}

/// What the environment says, read once.
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// The process's environment.
    pub fn read() -> Self {
        let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self { variables: named.collect() }
    }

    /// A variable as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.variables.get(name)?.to_str().map(str::to_owned)
    }

    /// Where models and caches live.
    pub fn cache_dir(&self) -> anyhow::Result<PathBuf> {
        quarry_models::cache_dir_from(|name| self.variables.get(name).cloned())
            .context("no cache folder: set QUARRY_CACHE or HOME")
    }

    /// The known models over the cache folder; `HF_ENDPOINT` names another hub.
    pub fn registry(&self) -> anyhow::Result<Registry> {
        let cache = self.cache_dir()?;
        let endpoint = self.text("HF_ENDPOINT").filter(|endpoint| !endpoint.is_empty());
        Ok(Registry::with_hub(cache, endpoint.as_deref().unwrap_or(HUB_DEFAULT)))
    }

    /// `(path of keys, value)` of every override.
    pub fn overrides(&self) -> Vec<(Vec<String>, String)> {
        let named = self.variables.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX)?;
            let path = key.split("__").map(str::to_lowercase).collect();
            Some((path, value.to_str()?.to_owned()))
        });
        named.collect()
    }
}

/// The settings in force.
///
/// # Errors
/// Syntax, unknown keys (with the nearest valid one) and wrong values, with line and column.
pub fn load(file: Option<&Path>, environment: &Environment) -> anyhow::Result<Config> {
    let text = read_file(file)?;
    let mut config = match &text {
        Some((path, text)) => parse(path, text)?,
        None => Config::default(),
    };
    let overrides = environment.overrides();
    if !overrides.is_empty() {
        let mut value = serde_json::to_value(&config)?;
        for (path, text) in &overrides {
            set(&mut value, path, text);
        }
        let read: Result<Config, _> = serde_json::from_value(value);
        config = read.map_err(|error| {
            let message = suggest::nearest(&error.to_string());
            anyhow::anyhow!("environment override ({PREFIX}…): {message}")
        })?;
    }
    config.cloud.api_key = config.cloud.api_key.or_else(|| environment.text("OPENAI_API_KEY"));
    Ok(config)
}

/// The named file, or the default one where it exists.
pub fn read_file(file: Option<&Path>) -> anyhow::Result<Option<(PathBuf, String)>> {
    let path = file.map_or_else(|| PathBuf::from(FILE_DEFAULT), Path::to_owned);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => bail!("{}: {error}", path.display()),
    }
}

/// Parses a file's text.
pub fn parse(path: &Path, text: &str) -> anyhow::Result<Config> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Config::default());
    }
    serde_saphyr::from_str(text)
        .map_err(|error| anyhow::anyhow!("{}: {}", path.display(), suggest::nearest(&error.to_string())))
}

/// Sets a value at a path; text is read as JSON where it is JSON (numbers, booleans), else as a string.
fn set(value: &mut Value, path: &[String], text: &str) {
    let parsed = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let mut at = value;
    for key in path {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        at = &mut at[key.as_str()];
    }
    *at = parsed;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_key_names_line_and_nearest() {
        let error = parse(Path::new("q.yaml"), "server:\n  prot: 9000\n").unwrap_err().to_string();
        assert!(error.contains("`prot`") && error.contains("did you mean `port`"), "{error}");
        assert!(error.contains('2'), "names the line: {error}");
    }

    #[test]
    fn sizes_and_choices_are_read() {
        let text = "server:\n  swap_space: 1.5GiB\nmodels:\n  primary: {name: m, quantization: Q8_0}\n";
        let config = parse(Path::new("q.yaml"), text).unwrap();
        assert_eq!(config.server.swap_space.0, 3 << 29);
        assert_eq!(config.models.primary, ModelChoice::named("m", Some("Q8_0")));
    }

    #[test]
    fn rope_scaling_is_a_model_s_own() {
        let yarn = "{type: yarn, factor: 4, original_context: 32768}";
        let text = format!("models:\n  primary: {{name: Qwen/Qwen3-8B, rope_scaling: {yarn}}}\n");
        let choice = parse(Path::new("q.yaml"), &text).unwrap().models.primary;
        let found = choice.rope_scaling.unwrap().yarn();
        assert_eq!((found.factor, found.original_context), (4.0, Some(32_768)));
        let error = parse(Path::new("q.yaml"), &text.replace("yarn", "ntk")).unwrap_err().to_string();
        assert!(error.contains("ntk") && error.contains("yarn"), "{error}");
    }

    #[test]
    fn environment_overrides_the_file() {
        let variables = [("QUARRY__SERVER__PORT".to_owned(), OsString::from("9001"))].into();
        let config = load(None, &Environment { variables }).unwrap();
        assert_eq!(config.server.port, 9001);
    }

    #[test]
    fn a_wrong_override_is_refused() {
        let variables = [("QUARRY__SERVER__PROT".to_owned(), OsString::from("1"))].into();
        let error = load(None, &Environment { variables }).unwrap_err().to_string();
        assert!(error.contains("port"), "{error}");
    }

    #[test]
    fn the_example_is_the_default() {
        let text = schema::example();
        assert_eq!(parse(Path::new("q.yaml"), &text).unwrap(), Config::default());
    }
}
