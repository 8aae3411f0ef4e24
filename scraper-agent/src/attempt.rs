//! One try at a page, as stored and explained, and the finished page as printed.

use serde::{Deserialize, Serialize};

use crate::posting::{PageKind, Posting, Route};

/// Prompt and answer tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// As the server counted them; before a request, as its tokenizer counts them.
    pub prompt: u32,
    /// Answer tokens, reasoning included.
    pub completion: u32,
    /// No tokenizer counted them. Left out of the JSON where one did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_estimate: bool,
}

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        self.prompt = self.prompt.saturating_add(other.prompt);
        self.completion = self.completion.saturating_add(other.completion);
        self.is_estimate = self.is_estimate || other.is_estimate;
    }
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", content = "detail", rename_all = "snake_case")]
pub enum AttemptResult {
    /// With that many postings.
    Done(usize),
    /// The verifier refused it, and why.
    Refused(Vec<String>),
    /// No answer, and why.
    Failed(String),
    /// Counted, not asked (`--dry-run`).
    Planned,
}

/// One try at a page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which way.
    pub route: Route,
    /// Why that way.
    pub reason: String,
    /// What it took.
    pub tokens: Tokens,
    /// What it cost.
    pub cost_usd: f64,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub result: AttemptResult,
}

/// A finished page, in the shape of the JSON output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageResult {
    /// The path or address as it was asked for.
    pub source: String,
    /// What the page is.
    pub kind: PageKind,
    /// Which way it went last.
    pub route: Route,
    /// Why it is that kind and went that way, or what failed.
    pub reason: String,
    /// Of all tries.
    pub tokens: Tokens,
    /// From cleaning to the result, waiting for a model included; without fetching.
    pub seconds: f64,
    /// Of all tries.
    pub cost_usd: f64,
    /// What was found.
    pub postings: Vec<Posting>,
    /// What was dropped, and what went wrong on the way.
    pub warnings: Vec<String>,
}

/// What a page says of the job whose own page it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The job is gone: the page says so, or there is no page.
    Gone,
    /// It is no posting.
    NoPosting,
}

/// A finished page with what led to it, for the store, `--explain` and the evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageReport {
    /// As printed.
    pub page: PageResult,
    /// Every try, in order.
    pub attempts: Vec<Attempt>,
    /// Why the page was read: a seed, or a link and from where.
    pub found: String,
    /// What the gate saw.
    pub gate_reason: String,
    /// Why a posting's values are what they are, one line a field.
    #[serde(default)]
    pub why: Vec<String>,
    /// The cleaned text's length in bytes; 0 where there was no page.
    pub markdown_bytes: usize,
    /// The cleaned text, for the store alone, which keeps it apart; empty in a report that was read back.
    #[serde(skip)]
    pub markdown: String,
    /// What it says of the job whose page it should be, where it is no posting.
    #[serde(default)]
    pub refusal: Option<Refusal>,
    /// It failed for a reason that may pass (its host or the model's server was down): a later run reads it again.
    #[serde(default)]
    pub left_for_later: bool,
    /// How the local model's server failed, where that is why the page is left.
    #[serde(default)]
    pub local_server_failure: Option<String>,
}

impl PageReport {
    /// A page that could not be got or read.
    pub fn failed(source: String, found: String, why: String) -> Self {
        let page = PageResult {
            source,
            kind: PageKind::None,
            route: Route::None,
            reason: why,
            tokens: Tokens::default(),
            seconds: 0.0,
            cost_usd: 0.0,
            postings: Vec::new(),
            warnings: Vec::new(),
        };
        let gate_reason = String::new();
        Self {
            page,
            attempts: Vec::new(),
            found,
            gate_reason,
            why: Vec::new(),
            markdown_bytes: 0,
            markdown: String::new(),
            refusal: None,
            left_for_later: false,
            local_server_failure: None,
        }
    }
}
