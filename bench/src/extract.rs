//! Extraction throughput: one request a page, under a JSON schema, greedy.
//!
//! A job is a folder with `job.json` (`system`, `schema`, `max_tokens`) and `messages.jsonl` (`file`, `user`, a line
//! a page). Each page goes to every endpoint before the next page, and the order of endpoints turns from page to
//! page, so that none always goes first.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use quarry_client::{Client, ClientOptions};
use quarry_openapi::{ChatMessage, ChatRequest, JsonSchemaFormat, ResponseFormat};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of a job's file at most.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What to ask.
pub struct Job {
    system: String,
    schema: Value,
    max_tokens: u32,
    pages: Vec<Page>,
}

#[derive(Deserialize)]
struct Head {
    system: String,
    schema: Value,
    max_tokens: u32,
}

#[derive(Deserialize)]
struct Page {
    file: String,
    user: String,
}

/// One endpoint's figures.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Where.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Pages asked.
    pub pages: usize,
    /// Answers that are one JSON object with every key that the schema requires.
    pub valid: usize,
    /// Mean seconds a page from its request to its answer.
    pub seconds_per_page: f64,
    /// Seconds in all by pages: smaller than a page's own time where several are asked for at a time.
    pub wall_seconds_per_page: f64,
    /// The quickest and the slowest page, in seconds.
    pub seconds_min_max: [f64; 2],
    /// Mean prompt tokens a page, as the endpoint counts.
    pub prompt_tokens: f64,
    /// Mean answer tokens a page, as the endpoint counts.
    pub completion_tokens: f64,
    /// Every page.
    pub each: Vec<Answer>,
}

/// One page at one endpoint.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Which page.
    pub file: String,
    /// From request to the whole answer.
    pub seconds: f64,
    /// As the endpoint counts.
    pub prompt_tokens: u32,
    /// As the endpoint counts.
    pub completion_tokens: u32,
    /// What it said.
    pub content: String,
}

