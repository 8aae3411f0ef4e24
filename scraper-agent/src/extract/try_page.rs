//! The tries at one page, in the order that `route` decides, each accounted for as an [`Attempt`].

mod pieces;

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use quarry_openapi::{ChatRequest, ChatResponse};

use crate::attempt::{Attempt, AttemptResult, Tokens};
use crate::chat::{ChatError, ChatErrorKind};
use crate::extract::{Resources, cloud, prompt};
use crate::facts::{Choice, Resolved};
use crate::posting::{PageKind, Posting, Route};
use crate::reading::{Checked, Reading};
use crate::route::{CloudState, Facts};
use crate::store::Reservation;
use crate::tokens::{self, ByteBound, TokenCount};

/// How a page ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The way that gave the result.
    pub route: Route,
    /// Why.
    pub reason: String,
    /// What was found.
    pub postings: Vec<Posting>,
    /// What was dropped, and what went wrong.
    pub warnings: Vec<String>,
    /// Why a posting's values are what they are, one line a field.
    pub why: Vec<String>,
}

impl Outcome {
    fn new(route: Route, reason: String, postings: Vec<Posting>, warnings: Vec<String>) -> Self {
        Self { route, reason, postings, warnings, why: Vec::new() }
    }

    fn because(mut self, resolved: &Resolved) -> Self {
        let line =
            |choice: &Choice| format!("{}: {} ({} points)", choice.field.name(), choice.why, choice.score);
        self.why = resolved.choices.iter().map(line).collect();
        self
    }
}

/// A page under way.
pub struct Extraction<'a> {
    resources: &'a Resources,
    reading: &'a Arc<Reading>,
    dry_run: bool,
    /// The whole page's prompt.
    prompt: Option<TokenCount>,
    /// The model's server took a prompt of so many tokens for too long.
    is_too_long: bool,
    attempts: Vec<Attempt>,
    /// Fields that the digest left open.
    digest: Option<Vec<&'static str>>,
    local_failures: u32,
    is_cut: bool,
    has_cloud_failed: bool,
    /// How the local model's server failed: it says nothing about the page, which is left for later.
    local_server_failure: Option<String>,
    /// What the last refused try answered, and why it was refused.
    refused: Option<(String, Vec<String>)>,
    /// The refused try with the fewest problems.
    best: Option<(Route, Checked)>,
    outcome: Option<Outcome>,
}

/// An answer with what it took.
struct Answered {
    text: Result<String, ChatError>,
    tokens: Tokens,
    seconds: f64,
}

impl<'a> Extraction<'a> {
    /// Nothing tried yet.
    pub fn new(resources: &'a Resources, reading: &'a Arc<Reading>, dry_run: bool) -> Self {
        Self {
            resources,
            reading,
            dry_run,
            prompt: None,
            is_too_long: false,
            attempts: Vec::new(),
            digest: None,
            local_failures: 0,
            is_cut: false,
            has_cloud_failed: false,
            local_server_failure: None,
            refused: None,
            best: None,
            outcome: None,
        }
    }

    /// What `route::decide` wants to know. The prompt is counted once, and only where a model may be asked.
    pub async fn facts(&mut self) -> Facts {
        let config = &self.resources.config;
        let structure = self.reading.structure();
        let asks = matches!(self.reading.kind(), PageKind::Posting | PageKind::Listing) && structure.is_err();
        let prompt = match self.prompt {
            Some(prompt) => prompt,
            None if !asks => TokenCount { tokens: 0, is_exact: true, prompt_tokens_max: None },
            None => {
                let request = self.request();
                match &self.resources.models.local {
                    Some(local) => local.counter.count(&request).await,
                    None => tokens::estimate(&request),
                }
            }
        };
        self.prompt = Some(prompt);
        let counted = prompt;
        let prompt = TokenCount { tokens: if self.is_too_long { u32::MAX } else { prompt.tokens }, ..prompt };
        let has_cloud = self.resources.models.cloud.is_some() || self.dry_run;
        let state =
            cloud::state(&config.cloud, has_cloud, counted.tokens, &self.resources.store, Utc::now()).await;
        let cloud = match state {
            _ if self.has_cloud_failed => CloudState::Failed,
            Ok(state) => state,
            Err(error) => {
                tracing::error!(%error, "the month's costs cannot be read; the cloud is not asked");
                CloudState::Off
            }
        };
        Facts {
            kind: self.reading.kind(),
            structure,
            prompt,
            threshold_tokens: self.room(),
            digest: self.digest.clone().or_else(|| self.resources.models.local.is_none().then(Vec::new)),
            local_failures: self.local_failures,
            is_cut: self.is_cut,
            cloud,
        }
    }

