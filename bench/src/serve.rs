//! `bench serve`: load on any OpenAI-compatible server, streaming, several servers in turns.
//!
//! ```text
//! closed loop    `clients` requests at any time; the next begins when one ends
//! arrivals       at `rate` a second, exponential pauses, whatever is still running
//! a request      random words, so that no prefix is shared; greedy; `output_tokens` whatever the model would say
//! measured       first piece of text, pauses between pieces, the end; tokens as the server counts them
//! ```
//! The requests are split into turns: each server gets the same ones, and the order of servers turns.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use quarry_client::retry::RetryPolicy;
use quarry_client::{Client, ClientError, ClientOptions};
use quarry_openapi::{ChatMessage, ChatRequest};
use serde::Serialize;
use tokio::time::Instant;

use crate::random::Random;
use crate::spread::Percentiles;

/// Bounds: a number with too many digits should be an error, not a load.
const REQUESTS_MAX: usize = 100_000;
const CLIENTS_MAX: usize = 4096;
const PROMPT_TOKENS_MAX: usize = 1 << 20;
/// Tokens of template and instruction around the words, about.
const AROUND: usize = 24;
/// Short common words: one token each in most vocabularies.
const WORDS: [&str; 64] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company", "system", "program", "question", "work", "number", "night", "point", "home", "water", "room",
    "mother", "area", "money", "story", "fact", "month", "lot", "right", "study", "book", "eye", "job",
    "word", "business", "issue", "side", "kind", "head", "house", "service", "friend", "father", "power",
    "hour", "game", "line", "end", "member", "law", "car",
];

/// What to ask.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Requests at any time, in a closed loop.
    pub clients: usize,
    /// Requests to each server.
    pub requests: usize,
    /// Prompt tokens, about.
    pub prompt_tokens: usize,
    /// Answer tokens.
    pub output_tokens: u32,
    /// Arrivals a second instead of a closed loop.
    pub rate: Option<f64>,
    /// Parts that the requests are split into.
    pub turns: usize,
    /// Of words and arrivals.
    pub seed: u64,
    /// Answers may end before `output_tokens`.
    pub may_stop: bool,
}

