//! Names, help texts and buckets. A counter `x` is exposed as `x_total`, as vLLM's Python client does by itself.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Error, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry,
};

use super::sizes::Sizes;

const LABELS: &[&str] = &["model_name", "engine"];
/// Of what a device tells of itself.
const DEVICE: &[&str] = &["device", "uuid"];

/// Seconds to the first token, as vLLM cuts them.
const FIRST_TOKEN_S: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
/// Seconds between tokens.
const BETWEEN_S: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
/// Seconds of a request or one of its phases.
const REQUEST_S: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
/// Tokens of one step.
const STEP_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
/// Tokens of one request: 1-2-5 steps up to the longest context we serve.
const REQUEST_TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0,
    50_000.0, 100_000.0, 200_000.0,
];
/// Choices of one request.
const CHOICES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];
/// Rows of one step.
const STEP_ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Seconds of one step.
const STEP_S: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
/// Seconds of a phase of a switch: nothing where the weights are warm, a minute where gigabytes are read and packed.
const SWITCH_S: &[f64] = &[0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0];
/// Seconds of an HTTP request, as the usual instrumentation for FastAPI cuts them.
const HTTP_S: &[f64] = &[0.1, 0.5, 1.0];

/// The same, finer, for all routes together.
const HTTP_FINE_S: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0,
    30.0, 60.0,
];

/// Declares the struct and its registration together, so that no family is made and not registered.
macro_rules! families {
    ($($field:ident: $kind:ident($name:literal, $help:literal $(, $extra:expr)*);)*) => {
        /// Every family of metrics.
        pub(super) struct Families {
            $(pub $field: $kind,)*
        }

        impl Families {
            /// Makes and registers all.
            pub fn register(registry: &Registry) -> Result<Self, Error> {
                Ok(Self { $($field: registered(registry, families!(@new $kind, $name, $help $(, $extra)*)?)?,)* })
            }
        }
    };
    (@new Sizes, $name:literal, $help:literal) => { Sizes::new($name, $help) };
    (@new Histogram, $name:literal, $help:literal, $buckets:expr) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
    };
    (@new HistogramVec, $name:literal, $help:literal, $labels:expr, $buckets:expr) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), $labels)
    };
    (@new $kind:ident, $name:literal, $help:literal, $labels:expr) => {
        $kind::new(Opts::new($name, $help), $labels)
    };
    (@new $kind:ident, $name:literal, $help:literal) => {
        $kind::new(Opts::new($name, $help), LABELS)
    };
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> Result<C, Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