    /// Tokens that a local prompt may have: the threshold, or what the model's context leaves.
    fn room(&self) -> u32 {
        let room = self.prompt.and_then(|prompt| prompt.prompt_tokens_max).unwrap_or(u32::MAX);
        self.resources.config.hybrid.threshold_tokens.min(room)
    }

    fn request(&self) -> ChatRequest {
        match self.reading.label_question() {
            Some(question) => prompt::label(self.model(), &question),
            None => self.posting_request(self.reading.markdown()),
        }
    }

    fn posting_request(&self, text: &str) -> ChatRequest {
        let answer_max = self.resources.config.hybrid.answer_tokens_max;
        prompt::posting(self.model(), self.reading, text, &self.reading.open_fields(), answer_max)
    }

    fn model(&self) -> &str {
        self.resources.models.local.as_ref().map_or("", |local| local.name.as_str())
    }

    /// The result, once a try holds.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// How the local model's server failed, where it did.
    pub fn local_server_failure(&self) -> Option<&str> {
        self.local_server_failure.as_deref()
    }

    /// Every try, in order.
    pub fn into_attempts(self) -> Vec<Attempt> {
        self.attempts
    }

    /// What the structure declares.
    pub fn structure(&mut self, reason: String) -> Outcome {
        let started = Instant::now();
        let (postings, warnings) = self.reading.declared();
        self.attempts.push(Attempt {
            route: Route::ZeroToken,
            reason: reason.clone(),
            tokens: Tokens::default(),
            cost_usd: 0.0,
            seconds: started.elapsed().as_secs_f64(),
            result: AttemptResult::Done(postings.len()),
        });
        Outcome::new(Route::ZeroToken, reason, postings, warnings).because(self.reading.resolved())
    }

    /// One try with the local model; after a refusal with the problems in the prompt.
    pub async fn local(&mut self, reason: String) {
        let mut request = self.request();
        if let Some((answer, problems)) = &self.refused {
            prompt::add_problems(&mut request, answer, problems);
        }
        if self.plans(Route::Local, &reason) {
            return;
        }
        let answered = self.ask_local(&request).await;
        if let Err(error) = &answered.text
            && error.kind == ChatErrorKind::TooLong
        {
            self.is_too_long = true;
        }
        self.note_server(&answered);
        let checked = self.check(answered.text.as_ref()).await;
        self.account(Route::Local, reason, answered, 0.0, checked);
    }

    /// One try with the paid model; requests that found it unavailable are sent again a few times.
    pub async fn cloud(&mut self, reason: String) {
        if self.plans(Route::Cloud, &reason) {
            return;
        }
        let config = &self.resources.config.cloud;
        let mut request = self.request();
        if let Some((answer, problems)) = &self.refused {
            prompt::add_problems(&mut request, answer, problems);
        }
        let request = cloud::request(config, &request);
        // The answer that is sent along is in the bound as well.
        let bound = ByteBound::bound(&request)
            .tokens
            .min(self.prompt.map_or(u32::MAX, |p| p.tokens).saturating_mul(2));
        let Some(client) = self.resources.models.cloud.clone() else {
            self.has_cloud_failed = true;
            return;
        };
        let mut tries = 0;
        loop {
            tries += 1;
            // Each request is billed by itself, so each sets its own cost aside.
            let reservation = match self.reserve(bound).await {
                Ok(reservation) => reservation,
                Err(why) => return self.no_cloud(reason, why),
            };
            let started = Instant::now();
            let answered = answered(client.chat(&request).await, started);
            let price = config.prices.get(&config.model);
            let cost =
                price.map_or(0.0, |price| price.cost_usd(answered.tokens.prompt, answered.tokens.completion));
            // Without an answer nobody knows what was billed: the estimate stays counted.
            if answered.text.is_ok()
                && let Err(error) = self.resources.store.settle_cost(reservation, cost).await
            {
                tracing::error!(%error, "a paid request stays counted at its estimate");
            }
            let pause = answered.text.as_ref().err().and_then(|error| cloud::pause(tries, error));
            let checked = self.check(answered.text.as_ref()).await;
            self.has_cloud_failed = checked.as_ref().map_or(true, |checked| !checked.problems.is_empty());
            self.account(Route::Cloud, reason.clone(), answered, cost, checked);
            let Some(pause) = pause else { return };
            tokio::time::sleep(pause).await;
        }
    }

