//! Metrics in Prometheus' format, under the names that vLLM's stock dashboards query, and `quarry_*` for the rest.
//!
//! What happens is counted when the engine or the HTTP layer tells it ([`Observer`]); what merely is (gauges, and
//! totals that the engine keeps itself) is taken from its snapshot when somebody asks.

mod families;

use std::sync::{Mutex, PoisonError};

use prometheus::{Encoder as _, IntCounterVec, Registry, TextEncoder};
use quarry_runtime::{FinishReason, Observer, RequestStats, Snapshot, StepStats};

use families::Families;

/// The only engine there is, as vLLM labels engines.
const ENGINE: &str = "0";

/// All metrics of one server. Give it to the engine as its observer and to [`crate::AppState`].
pub struct Metrics {
    registry: Registry,
    families: Families,
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
        Ok(Self { registry, families, rendering: Mutex::new(()) })
    }

    /// One HTTP request ended.
    pub(crate) fn http(&self, handler: &str, method: &str, status: u16, seconds: f64) {
        // Methods are the client's to choose: those that no route takes share a label.
        let method = if matches!(method, "GET" | "POST" | "HEAD") { method } else { "other" };
        let f = &self.families;
        f.http_requests.with_label_values(&[handler, method, &status.to_string()]).inc();
        f.http_seconds.with_label_values(&[handler, method]).observe(seconds);
    }

    /// All of it as text; the snapshot is `None` while the engine is not there.
    pub(crate) fn render(&self, snapshot: Option<&Snapshot>) -> Result<String, prometheus::Error> {
        let _rendering = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = snapshot {
            self.take(snapshot);
        }
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
            for (counter, total) in [
                (&f.prefix_queries, model.prefix_query_tokens),
                (&f.prefix_queries_v0, model.prefix_query_tokens),
                (&f.prefix_hits, model.prefix_hit_tokens),
                (&f.prefix_hits_v0, model.prefix_hit_tokens),
                (&f.preemptions, model.preemptions),
                (&f.swap_out_bytes, model.swap_out_bytes),
                (&f.swap_in_bytes, model.swap_in_bytes),
            ] {
                set(counter, &labels, total);
            }
        }
        // What is the engine's stands once, under its first model, so that a sum over models is right.
        let Some(first) = snapshot.models.first() else { return };
        let labels = [first.model.as_str(), ENGINE];
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        for (gauge, value) in [
            (&f.host_usage_v0, share(snapshot.host_pool_bytes, snapshot.host_pool_bytes_max)),
            (&f.host_pool_bytes, snapshot.host_pool_bytes as f64),
            (&f.host_pool_bytes_max, snapshot.host_pool_bytes_max as f64),
            (&f.healthy, f64::from(u8::from(snapshot.healthy))),
        ] {
            gauge.with_label_values(&labels).set(value);
        }
        set(&f.restarts, &labels, snapshot.restarts);
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
    }

    fn request(&self, stats: &RequestStats) {
        let f = &self.families;
        let labels = [stats.model.as_str(), ENGINE];
        let reason = match stats.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "abort",
            FinishReason::Failed => "error",
        };
        f.request_success.with_label_values(&[stats.model.as_str(), ENGINE, reason]).inc();
        f.prompt_tokens.with_label_values(&labels).inc_by(u64::from(stats.prompt_tokens));
        f.prompt_tokens_cached.with_label_values(&labels).inc_by(u64::from(stats.cached_tokens));
        let tokens_after_first = stats.completion_tokens.saturating_sub(1);
        let computed = stats.prompt_tokens.saturating_sub(stats.cached_tokens);
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
mod tests {
    use quarry_runtime::{DraftStats, ModelSnapshot};

    use super::*;

    fn request() -> RequestStats {
        RequestStats {
            model: "m".into(),
            reason: FinishReason::Length,
            prompt_tokens: 30,
            cached_tokens: 20,
            completion_tokens: 3,
            tokens_max: 3,
            queue_s: 0.1,
            prefill_s: 0.2,
            decode_s: 0.4,
            ttft_s: Some(0.3),
            e2e_s: 0.7,
            inter_token_s: vec![0.2, 0.2],
        }
    }

    #[test]
    fn the_stock_boards_names_and_labels_are_there() {
        let metrics = Metrics::new().unwrap();
        metrics.request(&request());
        metrics.step(&StepStats {
            model: "m".into(),
            rows: 2,
            tokens: 31,
            sampled: 2,
            forced: 1,
            drafts: vec![DraftStats { tokens: 4, accepted: 2 }],
            ..Default::default()
        });
        metrics.http("/v1/chat/completions", "POST", 200, 0.7);
        let model = ModelSnapshot {
            model: "m".into(),
            running: 1,
            prefix_hit_tokens: 20,
            ..ModelSnapshot::default()
        };
        let other = ModelSnapshot { model: "n".into(), prefix_hit_tokens: 5, ..ModelSnapshot::default() };
        let snapshot = Snapshot { models: vec![model, other], restarts: 2, ..Default::default() };
        metrics.render(Some(&snapshot)).unwrap();
        let text = metrics.render(Some(&snapshot)).unwrap();
        let labels = "{engine=\"0\",model_name=\"m\"}";
        for line in [
            format!("vllm:num_requests_running{labels} 1"),
            format!("vllm:num_requests_waiting{labels} 0"),
            format!("vllm:kv_cache_usage_perc{labels} 0"),
            format!("vllm:prompt_tokens_total{labels} 30"),
            format!("vllm:prompt_tokens_cached_total{labels} 20"),
            format!("vllm:generation_tokens_total{labels} 3"),
            format!("vllm:prefix_cache_hits_total{labels} 20"),
            "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"n\"} 5".into(),
            format!("quarry_engine_restarts_total{labels} 2"),
            format!("quarry_forced_tokens_total{labels} 1"),
            format!("vllm:spec_decode_num_drafts_total{labels} 1"),
            format!("vllm:spec_decode_num_draft_tokens_total{labels} 4"),
            format!("vllm:spec_decode_num_accepted_tokens_total{labels} 2"),
            "vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"0\",model_name=\"m\",position=\"1\"} 1".into(),
            format!("vllm:e2e_request_latency_seconds_count{labels} 1"),
            format!("vllm:time_to_first_token_seconds_sum{labels} 0.3"),
            format!("vllm:inter_token_latency_seconds_count{labels} 2"),
            format!("vllm:request_queue_time_seconds_count{labels} 1"),
            format!("vllm:request_prefill_time_seconds_count{labels} 1"),
            format!("vllm:request_decode_time_seconds_count{labels} 1"),
            format!("vllm:request_max_num_generation_tokens_count{labels} 1"),
            "vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"m\"} 1".into(),
            "vllm:request_prompt_tokens_bucket{engine=\"0\",model_name=\"m\",le=\"50\"} 1".into(),
            "vllm:request_generation_tokens_bucket{engine=\"0\",model_name=\"m\",le=\"2\"} 0".into(),
            "http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\",status=\"200\"} 1".into(),
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn without_an_engine_nothing_is_claimed() {
        let text = Metrics::new().unwrap().render(None).unwrap();
        assert!(!text.contains("num_requests_running{"), "{text}");
    }
}
