//! What the agent can be told. Every limit is here, with its meaning and default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::AgentError;
use crate::fetch::pace::PAUSE_SECONDS_MAX;

/// All of it; each part is one section of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Fetching and following.
    pub scraping: ScrapingConfig,
    /// Which page asks which model.
    pub hybrid: HybridConfig,
    /// The paid endpoint.
    pub cloud: CloudConfig,
    /// Where things are kept.
    pub storage: StorageConfig,
}

/// Fetching and following.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapingConfig {
    /// How a site's owner reaches whoever runs this agent: an address or a page. Sent in the user agent.
    pub contact: Option<String>,
    /// Whether robots.txt is obeyed.
    pub obey_robots: bool,
    /// Whether loopback, private and link-local addresses may be fetched. Off, for a page must not make the agent read
    /// the network it runs in.
    pub allow_private: bool,
    /// Bytes of one page at most, after decompression.
    pub body_bytes_max: usize,
    /// Seconds to open a connection.
    pub connect_seconds_max: u64,
    /// Seconds for one request from start to last byte.
    pub fetch_seconds_max: u64,
    /// Redirects followed for one page.
    pub redirects_max: usize,
    /// Requests under way to one host.
    pub per_host: usize,
    /// Milliseconds between two requests to one host at least.
    pub delay_ms_min: u64,
    /// Milliseconds between two requests to one host at most, however slow it is or says it is.
    pub delay_ms_max: u64,
    /// Further tries, ever longer apart, after 408, 425, 429, 5xx, a broken connection or no answer in time.
    pub retries_max: u32,
    /// A host whose Retry-After is longer is left for a later run, with the reason; a day (86400) at most.
    pub retry_after_seconds_max: u64,
    /// Fetches under way over all hosts.
    pub fetches_in_flight: usize,
    /// Pages being understood and extracted at once; wide, so that the server can batch.
    pub extractions_in_flight: usize,
    /// Pages of one run at most, seeds included.
    pub pages_max: usize,
    /// Bytes of one run at most.
    pub bytes_max: u64,
    /// Links followed from a seed URL; 0 reads the seeds only, 2 reach postings from a home page.
    pub depth_max: u32,
    /// Further pages of one listing at most.
    pub paging_max: u32,
    /// Whether links to known applicant tracking systems (Greenhouse, Lever, …), and a listing's jobs there, are followed
    /// off the site. Nothing else ever is.
    pub follow_ats: bool,
    /// Saved pages taken from one folder at most.
    pub files_max: usize,
}

impl Default for ScrapingConfig {
    fn default() -> Self {
        Self {
            contact: None,
            obey_robots: true,
            allow_private: false,
            body_bytes_max: 5 << 20,
            connect_seconds_max: 10,
            fetch_seconds_max: 30,
            redirects_max: 8,
            per_host: 1,
            delay_ms_min: 1000,
            delay_ms_max: 60_000,
            retries_max: 2,
            retry_after_seconds_max: 120,
            fetches_in_flight: 8,
            extractions_in_flight: 6,
            pages_max: 200,
            bytes_max: 500 << 20,
            depth_max: 2,
            paging_max: 20,
            follow_ats: true,
            files_max: 10_000,
        }
    }
}

impl ScrapingConfig {
    /// Honest: the program, its version, and whom to reach.
    pub fn user_agent(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        match &self.contact {
            Some(contact) => format!("quarry-agent/{version} (job postings; contact: {contact})"),
            None => format!("quarry-agent/{version} (job postings; personal use)"),
        }
    }
}

/// Which page asks which model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HybridConfig {
    /// Prompts, as sent, of more tokens do not go to the local model.
    pub threshold_tokens: u32,
    /// The local model's name; absent takes the server's first.
    pub model: Option<String>,
    /// Answer tokens for one posting at most.
    pub answer_tokens_max: u32,
    /// Pieces that a page too long for one prompt is cut into at most.
    pub chunks_max: usize,
}

impl Default for HybridConfig {
    fn default() -> Self {
        Self { threshold_tokens: 8000, model: None, answer_tokens_max: 700, chunks_max: 12 }
    }
}

/// The paid endpoint; off until there is a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloudConfig {
    /// Whether it may be asked.
    pub enabled: bool,
    /// Any OpenAI-compatible endpoint, with the version part.
    pub base_url: String,
    /// The key; `main` fills it from the environment. Never written.
    #[serde(skip_serializing)]
    pub api_key: Option<String>,
    /// The model.
    pub model: String,
    /// `minimal`, `low`, `medium` or `high`.
    pub reasoning_effort: String,
    /// Answer tokens at most, reasoning included.
    pub completion_tokens_max: u32,
    /// Dollars in a calendar month (UTC) at most.
    pub budget_usd_month: f64,
    /// Dollars per million tokens, by model. A model that is not here is refused, for its cost cannot be bounded.
    pub prices: BTreeMap<String, Price>,
}