    /// Sets the most that one paid request can cost aside, or says why it may not be sent.
    async fn reserve(&self, prompt_tokens_max: u32) -> Result<Reservation, String> {
        let config = &self.resources.config.cloud;
        let cost = cloud::cost_usd_max(config, prompt_tokens_max)
            .ok_or_else(|| format!("{} has no price", config.model))?;
        let store = &self.resources.store;
        let reserved = store.reserve_cost(&config.model, cost, config.budget_usd_month, Utc::now()).await;
        reserved.map_err(|error| error.to_string())?.map_err(|exceeded| {
            let (asked, spent) = (exceeded.asked_usd, exceeded.spent_usd);
            format!("{asked:.4} USD would pass the budget: {spent:.4} are spent")
        })
    }

    fn no_cloud(&mut self, reason: String, why: String) {
        self.has_cloud_failed = true;
        self.attempts.push(Attempt {
            route: Route::Cloud,
            reason,
            tokens: Tokens::default(),
            cost_usd: 0.0,
            seconds: 0.0,
            result: AttemptResult::Failed(why),
        });
    }

    /// The local model names the fields of one record; all records follow.
    pub async fn label(&mut self, reason: String) {
        if self.reading.label_question().is_none() {
            self.local_failures += 1;
            return;
        }
        if self.plans(Route::Local, &reason) {
            return;
        }
        let answered = self.ask_local(&self.request()).await;
        self.note_server(&answered);
        let labelled = match &answered.text {
            Ok(text) => self.reading.apply_labels(text),
            Err(error) => Err(error.to_string()),
        };
        let result = match &labelled {
            Ok(postings) => AttemptResult::Done(postings.len()),
            Err(why) => AttemptResult::Failed(why.clone()),
        };
        self.attempts.push(Attempt {
            route: Route::Local,
            reason: reason.clone(),
            tokens: answered.tokens,
            cost_usd: 0.0,
            seconds: answered.seconds,
            result,
        });
        match labelled {
            Ok(postings) => {
                self.outcome = Some(Outcome::new(Route::Local, reason, postings, Vec::new()));
            }
            Err(_) if self.local_server_failure.is_some() => {}
            Err(_) => self.local_failures += 1,
        }
    }

    /// The page waits for a server that answers. What its structure declares is kept meanwhile.
    pub fn leave(&mut self, why: &str) -> Outcome {
        let (postings, warnings) = self.reading.declared();
        let route = if postings.is_empty() { Route::None } else { Route::ZeroToken };
        let reason = format!("the local model's server failed ({why}); left for a later run");
        Outcome::new(route, reason, postings, warnings)
    }

    /// No way is left: the best refused try, else what the structure declares, else nothing.
    pub fn give_up(&mut self, reason: String) -> Outcome {
        let kind = self.reading.kind();
        if matches!(kind, PageKind::None | PageKind::Hub) {
            let reason = self.reading.gate_reason().to_owned();
            return Outcome::new(Route::None, reason, Vec::new(), Vec::new());
        }
        if let Some((route, checked)) =
            self.best.take().filter(|(_, checked)| checked.resolved.posting.title.is_some())
        {
            let reason = format!("{reason}; kept without {} refused values", checked.problems.len());
            let postings = vec![checked.resolved.posting.clone()];
            return Outcome::new(route, reason, postings, checked.problems).because(&checked.resolved);
        }
        let (postings, mut warnings) = self.reading.declared();
        let route = if postings.is_empty() { Route::None } else { Route::ZeroToken };
        warnings.push(format!("to be looked at: {reason}"));
        Outcome::new(route, reason, postings, warnings)
    }

