//! A generation as server-sent events: first the role, then text, then the reason of the end, then usage where it
//! was asked, then `[DONE]`. A failure in mid-stream is an `error` event, after which nothing follows.

use std::convert::Infallible;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::Stream;
use quarry_openapi::{ChatChunk, ChunkChoice, Delta, Usage};
use quarry_runtime::GenerationEvent;
use serde::Serialize;

use crate::routes::chat::{Running, ended};

/// The response; dropping it drops the generation, which cancels it.
pub(crate) fn respond(running: Running, first: Option<GenerationEvent>) -> Response {
    let keep_alive = KeepAlive::new().interval(running.keep_alive).text("ping");
    let mut response = Sse::new(events(running, first)).keep_alive(keep_alive).into_response();
    // Proxies that buffer would hold the stream back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn events(
    mut running: Running,
    mut first: Option<GenerationEvent>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    async_stream::stream! {
        let role = Delta { role: Some("assistant".into()), content: Some(String::new()), ..Delta::default() };
        yield Ok(event(&running.chunk(role, None)));
        loop {
            let next = match first.take() {
                Some(event) => Some(event),
                None => running.generation.next().await,
            };
            match next {
                Some(GenerationEvent::Text { text, tokens }) => {
                    if let Some(delta) = running.take(&text, tokens) {
                        yield Ok(event(&running.chunk(delta, None)));
                    }
                }
                Some(GenerationEvent::Finished { reason, usage }) => {
                    match ended(reason, running.retry_after_s) {
                        Ok(word) => {
                            if let Some(delta) = running.rest() {
                                yield Ok(event(&running.chunk(delta, None)));
                            }
                            yield Ok(event(&running.chunk(Delta::default(), Some(word))));
                            let usage = running.usage(&usage);
                            running.log(word, &usage);
                            if running.include_usage {
                                yield Ok(event(&running.usage_chunk(usage)));
                            }
                            yield Ok(Event::default().data("[DONE]"));
                        }
                        Err(error) => {
                            let error = running.log_failure(running.failed(error));
                            yield Ok(event(&error.body()));
                        }
                    }
                    return;
                }
                Some(GenerationEvent::Failed(error)) => {
                    let error = running.log_failure(running.unanswered(error));
                    yield Ok(event(&error.body()));
                    return;
                }
                None => return,
            }
        }
    }
}

fn event(data: &impl Serialize) -> Event {
    let text = serde_json::to_string(data).expect("wire types are trees of strings and numbers");
    Event::default().data(text)
}

impl Running {
    fn chunk(&self, delta: Delta, finish_reason: Option<&str>) -> ChatChunk {
        let finish_reason = finish_reason.map(str::to_owned);
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".into(),
            created: self.created,
            model: self.model.clone(),
            choices: vec![ChunkChoice { index: 0, delta, finish_reason, logprobs: None }],
            usage: None,
        }
    }

    fn usage_chunk(&self, usage: Usage) -> ChatChunk {
        ChatChunk { choices: Vec::new(), usage: Some(usage), ..self.chunk(Delta::default(), None) }
    }
}