impl Load {
    fn check(&self) -> anyhow::Result<()> {
        if self.requests == 0 || self.requests > REQUESTS_MAX {
            bail!("requests are 1 to {REQUESTS_MAX}");
        }
        if self.clients == 0 || self.clients > CLIENTS_MAX {
            bail!("clients are 1 to {CLIENTS_MAX}");
        }
        if self.prompt_tokens > PROMPT_TOKENS_MAX || self.output_tokens == 0 {
            bail!("prompt tokens are at most {PROMPT_TOKENS_MAX}, output tokens at least 1");
        }
        if self.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            bail!("a rate is above 0");
        }
        if self.turns == 0 || self.turns > self.requests {
            bail!("turns are 1 to the number of requests");
        }
        Ok(())
    }

    /// The requests of a turn.
    fn turn(&self, turn: usize) -> Range<usize> {
        self.requests * turn / self.turns..self.requests * (turn + 1) / self.turns
    }

    fn request(&self, model: &str, number: usize) -> ChatRequest {
        let mut random = Random::new(self.seed ^ (number as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let count = self.prompt_tokens.saturating_sub(AROUND).max(1);
        let words: Vec<&str> = (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect();
        let text = format!("{}\nContinue this list of words.", words.join(" "));
        ChatRequest {
            model: model.to_owned(),
            messages: vec![ChatMessage::user(&text)],
            temperature: Some(0.0),
            max_tokens: Some(self.output_tokens),
            ignore_eos: (!self.may_stop).then_some(true),
            ..ChatRequest::default()
        }
    }

    /// When each request of a turn begins, in seconds from the turn's begin; all 0 in a closed loop.
    fn arrivals(&self, turn: usize) -> Vec<f64> {
        let count = self.turn(turn).len();
        let Some(rate) = self.rate else { return vec![0.0; count] };
        let mut random = Random::new(self.seed.wrapping_add(turn as u64 + 1));
        let mut at = 0.0;
        let arrival = |_| {
            let now = at;
            at += random.exponential() / rate;
            now
        };
        (0..count).map(arrival).collect()
    }
}

/// One server's figures. Times in seconds.
#[derive(Debug, Serialize)]
pub struct ServeReport {
    /// Where.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Requests answered.
    pub answered: usize,
    /// Requests that failed.
    pub failed: usize,
    /// The first failure.
    pub failure: Option<String>,
    /// Time with requests under way.
    pub seconds: f64,
    /// Mean prompt tokens a request, as the server counts.
    pub prompt_tokens: f64,
    /// Mean answer tokens a request, as the server counts; pieces where it does not.
    pub output_tokens: f64,
    /// Answer tokens of all requests by the time.
    pub output_tokens_per_second: f64,
    /// Requests by the time.
    pub requests_per_second: f64,
    /// From request to the first piece of text.
    pub ttft: Percentiles,
    /// Between two pieces of text.
    pub inter_token: Percentiles,
    /// From request to the end.
    pub end_to_end: Percentiles,
}

struct Endpoint {
    url: String,
    model: String,
    client: Client,
    seconds: f64,
    answers: Vec<Answer>,
    failed: usize,
    failure: Option<String>,
}

/// One request's times.
struct Answer {
    first: f64,
    pauses: Vec<f64>,
    end: f64,
    prompt_tokens: u32,
    output_tokens: u32,
}

/// Drives every server; `progress` hears `(done, total)` requests.
pub async fn run(
    load: &Load,
    urls: &[String],
    progress: &dyn Fn(usize, usize),
) -> anyhow::Result<Vec<ServeReport>> {
    load.check()?;
    let mut endpoints = Vec::new();
    for url in urls {
        endpoints.push(connect(url).await.with_context(|| url.clone())?);
    }
    let total = load.requests * endpoints.len();
    let mut done = 0;
    for turn in 0..load.turns {
        for offset in 0..endpoints.len() {
            let index = (turn + offset) % endpoints.len();
            drive(load, &mut endpoints[index], turn, &mut || {
                done += 1;
                progress(done, total);
            })
            .await;
        }
    }
    Ok(endpoints.into_iter().map(report).collect())
}

async fn connect(url: &str) -> anyhow::Result<Endpoint> {
    let mut options = ClientOptions::new(url);
    options.idle_timeout = Duration::from_secs(600); // a rival may send nothing while it reads a prompt
    options.retry = RetryPolicy::never(); // a refusal is a result here
    let client = Client::new(options)?;
    let model = client.models().await?.into_iter().next().context("lists no model")?.id;
    // So that no server pays for its first touch of the weights.
    let request = ChatRequest {
        model: model.clone(),
        messages: vec![ChatMessage::user("Count from one to twenty.")],
        temperature: Some(0.0),
        max_tokens: Some(8),
        ..ChatRequest::default()
    };
    client.chat(&request).await?;
    let (seconds, answers, failed, failure) = (0.0, Vec::new(), 0, None);
    Ok(Endpoint { url: url.to_owned(), model, client, seconds, answers, failed, failure })
}

async fn drive(load: &Load, endpoint: &mut Endpoint, turn: usize, done: &mut dyn FnMut()) {
    let begun = Instant::now();
    let (client, model) = (&endpoint.client, &endpoint.model);
    let asked = load.turn(turn).zip(load.arrivals(turn)).map(|(number, at)| async move {
        tokio::time::sleep_until(begun + Duration::from_secs_f64(at)).await;
        ask(client, &load.request(model, number)).await
    });
    let at_once = if load.rate.is_some() { load.requests } else { load.clients };
    let mut results = futures::stream::iter(asked).buffer_unordered(at_once);
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    while let Some(result) = results.next().await {
        match result {
            Ok(answer) => answers.push(answer),
            Err(error) => failures.push(error.to_string()),
        }
        done();
    }
    drop(results);
    endpoint.seconds += begun.elapsed().as_secs_f64();
    endpoint.answers.extend(answers);
    endpoint.failed += failures.len();
    endpoint.failure = endpoint.failure.take().or_else(|| failures.into_iter().next());
}

async fn ask(client: &Client, request: &ChatRequest) -> Result<Answer, ClientError> {
    let begun = Instant::now();
    let mut stream = client.chat_stream(request).await?;
    let (mut pieces, mut usage) = (Vec::new(), None);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        let has_text = chunk.choices.iter().any(|choice| {
            let delta = &choice.delta;
            let texts = [&delta.content, &delta.reasoning_content, &delta.reasoning];
            texts.into_iter().flatten().any(|text| !text.is_empty())
        });
        if has_text {
            pieces.push(begun.elapsed().as_secs_f64());
        }
        usage = chunk.usage.or(usage);
    }
    let end = begun.elapsed().as_secs_f64();
    Ok(Answer {
        first: pieces.first().copied().unwrap_or(end),
        pauses: pieces.windows(2).map(|pair| pair[1] - pair[0]).collect(),
        end,
        prompt_tokens: usage.as_ref().map_or(0, |usage| usage.prompt_tokens),
        output_tokens: usage.as_ref().map_or(pieces.len() as u32, |usage| usage.completion_tokens),
    })
}

fn report(endpoint: Endpoint) -> ServeReport {
    let answers = &endpoint.answers;
    let sum = |value: fn(&Answer) -> u32| answers.iter().map(|a| f64::from(value(a))).sum::<f64>();
    let (count, seconds) = (answers.len().max(1) as f64, endpoint.seconds.max(1e-9));
    let all = |value: fn(&Answer) -> f64| Percentiles::of(&answers.iter().map(value).collect::<Vec<_>>());
    let pauses: Vec<f64> = answers.iter().flat_map(|answer| answer.pauses.iter().copied()).collect();
    ServeReport {
        answered: answers.len(),
        failed: endpoint.failed,
        seconds: endpoint.seconds,
        prompt_tokens: sum(|a| a.prompt_tokens) / count,
        output_tokens: sum(|a| a.output_tokens) / count,
        output_tokens_per_second: sum(|a| a.output_tokens) / seconds,
        requests_per_second: answers.len() as f64 / seconds,
        ttft: all(|a| a.first),
        inter_token: Percentiles::of(&pauses),
        end_to_end: all(|a| a.end),
        url: endpoint.url,
        model: endpoint.model,
        failure: endpoint.failure,
    }
}

/// The figures beside each other.
pub fn table(reports: &[ServeReport]) -> String {
    let mut text = format!(
        "{:<32} {:>6} {:>6} {:>7} {:>7} {:>8} {:>6}  {:<22} {:<22} {:<22}\n",
        "SERVER",
        "OK",
        "FAILED",
        "PROMPT",
        "ANSWER",
        "TOK/S",
        "REQ/S",
        "TTFT s p50/90/99",
        "NEXT ms p50/90/99",
        "END s p50/90/99"
    );
    let three =
        |p: &Percentiles, unit: f64| format!("{:.2}/{:.2}/{:.2}", p.p50 * unit, p.p90 * unit, p.p99 * unit);
    for one in reports {
        text.push_str(&format!(
            "{:<32} {:>6} {:>6} {:>7.0} {:>7.0} {:>8.1} {:>6.2}  {:<22} {:<22} {:<22}\n",
            one.url,
            one.answered,
            one.failed,
            one.prompt_tokens,
            one.output_tokens,
            one.output_tokens_per_second,
            one.requests_per_second,
            three(&one.ttft, 1.0),
            three(&one.inter_token, 1e3),
            three(&one.end_to_end, 1.0),
        ));
        if let Some(failure) = &one.failure {
            text.push_str(&format!("    first failure: {failure}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load {
            clients: 2,
            requests: 10,
            prompt_tokens: 60,
            output_tokens: 5,
            rate: None,
            turns: 3,
            seed: 1,
            may_stop: false,
        }
    }

    #[test]
    fn turns_share_the_requests() {
        let turns: Vec<_> = (0..3).flat_map(|turn| load().turn(turn)).collect();
        assert_eq!(turns, (0..10).collect::<Vec<_>>());
        assert_eq!(load().arrivals(0), [0.0; 3]);
        let open = Load { rate: Some(100.0), requests: 3000, turns: 1, ..load() };
        let arrivals = open.arrivals(0);
        assert!(arrivals.is_sorted() && arrivals[0] == 0.0 && (arrivals[2999] - 30.0).abs() < 3.0);
    }

    #[test]
    fn requests_differ_and_are_the_same_again() {
        let request = |number| load().request("m", number);
        assert_eq!(request(1), request(1));
        assert_ne!(request(1).messages, request(2).messages);
        assert_eq!((request(1).max_tokens, request(1).ignore_eos), (Some(5), Some(true)));
    }

    #[test]
    fn impossible_loads_are_refused() {
        for broken in [
            Load { clients: 0, ..load() },
            Load { requests: REQUESTS_MAX + 1, ..load() },
            Load { output_tokens: 0, ..load() },
            Load { rate: Some(0.0), ..load() },
            Load { turns: 11, ..load() },
        ] {
            assert!(broken.check().is_err(), "{broken:?}");
        }
        assert!(load().check().is_ok());
    }
}