impl Job {
    /// Reads a job's folder.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let head: Head = serde_json::from_str(&text(&folder.join("job.json"))?).context("job.json")?;
        let lines = text(&folder.join("messages.jsonl"))?;
        let pages = lines.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str);
        let pages = pages.collect::<Result<Vec<Page>, _>>().context("messages.jsonl")?;
        if pages.is_empty() {
            bail!("messages.jsonl has no page");
        }
        Ok(Self { system: head.system, schema: head.schema, max_tokens: head.max_tokens, pages })
    }

    /// Leaves the first `count` pages.
    pub fn truncate(&mut self, count: usize) {
        self.pages.truncate(count.max(1));
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether there is none; never so for a job that was read.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    fn request(&self, model: &str, page: &Page) -> ChatRequest {
        let schema = JsonSchemaFormat {
            name: "job".to_owned(),
            description: None,
            schema: self.schema.clone(),
            strict: Some(true),
        };
        ChatRequest {
            model: model.to_owned(),
            messages: vec![ChatMessage::system(&self.system), ChatMessage::user(&page.user)],
            temperature: Some(0.0),
            max_tokens: Some(self.max_tokens),
            response_format: Some(ResponseFormat::JsonSchema { json_schema: schema }),
            ..ChatRequest::default()
        }
    }

    fn is_valid(&self, content: &str) -> bool {
        let Ok(Value::Object(answer)) = serde_json::from_str(content) else { return false };
        let required = self.schema.get("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str).all(|key| answer.contains_key(key))
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        bail!("{}: {bytes} bytes are more than {FILE_BYTES_MAX}", path.display());
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

struct Endpoint {
    url: String,
    model: String,
    client: Client,
    answers: Vec<Answer>,
    wall: Duration,
}

/// Asks every endpoint for every page, `concurrency` pages at a time. `progress` hears `(done, total)` requests.
pub async fn run(
    job: &Job,
    urls: &[String],
    concurrency: usize,
    progress: &dyn Fn(usize, usize),
) -> anyhow::Result<Vec<Measured>> {
    let mut endpoints = Vec::new();
    for url in urls {
        let mut options = ClientOptions::new(url);
        options.idle_timeout = Duration::from_secs(600); // a rival may send nothing while it reads a prompt
        let client = Client::new(options)?;
        let model = client.models().await.with_context(|| url.clone())?.into_iter().next();
        let model = model.with_context(|| format!("{url} lists no model"))?.id;
        endpoints.push(Endpoint {
            url: url.clone(),
            model,
            client,
            answers: Vec::new(),
            wall: Duration::ZERO,
        });
    }
    warm_up(&endpoints).await?;
    let total = job.len() * endpoints.len();
    let mut done = 0;
    for (turn, pages) in job.pages.chunks(concurrency.max(1)).enumerate() {
        for offset in 0..endpoints.len() {
            let index = (turn + offset) % endpoints.len();
            let endpoint = &mut endpoints[index];
            let begun = Instant::now();
            let asked = pages.iter().map(|page| ask(job, endpoint.client.clone(), &endpoint.model, page));
            let mut answers = futures::stream::iter(asked).buffer_unordered(pages.len());
            while let Some(answer) = answers.next().await {
                endpoint.answers.push(answer?);
                done += 1;
                progress(done, total);
            }
            drop(answers);
            endpoint.wall += begun.elapsed();
        }
    }
    Ok(endpoints.into_iter().map(|endpoint| measured(job, endpoint)).collect())
}

/// So that no endpoint pays for its first touch of the weights.
async fn warm_up(endpoints: &[Endpoint]) -> anyhow::Result<()> {
    for endpoint in endpoints {
        let request = ChatRequest {
            model: endpoint.model.clone(),
            messages: vec![ChatMessage::user("Count from one to twenty.")],
            temperature: Some(0.0),
            max_tokens: Some(16),
            ..ChatRequest::default()
        };
        endpoint.client.chat(&request).await.with_context(|| endpoint.url.clone())?;
    }
    Ok(())
}

async fn ask(job: &Job, client: Client, model: &str, page: &Page) -> anyhow::Result<Answer> {
    let request = job.request(model, page);
    let started = Instant::now();
    let response = client.chat(&request).await.with_context(|| page.file.clone())?;
    let seconds = started.elapsed().as_secs_f64();
    let choice = response.choices.into_iter().next().context("an answer without choices")?;
    let usage = response.usage;
    Ok(Answer {
        file: page.file.clone(),
        seconds,
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        content: choice.message.content.unwrap_or_default(),
    })
}

fn measured(job: &Job, endpoint: Endpoint) -> Measured {
    let each = endpoint.answers;
    let count = each.len().max(1) as f64;
    let mean = |value: &dyn Fn(&Answer) -> f64| each.iter().map(value).sum::<f64>() / count;
    let seconds = each.iter().map(|answer| answer.seconds);
    Measured {
        url: endpoint.url,
        model: endpoint.model,
        pages: each.len(),
        valid: each.iter().filter(|answer| job.is_valid(&answer.content)).count(),
        seconds_per_page: mean(&|answer| answer.seconds),
        wall_seconds_per_page: endpoint.wall.as_secs_f64() / count,
        seconds_min_max: [seconds.clone().fold(f64::INFINITY, f64::min), seconds.fold(0.0, f64::max)],
        prompt_tokens: mean(&|answer| f64::from(answer.prompt_tokens)),
        completion_tokens: mean(&|answer| f64::from(answer.completion_tokens)),
        each,
    }
}

/// The figures beside each other; ratios are of the first endpoint's time in all.
pub fn table(measured: &[Measured]) -> String {
    let mut text = format!(
        "{:<32} {:>5} {:>5} {:>9} {:>9} {:>15} {:>7} {:>7} {:>6}\n",
        "ENDPOINT", "PAGES", "VALID", "S/PAGE", "WALL", "MIN-MAX", "PROMPT", "ANSWER", "RATIO"
    );
    let first = measured.first().map_or(1.0, |first| first.wall_seconds_per_page);
    for one in measured {
        let [min, max] = one.seconds_min_max;
        text.push_str(&format!(
            "{:<32} {:>5} {:>5} {:>9.2} {:>9.2} {:>15} {:>7.0} {:>7.0} {:>6.2}\n",
            one.url,
            one.pages,
            one.valid,
            one.seconds_per_page,
            one.wall_seconds_per_page,
            format!("{min:.2}-{max:.2}"),
            one.prompt_tokens,
            one.completion_tokens,
            one.wall_seconds_per_page / first,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let folder = tempfile::tempdir().unwrap();
        let head = r#"{"system": "s", "schema": {"required": ["title"]}, "max_tokens": 9}"#;
        std::fs::write(folder.path().join("job.json"), head).unwrap();
        let pages = "{\"file\": \"a\", \"user\": \"x\"}\n\n{\"file\": \"b\", \"user\": \"y\"}\n";
        std::fs::write(folder.path().join("messages.jsonl"), pages).unwrap();
        Job::read(folder.path()).unwrap()
    }

    #[test]
    fn a_folder_is_read_and_answers_are_checked() {
        let mut job = job();
        assert_eq!(job.len(), 2);
        job.truncate(1);
        assert_eq!(job.len(), 1);
        assert!(job.is_valid(r#"{"title": null}"#));
        assert!(!job.is_valid(r#"{"company": 1}"#) && !job.is_valid("[]") && !job.is_valid("{"));
        assert_eq!(job.request("m", &job.pages[0]).temperature, Some(0.0));
    }

    #[test]
    fn ratios_are_of_the_first() {
        let one = |url: &str, seconds| {
            let answer = |s| Answer {
                file: "a".into(),
                seconds: s,
                prompt_tokens: 1,
                completion_tokens: 1,
                content: "{}".into(),
            };
            let client = Client::new(ClientOptions::new("http://127.0.0.1:1/v1")).unwrap();
            measured(
                &job(),
                Endpoint {
                    url: url.into(),
                    model: "m".into(),
                    client,
                    answers: vec![answer(seconds), answer(seconds)],
                    wall: Duration::from_secs_f64(2.0 * seconds),
                },
            )
        };
        let text = table(&[one("ours", 2.0), one("rival", 5.0)]);
        assert!(text.lines().nth(2).unwrap().trim_end().ends_with("2.50"), "{text}");
    }
}