impl Default for CloudConfig {
    fn default() -> Self {
        let price = |input, output| Price { input_usd_per_million: input, output_usd_per_million: output };
        let prices = [
            ("gpt-5", price(1.25, 10.0)),
            ("gpt-5-mini", price(0.25, 2.0)),
            ("gpt-5-nano", price(0.05, 0.40)),
        ];
        Self {
            enabled: false,
            base_url: "https://api.openai.com/v1".to_owned(),
            api_key: None,
            model: "gpt-5".to_owned(),
            reasoning_effort: "low".to_owned(),
            completion_tokens_max: 4000,
            budget_usd_month: 5.0,
            prices: prices.into_iter().map(|(name, price)| (name.to_owned(), price)).collect(),
        }
    }
}

/// What tokens cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Prompt tokens.
    pub input_usd_per_million: f64,
    /// Answer tokens, reasoning included.
    pub output_usd_per_million: f64,
}

impl Price {
    /// What a request of that many tokens costs.
    pub fn cost_usd(&self, prompt: u32, completion: u32) -> f64 {
        (f64::from(prompt) * self.input_usd_per_million + f64::from(completion) * self.output_usd_per_million)
            / 1e6
    }
}

/// Where things are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// The folder of the database and the page cache; made if absent.
    pub data_dir: PathBuf,
    /// Bytes of bodies in the page cache at most; the oldest go first.
    pub page_cache_bytes_max: u64,
    /// Bytes of cleaned page texts at most, packed, that evidence is quoted from; what no observation needs any more
    /// goes first, the oldest first. 0 keeps none.
    pub evidence_bytes_max: u64,
    /// Seconds without a sign of life after which another process takes a page over.
    pub lease_seconds: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("quarry-data"),
            page_cache_bytes_max: 256 << 20,
            evidence_bytes_max: 256 << 20,
            lease_seconds: 30,
        }
    }
}

impl AgentConfig {
    /// Checks every limit.
    pub fn check(&self) -> Result<(), AgentError> {
        let s = &self.scraping;
        let positive = [
            ("scraping.body_bytes_max", s.body_bytes_max as u64),
            ("scraping.connect_seconds_max", s.connect_seconds_max),
            ("scraping.fetch_seconds_max", s.fetch_seconds_max),
            ("scraping.per_host", s.per_host as u64),
            ("scraping.fetches_in_flight", s.fetches_in_flight as u64),
            ("scraping.extractions_in_flight", s.extractions_in_flight as u64),
            ("scraping.pages_max", s.pages_max as u64),
            ("scraping.bytes_max", s.bytes_max),
            ("scraping.files_max", s.files_max as u64),
            ("hybrid.threshold_tokens", u64::from(self.hybrid.threshold_tokens)),
            ("hybrid.answer_tokens_max", u64::from(self.hybrid.answer_tokens_max)),
            ("hybrid.chunks_max", self.hybrid.chunks_max as u64),
            ("cloud.completion_tokens_max", u64::from(self.cloud.completion_tokens_max)),
            ("storage.lease_seconds", self.storage.lease_seconds),
        ];
        let bad = |key: &str, why: String| Err(AgentError::Config { key: key.to_owned(), why });
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return bad(key, "must not be 0".to_owned());
        }
        if s.delay_ms_min > s.delay_ms_max {
            return bad(
                "scraping.delay_ms_min",
                format!("is above scraping.delay_ms_max = {}", s.delay_ms_max),
            );
        }
        let pauses = [
            ("scraping.retry_after_seconds_max", s.retry_after_seconds_max),
            ("scraping.delay_ms_max", s.delay_ms_max / 1000),
        ];
        if let Some((key, _)) = pauses.iter().find(|(_, seconds)| *seconds > PAUSE_SECONDS_MAX) {
            return bad(key, format!("is longer than a day ({PAUSE_SECONDS_MAX} s)"));
        }
        let budget = self.cloud.budget_usd_month;
        if !budget.is_finite() || budget < 0.0 {
            return bad("cloud.budget_usd_month", format!("{budget} is no sum of money"));
        }
        if self.cloud.enabled && !self.cloud.prices.contains_key(&self.cloud.model) {
            return bad(
                "cloud.prices",
                format!("has no price for {}, so its cost cannot be bounded", self.cloud.model),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_nonsense_is_named() {
        let mut config = AgentConfig::default();
        config.check().unwrap();
        config.cloud.enabled = true;
        config.cloud.model = "unknown".to_owned();
        assert!(config.check().unwrap_err().to_string().contains("cloud.prices"));
        config.cloud.enabled = false;
        config.scraping.delay_ms_min = config.scraping.delay_ms_max + 1;
        assert!(config.check().unwrap_err().to_string().contains("delay_ms_min"));
        config.scraping.delay_ms_min = 0;
        config.scraping.retry_after_seconds_max = u64::MAX;
        assert!(config.check().unwrap_err().to_string().contains("retry_after_seconds_max"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = serde_json::from_str::<AgentConfig>(r#"{"scraping": {"delay": 1}}"#).unwrap_err();
        assert!(error.to_string().contains("delay"), "{error}");
    }
}
