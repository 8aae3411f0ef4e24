//! Metrics in Prometheus' format, under the names that vLLM's stock dashboards query, and `quarry_*` for the rest.
//!
//! What happens is counted when the engine or the HTTP layer tells it ([`Observer`]); what merely is (gauges, and
//! totals that the engine keeps itself) is taken from its snapshot when somebody asks.

mod families;
mod llamacpp;
mod sizes;

use std::sync::{Mutex, PoisonError};

use prometheus::{Encoder as _, GaugeVec, IntCounterVec, Registry, TextEncoder};
use quarry_runtime::{
    DeviceFigures, FinishReason, ModelState, Observer, RequestStats, Snapshot, StepStats, SwitchStats,
};

use families::Families;
use llamacpp::LlamaCpp;

/// The only engine there is, as vLLM labels engines.
const ENGINE: &str = "0";

/// In place of a model's name where a request named none that is served.
pub(crate) const UNKNOWN_MODEL: &str = "unknown";

/// Bytes of one request's and its answer's body as they are announced; 0 where they are not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HttpSizes {
    pub request_bytes: u64,
    pub response_bytes: u64,
}

/// Methods are the client's to choose: those that no route takes share a label.
fn method_label(method: &str) -> &str {
    if matches!(method, "GET" | "POST" | "HEAD") { method } else { "other" }
}

/// All metrics of one server. Give it to the engine as its observer and to [`crate::AppState`].
pub struct Metrics {
    registry: Registry,
    families: Families,
    /// Aliases, where they are wanted.
    llamacpp: Option<LlamaCpp>,
    /// Totals are set anew for each answer, so two answers must not mix.
    rendering: Mutex<()>,
}

