//! `/v1/chat/completions` and its `render`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use quarry_openapi::{
    AnswerMessage, ChatRequest, ChatResponse, Choice, CompletionTokensDetails, Delta, FINISH_LENGTH,
    FINISH_STOP, PromptTokensDetails, RenderResponse, Usage,
};
use quarry_runtime::{FinishReason, GenerateError, Generation, GenerationEvent};

use crate::convert::{self, Asked};
use crate::error::HttpError;
use crate::extract::WireJson;
use crate::metrics::UNKNOWN_MODEL;
use crate::observe::RequestId;
use crate::prompt;
use crate::reasoning::{Piece, Splitter};
use crate::refuse::{refuse, warnings};
use crate::sse;
use crate::state::AppState;

/// A generation under way, and what its answer needs.
pub(crate) struct Running {
    pub generation: Generation,
    pub id: String,
    pub created: u64,
    pub model: String,
    pub include_usage: bool,
    pub keep_alive: Duration,
    pub retry_after_s: u32,
    splitter: Splitter,
    reasoning_tokens: u32,
    request_id: String,
    state: AppState,
}

/// `POST /v1/chat/completions`.
pub(crate) async fn complete(
    State(state): State<AppState>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<WireJson<ChatRequest>, HttpError>,
) -> Result<Response, HttpError> {
    let WireJson(request, _room) = body.map_err(|error| refused(&state, UNKNOWN_MODEL, error))?;
    let warnings = warnings(&request);
    let model =
        state.model(Some(&request.model)).map_or_else(|_| UNKNOWN_MODEL.to_owned(), |m| m.name.clone());
    let refused = |error| refused(&state, &model, error);
    let mut asked = check(&state, request, &request_id).map_err(refused)?;
    asked.generate.client = client(&headers);
    let stream = asked.stream;
    let mut running = start(&state, asked, request_id).await.map_err(refused)?;
    let response = if stream {
        let first =
            match tokio::time::timeout(state.limits().first_event_wait, running.generation.next()).await {
                Ok(Some(GenerationEvent::Failed(error))) => return Err(running.unanswered(error)),
                Ok(Some(GenerationEvent::Finished { reason, usage })) => {
                    ended(reason, running.retry_after_s).map_err(|error| running.failed(error))?;
                    Some(GenerationEvent::Finished { reason, usage })
                }
                Ok(event) => event,
                Err(_) => None,
            };
        sse::respond(running, first)
    } else {
        Json(collect(running).await?).into_response()
    };
    Ok(with_warnings(response, warnings))
}

/// `POST /v1/chat/completions/render`.
pub(crate) async fn render(
    State(state): State<AppState>,
    Extension(request_id): Extension<RequestId>,
    WireJson(request, _room): WireJson<ChatRequest>,
) -> Result<Response, HttpError> {
    let warnings = warnings(&request);
    let asked = check(&state, request, &request_id)?;
    let model = asked.generate.model.clone();
    let prompt =
        state.off_thread(move || prompt::render(&asked.generate.model, &asked.messages, &asked.kwargs));
    let prompt = prompt.await?;
    let rendered = RenderResponse {
        model: model.name.clone(),
        count: u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX),
        prompt: prompt.text,
        token_ids: prompt.tokens,
        prompt_tokens_max: model.prompt_tokens_max,
    };
    Ok(with_warnings(Json(rendered).into_response(), warnings))
}

/// Whom a request is counted for where clients share the engine: who sends the same key is the same client.
fn client(headers: &HeaderMap) -> u64 {
    headers.get(header::AUTHORIZATION).map_or(0, |key| convert::stable_hash(key.as_bytes()))
}

/// Counts a request that did not run.
fn refused(state: &AppState, model: &str, error: HttpError) -> HttpError {
    if error.status == StatusCode::INTERNAL_SERVER_ERROR {
        state.metrics().failed(model, error.reason());
    } else {
        state.metrics().refused(model, error.reason(), error.is_admission());
    }
    error
}

fn check(state: &AppState, request: ChatRequest, request_id: &RequestId) -> Result<Asked, HttpError> {
    let model = state.model(Some(&request.model))?;
    refuse(&request)?;
    let random_seed = uuid::Uuid::new_v4().as_u64_pair().0;
    convert::chat(request, model, state.limits(), &request_id.0, random_seed)
}

/// Renders, tokenizes and submits. A client that goes away meanwhile drops the generation as soon as it is there.
async fn start(state: &AppState, asked: Asked, request_id: RequestId) -> Result<Running, HttpError> {
    let engine = state.engine()?.clone();
    let limits = *state.limits();
    let refused = move |e| HttpError::from_submit(e, limits.retry_after_not_ready_s);
    // A full server says so before the prompt is paid for.
    let reservation = engine.reserve().map_err(refused)?;
    let Asked { messages, kwargs, mut generate, include_usage, .. } = asked;
    let model = generate.model.clone();
    let prepare = move || {
        let prompt = prompt::render(&generate.model, &messages, &kwargs)?;
        let thinks = generate.model.text.template.as_ref().is_some_and(|t| t.thinks());
        // Under a constraint the answer is of the asked form from its first character on.
        let splitter = Splitter::new(thinks && generate.constraint.is_none(), &prompt.text);
        generate.prompt = prompt.tokens;
        let generation = engine.submit(generate, reservation).map_err(refused)?;
        Ok((generation, splitter))
    };
    let (generation, splitter) = state.off_thread(prepare).await?;
    Ok(Running {
        generation,
        id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        model: model.name.clone(),
        include_usage,
        keep_alive: limits.keep_alive,
        retry_after_s: limits.retry_after_not_ready_s,
        splitter,
        reasoning_tokens: 0,
        request_id: request_id.0,
        state: state.clone(),
    })
}

