//! The same figures under llama-server's names, for boards made for it. It has one model and no labels; here each
//! series says its model. Types are llama-server's; rates are means since the start.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{CounterVec, Error, GaugeVec, Opts, Registry};
use quarry_runtime::{ModelSnapshot, RequestStats, StepStats};

const LABELS: &[&str] = &["model_name"];
const POSITION_LABELS: &[&str] = &["model_name", "position"];

/// What the means and the maximum are made of.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    prompt_tokens: u64,
    prompt_s: f64,
    predicted_tokens: u64,
    predicted_s: f64,
    steps: u64,
    rows: u64,
    tokens_max: u32,
}

/// All families.
pub(super) struct LlamaCpp {
    prompt_tokens: CounterVec,
    prompt_tokens_cached: CounterVec,
    prompt_seconds: CounterVec,
    tokens_predicted: CounterVec,
    tokens_predicted_seconds: CounterVec,
    decodes: CounterVec,
    tokens_max: CounterVec,
    drafts: CounterVec,
    draft_tokens: CounterVec,
    accepted_tokens: CounterVec,
    accepted_tokens_at: CounterVec,
    prompt_tokens_rate: GaugeVec,
    predicted_tokens_rate: GaugeVec,
    processing: GaugeVec,
    deferred: GaugeVec,
    busy_slots: GaugeVec,
    /// By model.
    totals: Mutex<BTreeMap<String, Totals>>,
}

impl LlamaCpp {
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = CounterVec::new(Opts::new(format!("llamacpp:{name}"), help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, Error>(family)
        };
        let gauge = |name: &str, help: &str| {
            let family = GaugeVec::new(Opts::new(format!("llamacpp:{name}"), help), LABELS)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, Error>(family)
        };
        Ok(Self {
            prompt_tokens: counter("prompt_tokens_total", "Prompt tokens of ended requests", LABELS)?,
            prompt_tokens_cached: counter("prompt_tokens_cached_total", "Of these, from the cache", LABELS)?,
            prompt_seconds: counter("prompt_seconds_total", "Seconds of requests' prompts", LABELS)?,
            tokens_predicted: counter(
                "tokens_predicted_total",
                "Generated tokens of ended requests",
                LABELS,
            )?,
            tokens_predicted_seconds: counter(
                "tokens_predicted_seconds_total",
                "Seconds of requests' generation",
                LABELS,
            )?,
            decodes: counter("n_decode_total", "Steps", LABELS)?,
            tokens_max: counter("n_tokens_max", "Tokens of the longest ended request", LABELS)?,
            drafts: counter("spec_decode_num_drafts_total", "Drafts that were run", LABELS)?,
            draft_tokens: counter("spec_decode_num_draft_tokens_total", "Draft tokens run", LABELS)?,
            accepted_tokens: counter(
                "spec_decode_num_accepted_tokens_total",
                "Draft tokens that were right",
                LABELS,
            )?,
            accepted_tokens_at: counter(
                "spec_decode_num_accepted_tokens_per_pos_total",
                "Draft tokens that were right, by their position in the draft",
                POSITION_LABELS,
            )?,
            prompt_tokens_rate: gauge("prompt_tokens_seconds", "Prompt tokens a second of prompts")?,
            predicted_tokens_rate: gauge("predicted_tokens_seconds", "Tokens a second of generation")?,
            processing: gauge("requests_processing", "Requests that run")?,
            deferred: gauge("requests_deferred", "Requests that wait")?,
            busy_slots: gauge("n_busy_slots_per_decode", "Mean rows of a step")?,
            totals: Mutex::default(),
        })
    }

    pub fn step(&self, stats: &StepStats) {
        let labels = [stats.model.as_str()];
        self.decodes.with_label_values(&labels).inc();
        for draft in &stats.drafts {
            self.drafts.with_label_values(&labels).inc();
            self.draft_tokens.with_label_values(&labels).inc_by(f64::from(draft.tokens));
            self.accepted_tokens.with_label_values(&labels).inc_by(f64::from(draft.accepted));
            for position in 0..draft.accepted {
                let labels = [stats.model.as_str(), &position.to_string()];
                self.accepted_tokens_at.with_label_values(&labels).inc();
            }
        }
        let totals = self.add(&stats.model, |t| {
            t.steps += 1;
            t.rows += u64::from(stats.rows);
        });
        self.busy_slots.with_label_values(&labels).set(totals.rows as f64 / totals.steps.max(1) as f64);
    }

    pub fn request(&self, stats: &RequestStats) {
        let labels = [stats.model.as_str()];
        let tokens = stats.prompt_tokens + stats.completion_tokens;
        let mut longer = 0;
        let totals = self.add(&stats.model, |t| {
            t.prompt_tokens += u64::from(stats.prompt_tokens.saturating_sub(stats.cached_tokens));
            t.prompt_s += stats.prefill_s;
            t.predicted_tokens += u64::from(stats.completion_tokens);
            t.predicted_s += stats.decode_s;
            longer = tokens.saturating_sub(t.tokens_max);
            t.tokens_max += longer;
        });
        for (counter, more) in [
            (&self.prompt_tokens, f64::from(stats.prompt_tokens)),
            (&self.prompt_tokens_cached, f64::from(stats.cached_tokens)),
            (&self.prompt_seconds, stats.prefill_s),
            (&self.tokens_predicted, f64::from(stats.completion_tokens)),
            (&self.tokens_predicted_seconds, stats.decode_s),
            (&self.tokens_max, f64::from(longer)),
        ] {
            counter.with_label_values(&labels).inc_by(more);
        }
        for (gauge, tokens, seconds) in [
            (&self.prompt_tokens_rate, totals.prompt_tokens, totals.prompt_s),
            (&self.predicted_tokens_rate, totals.predicted_tokens, totals.predicted_s),
        ] {
            if seconds > 0.0 {
                gauge.with_label_values(&labels).set(tokens as f64 / seconds);
            }
        }
    }

    pub fn take(&self, model: &ModelSnapshot) {
        let labels = [model.model.as_str()];
        self.processing.with_label_values(&labels).set(f64::from(model.running));
        let deferred = model.waiting + model.swapped + model.suspended;
        self.deferred.with_label_values(&labels).set(f64::from(deferred));
    }

    /// Adds to a model's totals; models are those that are served, so the map is bounded.
    fn add(&self, model: &str, more: impl FnOnce(&mut Totals)) -> Totals {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let of_model = totals.entry(model.to_owned()).or_default();
        more(of_model);
        *of_model
    }
}