families! {
    running: GaugeVec("vllm:num_requests_running", "Requests in the running set");
    waiting: GaugeVec("vllm:num_requests_waiting", "Requests waiting for admission");
    waiting_by_reason: GaugeVec(
        "vllm:num_requests_waiting_by_reason", "Requests waiting for admission, by what they wait for",
        &["model_name", "engine", "reason"]
    );
    healthy_vllm: GaugeVec("vllm:engine_healthy", "0 when the engine gave up");
    swapped: GaugeVec("vllm:num_requests_swapped", "Requests whose KV is in the host pool");
    kv_usage: GaugeVec("vllm:kv_cache_usage_perc", "Blocks in use over all blocks, 0 to 1");
    kv_usage_v0: GaugeVec("vllm:gpu_cache_usage_perc", "Older name of vllm:kv_cache_usage_perc");
    host_usage_v0: GaugeVec("vllm:cpu_cache_usage_perc", "Host pool in use over its bound, 0 to 1");
    prompt_tokens: IntCounterVec("vllm:prompt_tokens_total", "Prompt tokens of ended requests");
    prompt_tokens_cached: IntCounterVec("vllm:prompt_tokens_cached_total", "Of these, from the prefix cache");
    prompt_tokens_by_source: IntCounterVec(
        "vllm:prompt_tokens_by_source_total", "Prompt tokens of ended requests by where their KV came from",
        &["model_name", "engine", "source"]
    );
    generation_tokens: IntCounterVec("vllm:generation_tokens_total", "Tokens generated, drawn and forced");
    request_success: IntCounterVec(
        "vllm:request_success_total", "Ended requests by how they ended",
        &["model_name", "engine", "finished_reason"]
    );
    admission_rejections: IntCounterVec(
        "vllm:admission_rejections_total", "Requests that found no room, or no engine that takes any",
        &["model_name", "engine", "reason"]
    );
    preemptions: IntCounterVec("vllm:num_preemptions_total", "Sequences that had to give their blocks back");
    prefix_queries: IntCounterVec("vllm:prefix_cache_queries_total", "Tokens looked up in the prefix cache");
    prefix_queries_v0: IntCounterVec("vllm:gpu_prefix_cache_queries_total", "Older name of the same");
    prefix_hits: IntCounterVec("vllm:prefix_cache_hits_total", "Tokens found in the prefix cache");
    prefix_hits_v0: IntCounterVec("vllm:gpu_prefix_cache_hits_total", "Older name of the same");
    ttft_seconds: HistogramVec(
        "vllm:time_to_first_token_seconds", "Arrival to first token", LABELS, FIRST_TOKEN_S
    );
    inter_token_seconds: HistogramVec(
        "vllm:inter_token_latency_seconds", "Between two tokens of a request", LABELS, BETWEEN_S
    );
    inter_token_seconds_v0: HistogramVec(
        "vllm:time_per_output_token_seconds", "Older name of vllm:inter_token_latency_seconds", LABELS, BETWEEN_S
    );
    request_token_seconds: HistogramVec(
        "vllm:request_time_per_output_token_seconds", "Mean of a request's times between tokens", LABELS, BETWEEN_S
    );
    e2e_seconds: HistogramVec("vllm:e2e_request_latency_seconds", "Arrival to end", LABELS, REQUEST_S);
    queue_seconds: HistogramVec("vllm:request_queue_time_seconds", "Arrival to first step", LABELS, REQUEST_S);
    inference_seconds: HistogramVec("vllm:request_inference_time_seconds", "First step to end", LABELS, REQUEST_S);
    prefill_seconds: HistogramVec(
        "vllm:request_prefill_time_seconds", "First step to first token", LABELS, REQUEST_S
    );
    decode_seconds: HistogramVec("vllm:request_decode_time_seconds", "First token to end", LABELS, REQUEST_S);
    iteration_tokens: HistogramVec("vllm:iteration_tokens_total", "Tokens of one step", LABELS, STEP_TOKENS);
    request_prompt_tokens: HistogramVec(
        "vllm:request_prompt_tokens", "Prompt tokens of a request", LABELS, REQUEST_TOKENS
    );
    request_generation_tokens: HistogramVec(
        "vllm:request_generation_tokens", "Generated tokens of a request", LABELS, REQUEST_TOKENS
    );
    request_generation_tokens_max: HistogramVec(
        "vllm:request_max_num_generation_tokens", "The longest answer of a request", LABELS, REQUEST_TOKENS
    );
    request_tokens_max: HistogramVec(
        "vllm:request_params_max_tokens", "The bound a request ran under", LABELS, REQUEST_TOKENS
    );
    request_computed_tokens: HistogramVec(
        "vllm:request_prefill_kv_computed_tokens", "Prompt tokens not from the prefix cache", LABELS, REQUEST_TOKENS
    );
    request_n: HistogramVec("vllm:request_params_n", "Choices of a request", LABELS, CHOICES);

    drafts: IntCounterVec("vllm:spec_decode_num_drafts_total", "Drafts that were run");
    draft_tokens: IntCounterVec("vllm:spec_decode_num_draft_tokens_total", "Draft tokens that were run");
    draft_tokens_accepted: IntCounterVec(
        "vllm:spec_decode_num_accepted_tokens_total", "Draft tokens that were right"
    );
    draft_tokens_accepted_at: IntCounterVec(
        "vllm:spec_decode_num_accepted_tokens_per_pos_total",
        "Draft tokens that were right, by their position in the draft",
        &["model_name", "engine", "position"]
    );
    forced_tokens: IntCounterVec("quarry_forced_tokens_total", "Tokens that constraints forced, undrawn");
    rows_ahead: IntCounterVec("quarry_rows_ahead_total", "Rows that a step started before its plan had right");
    suspended: GaugeVec("quarry_requests_suspended", "Requests of a model that is not active");
    host_pool_bytes: GaugeVec("quarry_host_pool_bytes", "Bytes in the host pool");
    host_pool_cached_bytes:
        GaugeVec("quarry_host_pool_cached_bytes", "Of these, bytes of cached prefixes");
    host_pool_bytes_max: GaugeVec("quarry_host_pool_bytes_max", "The host pool's bound");
    swap_out_bytes: IntCounterVec("quarry_swap_out_bytes_total", "Bytes swapped to the host pool");
    swap_in_bytes: IntCounterVec("quarry_swap_in_bytes_total", "Bytes swapped back from the host pool");
    kv_store_bytes: IntCounterVec(
        "vllm:kv_offload_store_bytes_total", "vLLM's name of quarry_swap_out_bytes_total"
    );
    kv_load_bytes: IntCounterVec(
        "vllm:kv_offload_load_bytes_total", "vLLM's name of quarry_swap_in_bytes_total"
    );
    requests_refused: IntCounterVec(
        "quarry_requests_refused_total", "Chat requests refused before they ran, by the error's code",
        &["model_name", "reason"]
    );
    requests_failed: IntCounterVec(
        "quarry_requests_failed_total", "Chat requests that were taken and got no whole answer, by the error's code",
        &["model_name", "reason"]
    );
    restarts: IntCounterVec("quarry_engine_restarts_total", "Restarts of the engine after a panic");
    switch_seconds: HistogramVec(
        "quarry_model_switch_seconds",
        "Seconds of a switch to the model, by phase: room (others' weights leave), load, activate",
        &["model_name", "engine", "phase"], SWITCH_S
    );
    model_state: GaugeVec(
        "quarry_model_state", "1 for the state that the model is in, 0 for the others",
        &["model_name", "engine", "state"]
    );
    memory_bytes: GaugeVec(
        "quarry_memory_bytes", "What the memory budget counts, by use: weights, warm_weights, kv, host_pool, scratch",
        &["model_name", "engine", "use"]
    );
    memory_bytes_max: GaugeVec("quarry_memory_bytes_max", "The memory budget; absent where there is none");
    device_memory_bytes_max: GaugeVec(
        "quarry_device_memory_bytes_max", "The budget of the device's own memory; absent where it has none"
    );
    device_temperature: GaugeVec(
        "quarry_device_temperature_celsius", "Of the device's chip", DEVICE
    );
    device_power: GaugeVec(
        "quarry_device_power_watts", "What the device draws", DEVICE
    );
    device_power_limit: GaugeVec(
        "quarry_device_power_limit_watts", "What the device may draw", DEVICE
    );
    device_memory_used: GaugeVec(
        "quarry_device_memory_used_bytes", "Memory of the device that is taken, by whomever", DEVICE
    );
    device_memory_total: GaugeVec(
        "quarry_device_memory_total_bytes", "Memory of the device", DEVICE
    );
    device_utilization: GaugeVec(
        "quarry_device_utilization_ratio", "Share of the last moments in which some kernel ran, 0 to 1", DEVICE
    );
    device_memory_utilization: GaugeVec(
        "quarry_device_memory_utilization_ratio", "Share of the last moments in which the device's memory was used, 0 to 1", DEVICE
    );
    device_clock: GaugeVec(
        "quarry_device_clock_hertz", "Clock of the device's processors", DEVICE
    );
    device_memory_clock: GaugeVec(
        "quarry_device_memory_clock_hertz", "Clock of the device's memory", DEVICE
    );
    healthy: GaugeVec("quarry_engine_healthy", "0 when the engine gave up");
    step_rows: HistogramVec("quarry_step_rows", "Rows of one step", LABELS, STEP_ROWS);
    step_seconds: HistogramVec("quarry_step_seconds", "Seconds of one step", LABELS, STEP_S);
    mask_seconds: CounterVec("quarry_mask_seconds_total", "Seconds spent on constraints' masks");

    http_requests: IntCounterVec(
        "http_requests_total", "HTTP requests by route, method and class of status (2xx)",
        &["handler", "method", "status"]
    );
    http_responses: IntCounterVec(
        "quarry_http_responses_total", "HTTP requests by route, method and status",
        &["handler", "method", "status"]
    );
    http_seconds: HistogramVec(
        "http_request_duration_seconds", "HTTP requests' seconds to the end of the answer",
        &["handler", "method"], HTTP_S
    );
    http_seconds_fine: Histogram(
        "http_request_duration_highr_seconds", "The same of all routes, in finer buckets", HTTP_FINE_S
    );
    http_request_bytes: Sizes("http_request_size_bytes", "Bytes of requests' bodies as announced, by route");
    http_response_bytes: Sizes("http_response_size_bytes", "Bytes of answers' bodies as announced, by route");
}