async fn collect(mut running: Running) -> Result<ChatResponse, HttpError> {
    let mut whole = Piece::default();
    loop {
        match running.generation.next().await {
            Some(GenerationEvent::Text { text, tokens }) => {
                let piece = running.split(&text, tokens);
                whole.reasoning.push_str(&piece.reasoning);
                whole.content.push_str(&piece.content);
            }
            Some(GenerationEvent::Finished { reason, usage }) => {
                let word = ended(reason, running.retry_after_s).map_err(|error| running.failed(error))?;
                let rest = running.splitter.finish();
                whole.reasoning.push_str(&rest.reasoning);
                whole.content.push_str(&rest.content);
                let usage = running.usage(&usage);
                running.log(word, &usage);
                return Ok(running.response(whole, word, usage));
            }
            Some(GenerationEvent::Failed(error)) => return Err(running.unanswered(error)),
            None => return Err(running.failed(HttpError::internal("the generation ended without an end"))),
        }
    }
}

/// The word for how it ended, or the error it ended with.
pub(crate) fn ended(reason: FinishReason, retry_after_s: u32) -> Result<&'static str, HttpError> {
    match reason {
        FinishReason::Stop => Ok(FINISH_STOP),
        FinishReason::Length => Ok(FINISH_LENGTH),
        // Nobody but the server itself cancels while somebody still listens.
        FinishReason::Cancelled => Err(HttpError::shutting_down(retry_after_s)),
        FinishReason::Deadline => Err(HttpError::deadline_exceeded()),
        FinishReason::Failed => Err(HttpError::internal("the engine failed")),
    }
}

fn with_warnings(mut response: Response, warnings: Option<String>) -> Response {
    if let Some(value) = warnings.and_then(|w| HeaderValue::try_from(w).ok()) {
        response.headers_mut().insert("warnings", value);
    }
    response
}

impl Running {
    fn split(&mut self, text: &str, tokens: u32) -> Piece {
        let was_thinking = self.splitter.is_thinking();
        let piece = self.splitter.push(text);
        // Tokens cannot be split: the one that closes the thinking counts with it.
        if was_thinking || self.splitter.is_thinking() {
            self.reasoning_tokens += tokens;
        }
        piece
    }

    /// New text as a delta; `None` while it is held back.
    pub fn take(&mut self, text: &str, tokens: u32) -> Option<Delta> {
        delta(self.split(text, tokens))
    }

    /// What was held back to the end.
    pub fn rest(&mut self) -> Option<Delta> {
        delta(self.splitter.finish())
    }

    pub fn usage(&self, usage: &quarry_runtime::Usage) -> Usage {
        Usage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
            prompt_tokens_details: Some(PromptTokensDetails { cached_tokens: Some(usage.cached_tokens) }),
            completion_tokens_details: Some(CompletionTokensDetails {
                reasoning_tokens: Some(self.reasoning_tokens.min(usage.completion_tokens)),
            }),
        }
    }

    pub fn log(&self, finish_reason: &str, usage: &Usage) {
        // What the engine tells of the same request goes into the log anyway.
        tracing::debug!(
            request_id = %self.request_id,
            model = %self.model,
            finish_reason,
            prompt_tokens = usage.prompt_tokens,
            completion_tokens = usage.completion_tokens,
            "answered"
        );
    }

    /// Counts a generation that ended without an answer: refused by the engine, or failed there.
    pub fn unanswered(&self, error: GenerateError) -> HttpError {
        let is_refusal = matches!(error, GenerateError::Refused(_));
        let error = HttpError::from_generate(error, self.retry_after_s);
        if is_refusal { refused(&self.state, &self.model, error) } else { self.failed(error) }
    }

    /// Counts a request that was taken and gets no whole answer.
    pub fn failed(&self, error: HttpError) -> HttpError {
        self.state.metrics().failed(&self.model, error.reason());
        error
    }

    /// Logs a failure in mid-stream, where no status can tell it.
    pub fn log_failure(&self, error: HttpError) -> HttpError {
        tracing::error!(request_id = %self.request_id, model = %self.model, error = %error.message, "stream failed");
        error
    }

    fn response(self, whole: Piece, finish_reason: &str, usage: Usage) -> ChatResponse {
        let reasoning = Some(whole.reasoning).filter(|r| !r.is_empty());
        let message = AnswerMessage {
            role: "assistant".into(),
            content: Some(whole.content),
            refusal: None,
            reasoning_content: reasoning.clone(),
            reasoning,
        };
        let finish_reason = Some(finish_reason.to_owned());
        ChatResponse {
            id: self.id,
            object: "chat.completion".into(),
            created: self.created,
            model: self.model,
            choices: vec![Choice { index: 0, message, finish_reason, logprobs: None }],
            usage,
        }
    }
}

fn delta(piece: Piece) -> Option<Delta> {
    let some = |text: String| Some(text).filter(|t| !t.is_empty());
    let (reasoning, content) = (some(piece.reasoning), some(piece.content));
    if reasoning.is_none() && content.is_none() {
        return None;
    }
    Some(Delta { role: None, content, reasoning_content: reasoning.clone(), reasoning })
}