    /// A dry run stops at its first try.
    fn plans(&mut self, route: Route, reason: &str) -> bool {
        if self.dry_run {
            let tokens = Tokens {
                prompt: self.prompt.map_or(0, |prompt| prompt.tokens),
                completion: 0,
                is_estimate: self.prompt.is_some_and(|prompt| !prompt.is_exact),
            };
            self.attempts.push(Attempt {
                route,
                reason: reason.to_owned(),
                tokens,
                cost_usd: 0.0,
                seconds: 0.0,
                result: AttemptResult::Planned,
            });
            let reason = reason.to_owned();
            self.outcome = Some(Outcome::new(route, reason, Vec::new(), Vec::new()));
        }
        self.dry_run
    }

    async fn ask_local(&self, request: &ChatRequest) -> Answered {
        let started = Instant::now();
        let Some(local) = &self.resources.models.local else {
            let text = Err(ChatError::of_request("there is no local model"));
            return Answered { text, tokens: Tokens::default(), seconds: 0.0 };
        };
        answered(local.chat.chat(request).await, started)
    }

    fn note_server(&mut self, answered: &Answered) {
        if let Err(error) = &answered.text
            && error.kind == ChatErrorKind::Unavailable
        {
            self.local_server_failure = Some(error.message.clone());
        }
    }

    /// Verifying folds and searches the whole page: work for a thread that may take its time.
    async fn check(&self, text: Result<&String, &ChatError>) -> Result<Checked, String> {
        let text = text.map_err(ToString::to_string)?.clone();
        let reading = Arc::clone(self.reading);
        let checked = tokio::task::spawn_blocking(move || reading.check(&text)).await;
        checked.unwrap_or_else(|error| Err(format!("the verifier stopped: {error}")))
    }

    fn account(
        &mut self,
        route: Route,
        reason: String,
        answered: Answered,
        cost_usd: f64,
        checked: Result<Checked, String>,
    ) {
        let result = result_of(&checked);
        let Answered { text, tokens, seconds } = answered;
        self.attempts.push(Attempt { route, reason: reason.clone(), tokens, cost_usd, seconds, result });
        match checked {
            Ok(checked) if checked.problems.is_empty() => {
                let postings = vec![checked.resolved.posting.clone()];
                let outcome = Outcome::new(route, reason, postings, checked.notes);
                self.outcome = Some(outcome.because(&checked.resolved));
            }
            Ok(checked) => {
                self.local_failures += u32::from(route == Route::Local);
                self.refused = text.ok().map(|answer| (answer, checked.problems.clone()));
                let is_better =
                    self.best.as_ref().is_none_or(|(_, best)| checked.problems.len() < best.problems.len());
                if is_better {
                    self.best = Some((route, checked));
                }
            }
            Err(why) => {
                // A prompt that is too long says nothing of the model.
                let is_tried =
                    route == Route::Local && self.local_server_failure.is_none() && !self.is_too_long;
                self.local_failures += u32::from(is_tried);
                self.refused = text.ok().map(|answer| (answer, vec![why]));
            }
        }
    }
}

fn result_of(checked: &Result<Checked, String>) -> AttemptResult {
    match checked {
        Ok(checked) if checked.problems.is_empty() => AttemptResult::Done(1),
        Ok(checked) => AttemptResult::Refused(checked.problems.clone()),
        Err(why) => AttemptResult::Failed(why.clone()),
    }
}

fn answered(response: Result<ChatResponse, ChatError>, started: Instant) -> Answered {
    let seconds = started.elapsed().as_secs_f64();
    match response {
        Ok(response) => {
            let tokens = Tokens {
                prompt: response.usage.prompt_tokens,
                completion: response.usage.completion_tokens,
                is_estimate: false,
            };
            let text = response
                .text()
                .map(str::to_owned)
                .ok_or_else(|| ChatError::of_request("the answer has no text"));
            Answered { text, tokens, seconds }
        }
        Err(error) => Answered { text: Err(error), tokens: Tokens::default(), seconds },
    }
}