impl Metrics {
    /// Metrics that count from zero.
    ///
    /// # Errors
    /// Names that clash; [`Metrics::new`] always succeeds or never does.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        Ok(Self { registry, families, llamacpp: None, rendering: Mutex::new(()) })
    }

    /// The same, with llama-server's names beside them.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn with_llamacpp_names() -> Result<Self, prometheus::Error> {
        let metrics = Self::new()?;
        let llamacpp = Some(LlamaCpp::register(&metrics.registry)?);
        Ok(Self { llamacpp, ..metrics })
    }

    /// An HTTP request has its status.
    pub(crate) fn http(&self, handler: &str, method: &str, status: u16, sizes: HttpSizes) {
        let f = &self.families;
        let (method, class) = (method_label(method), format!("{}xx", status / 100));
        f.http_requests.with_label_values(&[handler, method, &class]).inc();
        f.http_responses.with_label_values(&[handler, method, &status.to_string()]).inc();
        f.http_request_bytes.add(handler, sizes.request_bytes);
        f.http_response_bytes.add(handler, sizes.response_bytes);
    }

    /// An HTTP answer was sent to its end, or its client is gone.
    pub(crate) fn http_ended(&self, handler: &str, method: &str, seconds: f64) {
        let f = &self.families;
        f.http_seconds.with_label_values(&[handler, method_label(method)]).observe(seconds);
        f.http_seconds_fine.observe(seconds);
    }

    /// A chat request was refused before it ran. `model` is a served model's name or [`UNKNOWN_MODEL`]: names that
    /// clients choose make no labels.
    pub(crate) fn refused(&self, model: &str, reason: &str, is_admission: bool) {
        let f = &self.families;
        f.requests_refused.with_label_values(&[model, reason]).inc();
        if is_admission {
            f.admission_rejections.with_label_values(&[model, ENGINE, reason]).inc();
        }
    }

    /// A chat request that was taken got no whole answer.
    pub(crate) fn failed(&self, model: &str, reason: &str) {
        self.families.requests_failed.with_label_values(&[model, reason]).inc();
    }

    /// All of it as text; the snapshot is `None` while the engine is not there.
    pub(crate) fn render(
        &self,
        snapshot: Option<&Snapshot>,
        devices: &[DeviceFigures],
    ) -> Result<String, prometheus::Error> {
        let _rendering = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = snapshot {
            self.take(snapshot);
        }
        self.take_devices(devices);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|e| prometheus::Error::Msg(e.to_string()))
    }

    fn take(&self, snapshot: &Snapshot) {
        let f = &self.families;
        let set = |counter: &IntCounterVec, labels: &[&str], total: u64| {
            let counter = counter.with_label_values(labels);
            counter.reset();
            counter.inc_by(total);
        };
        for model in &snapshot.models {
            let labels = [model.model.as_str(), ENGINE];
            for (gauge, value) in [
                (&f.running, f64::from(model.running)),
                (&f.waiting, f64::from(model.waiting)),
                (&f.swapped, f64::from(model.swapped)),
                (&f.suspended, f64::from(model.suspended)),
                (&f.kv_usage, model.kv_usage),
                (&f.kv_usage_v0, model.kv_usage),
            ] {
                gauge.with_label_values(&labels).set(value);
            }
            self.take_state(&model.model, &model.state);
            // Nothing that waits here waits for anything but room.
            let by_reason = [model.model.as_str(), ENGINE, "capacity"];
            f.waiting_by_reason.with_label_values(&by_reason).set(f64::from(model.waiting));
            f.healthy_vllm.with_label_values(&labels).set(f64::from(u8::from(snapshot.healthy)));
            if let Some(llamacpp) = &self.llamacpp {
                llamacpp.take(model);
            }
            for (counter, total) in [
                (&f.prefix_queries, model.prefix_query_tokens),
                (&f.prefix_queries_v0, model.prefix_query_tokens),
                (&f.prefix_hits, model.prefix_hit_tokens),
                (&f.prefix_hits_v0, model.prefix_hit_tokens),
                (&f.preemptions, model.preemptions),
                (&f.swap_out_bytes, model.swap_out_bytes),
                (&f.swap_in_bytes, model.swap_in_bytes),
                (&f.kv_store_bytes, model.swap_out_bytes),
                (&f.kv_load_bytes, model.swap_in_bytes),
            ] {
                set(counter, &labels, total);
            }
        }
        for awaited in &snapshot.awaited {
            self.take_state(&awaited.name, &awaited.state);
        }
        // What is the engine's stands once, under its first model, so that a sum over models is right.
        let Some(first) = snapshot.models.first() else { return };
        let labels = [first.model.as_str(), ENGINE];
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        for (gauge, value) in [
            (&f.host_usage_v0, share(snapshot.host_pool_bytes, snapshot.host_pool_bytes_max)),
            (&f.host_pool_bytes, snapshot.host_pool_bytes as f64),
            (&f.host_pool_cached_bytes, snapshot.host_pool_cached_bytes as f64),
            (&f.host_pool_bytes_max, snapshot.host_pool_bytes_max as f64),
            (&f.healthy, f64::from(u8::from(snapshot.healthy))),
        ] {
            gauge.with_label_values(&labels).set(value);
        }
        let budget = &snapshot.budget;
        for (used_for, bytes) in [
            ("weights", snapshot.weights.device),
            ("warm_weights", snapshot.weights.host),
            ("kv", budget.kv_bytes),
            ("host_pool", budget.host_pool_bytes),
            ("scratch", budget.scratch_bytes),
        ] {
            let labels = [first.model.as_str(), ENGINE, used_for];
            f.memory_bytes.with_label_values(&labels).set(bytes as f64);
        }
        for (gauge, bytes_max) in
            [(&f.memory_bytes_max, budget.bytes_max), (&f.device_memory_bytes_max, budget.device_bytes_max)]
        {
            if let Some(bytes) = bytes_max {
                gauge.with_label_values(&labels).set(bytes as f64);
            }
        }
        set(&f.restarts, &labels, snapshot.restarts);
    }

    /// A figure that a device tells no more is gone, not what it was.
    fn take_devices(&self, devices: &[DeviceFigures]) {
        let f = &self.families;
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        let figures = |device: &DeviceFigures| -> [(&GaugeVec, Option<f64>); 9] {
            [
                (&f.device_temperature, device.temperature_celsius),
                (&f.device_power, device.power_watts),
                (&f.device_power_limit, device.power_limit_watts),
                (&f.device_memory_used, bytes(device.memory_used_bytes)),
                (&f.device_memory_total, bytes(device.memory_total_bytes)),
                (&f.device_utilization, device.utilization),
                (&f.device_memory_utilization, device.memory_utilization),
                (&f.device_clock, device.clock_hertz),
                (&f.device_memory_clock, device.memory_clock_hertz),
            ]
        };
        for (gauge, _) in figures(&DeviceFigures::default()) {
            gauge.reset();
        }
        for device in devices {
            for (gauge, value) in figures(device) {
                if let Some(value) = value {
                    gauge.with_label_values(&[&device.name, &device.uuid]).set(value);
                }
            }
        }
    }

    fn take_state(&self, model: &str, state: &ModelState) {
        for name in ModelState::NAMES {
            let is = f64::from(u8::from(state.name() == name));
            self.families.model_state.with_label_values(&[model, ENGINE, name]).set(is);
        }
    }
}

impl Observer for Metrics {
    fn step(&self, stats: &StepStats) {
        let f = &self.families;
        let labels = [stats.model.as_str(), ENGINE];
        f.generation_tokens
            .with_label_values(&labels)
            .inc_by(u64::from(stats.sampled) + u64::from(stats.forced));
        f.forced_tokens.with_label_values(&labels).inc_by(u64::from(stats.forced));
        f.rows_ahead.with_label_values(&labels).inc_by(u64::from(stats.rows_ahead));
        for draft in &stats.drafts {
            f.drafts.with_label_values(&labels).inc();
            f.draft_tokens.with_label_values(&labels).inc_by(u64::from(draft.tokens));
            f.draft_tokens_accepted.with_label_values(&labels).inc_by(u64::from(draft.accepted));
            for position in 0..draft.accepted {
                let labels = [stats.model.as_str(), ENGINE, &position.to_string()];
                f.draft_tokens_accepted_at.with_label_values(&labels).inc();
            }
        }
        f.iteration_tokens.with_label_values(&labels).observe(f64::from(stats.tokens));
        f.step_rows.with_label_values(&labels).observe(f64::from(stats.rows));
        f.step_seconds.with_label_values(&labels).observe(stats.seconds);
        f.mask_seconds.with_label_values(&labels).inc_by(stats.mask_s.max(0.0));
        if let Some(llamacpp) = &self.llamacpp {
            llamacpp.step(stats);
        }
    }

    fn switch(&self, stats: &SwitchStats) {
        let SwitchStats { model, room_s, load_s, activate_s } = stats;
        for (phase, seconds) in [("room", room_s), ("load", load_s), ("activate", activate_s)] {
            let labels = [model.as_str(), ENGINE, phase];
            self.families.switch_seconds.with_label_values(&labels).observe(seconds.max(0.0));
        }
    }

    fn request(&self, stats: &RequestStats) {
        let f = &self.families;
        let labels = [stats.model.as_str(), ENGINE];
        let reason = match stats.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "abort",
            FinishReason::Deadline => "deadline",
            FinishReason::Failed => "error",
        };
        f.request_success.with_label_values(&[stats.model.as_str(), ENGINE, reason]).inc();
        f.prompt_tokens.with_label_values(&labels).inc_by(u64::from(stats.prompt_tokens));
        f.prompt_tokens_cached.with_label_values(&labels).inc_by(u64::from(stats.cached_tokens));
        let tokens_after_first = stats.completion_tokens.saturating_sub(1);
        let computed = stats.prompt_tokens.saturating_sub(stats.cached_tokens);
        for (source, tokens) in [("local_compute", computed), ("local_cache_hit", stats.cached_tokens)] {
            let labels = [stats.model.as_str(), ENGINE, source];
            f.prompt_tokens_by_source.with_label_values(&labels).inc_by(u64::from(tokens));
        }
        if let Some(llamacpp) = &self.llamacpp {
            llamacpp.request(stats);
        }
        for (histogram, value) in [
            (&f.e2e_seconds, stats.e2e_s),
            (&f.queue_seconds, stats.queue_s),
            (&f.prefill_seconds, stats.prefill_s),
            (&f.decode_seconds, stats.decode_s),
            (&f.inference_seconds, stats.prefill_s + stats.decode_s),
            (&f.request_prompt_tokens, f64::from(stats.prompt_tokens)),
            (&f.request_generation_tokens, f64::from(stats.completion_tokens)),
            (&f.request_generation_tokens_max, f64::from(stats.completion_tokens)),
            (&f.request_tokens_max, f64::from(stats.tokens_max)),
            (&f.request_computed_tokens, f64::from(computed)),
            (&f.request_n, 1.0),
        ] {
            histogram.with_label_values(&labels).observe(value);
        }
        if let Some(ttft) = stats.ttft_s {
            f.ttft_seconds.with_label_values(&labels).observe(ttft);
        }
        if tokens_after_first > 0 {
            let mean = stats.decode_s / f64::from(tokens_after_first);
            f.request_token_seconds.with_label_values(&labels).observe(mean);
        }
        let between = f.inter_token_seconds.with_label_values(&labels);
        let between_v0 = f.inter_token_seconds_v0.with_label_values(&labels);
        for &seconds in &stats.inter_token_s {
            between.observe(f64::from(seconds));
            between_v0.observe(f64::from(seconds));
        }
    }
}

#[cfg(test)]
mod tests;
