//! The one error of the edge: a status and OpenAI's four fields. One `match` per error of the layers below.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quarry_core::plan::RefusedReason;
use quarry_core::request::RequestError;
use quarry_openapi::{ApiError, ErrorBody};
use quarry_runtime::{AwaitedModel, GenerateError, ModelState, SubmitError};
use quarry_text::constraint::ConstraintError;

/// An answer with a status of 400 or above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpError {
    pub status: StatusCode,
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub param: Option<String>,
    pub message: String,
    pub retry_after_s: Option<u32>,
}

/// The message, left on the response for the log line that ends each request.
#[derive(Clone, Debug)]
pub(crate) struct LoggedError(pub String);

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const DEADLINE_EXCEEDED: &str = "deadline_exceeded";

impl HttpError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into(), retry_after_s: None }
    }

    /// 400: what `param` says is wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(StatusCode::BAD_REQUEST, INVALID, message) }
    }

    /// 400: the body as a whole is wrong.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    /// 400: known by name, but not served.
    pub fn not_served(param: &str, why: &str) -> Self {
        let message = format!("`{param}` is not served by this server: {why}");
        Self { code: Some("unsupported_parameter"), ..Self::invalid(param, message) }
    }

    pub fn model_not_found(name: &str, served: &[String]) -> Self {
        let message = format!("the model {name:?} does not exist; this server has {}", served.join(", "));
        Self {
            code: Some("model_not_found"),
            param: Some("model".to_owned()),
            ..Self::new(StatusCode::NOT_FOUND, INVALID, message)
        }
    }

    pub fn no_route(method: &str, path: &str) -> Self {
        let message = format!("there is no {method} {path}; see /openapi.json");
        Self { code: Some("not_found"), ..Self::new(StatusCode::NOT_FOUND, INVALID, message) }
    }

    pub fn no_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}; see /openapi.json");
        Self {
            code: Some("method_not_allowed"),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message)
        }
    }

    pub fn body_too_large(bytes_max: usize) -> Self {
        let message = format!("the body is longer than {bytes_max} bytes");
        Self { code: Some("body_too_large"), ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message) }
    }

    pub fn body_timeout() -> Self {
        let message = "the body did not arrive in time";
        Self { code: Some("timeout"), ..Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, message) }
    }

    pub fn prompt_too_long(prompt_tokens: u32, prompt_tokens_max: u32) -> Self {
        let message = format!(
            "the messages have {prompt_tokens} tokens, this model takes at most {prompt_tokens_max}: shorten them"
        );
        Self { code: Some("context_length_exceeded"), ..Self::invalid("messages", message) }
    }

    /// 504: the client's own `deadline_ms` is over.
    pub fn deadline_exceeded() -> Self {
        let message = "the answer was not complete within the request's `deadline_ms`";
        Self { code: Some(DEADLINE_EXCEEDED), ..Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, message) }
    }

    pub fn queue_full(retry_after_s: u32) -> Self {
        let message = format!("the queue is full; try again in {retry_after_s} s");
        Self {
            code: Some("queue_full"),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
        }
    }

    pub fn overloaded(retry_after_s: u32) -> Self {
        let message = format!("too many long requests are being read; try again in {retry_after_s} s");
        Self {
            code: Some("overloaded"),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message)
        }
    }

    pub fn connections_full(retry_after_s: u32) -> Self {
        let message = "all connections are taken; this one serves /health, /ready and /metrics only";
        Self {
            code: Some("connections_full"),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message)
        }
    }

    pub fn not_ready(retry_after_s: u32) -> Self {
        Self {
            code: Some("not_ready"),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "the server is loading; try again")
        }
    }

    pub fn shutting_down(retry_after_s: u32) -> Self {
        Self {
            code: Some("shutting_down"),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "the server is shutting down")
        }
    }

    pub fn model_unloading(retry_after_s: u32) -> Self {
        let message = "the model is being unloaded; once it is, a request loads it again";
        Self {
            code: Some("model_unloading"),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message)
        }
    }

    /// A model whose files are still on their way to this machine.
    pub fn model_absent(model: &AwaitedModel, retry_after_s: u32) -> Self {
        let how_far = match &model.state {
            ModelState::Absent { share } => format!("{:.0} % are here", share * 100.0),
            ModelState::Failed(why) => format!("it will be tried again: {why}"),
            other => other.name().to_owned(),
        };
        let message = format!("the model {:?} is being fetched; {how_far}", model.name);
        Self {
            code: Some("model_absent"),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message)
        }
    }

    pub fn model_failed(what: &str) -> Self {
        let message = format!("the model could not be loaded: {what}");
        Self { code: Some("model_failed"), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message) }
    }

    /// A load that cannot fit, refused before anything is unloaded.
    pub fn model_too_large(what: &str) -> Self {
        Self { code: Some("model_too_large"), ..Self::new(StatusCode::CONFLICT, INVALID, what) }
    }

    pub fn engine_dead() -> Self {
        Self {
            code: Some("engine_dead"),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "the engine gave up after repeated failures")
        }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: Some("internal_error"), ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, message) }
    }

    pub fn from_submit(error: SubmitError, retry_after_not_ready_s: u32) -> Self {
        match error {
            SubmitError::QueueFull { retry_after_s, .. } => Self::queue_full(retry_after_s),
            SubmitError::ShuttingDown => Self::shutting_down(retry_after_not_ready_s),
            SubmitError::NotReady => Self::not_ready(retry_after_not_ready_s),
            SubmitError::Unloading => Self::model_unloading(retry_after_not_ready_s),
            SubmitError::PromptTooLong { prompt_tokens, prompt_tokens_max } => {
                Self::prompt_too_long(prompt_tokens, prompt_tokens_max)
            }
            SubmitError::Invalid(error) => Self::from_request(&error),
            SubmitError::Constraint(error) => Self::from_constraint(&error),
        }
    }

    pub fn from_generate(error: GenerateError, retry_after_s: u32) -> Self {
        match error {
            GenerateError::Refused(reason) => match reason {
                RefusedReason::QueueFull => Self::queue_full(retry_after_s),
                RefusedReason::ShuttingDown => Self::shutting_down(retry_after_s),
                RefusedReason::PromptTooLong { prompt_tokens, prompt_tokens_max } => {
                    Self::prompt_too_long(prompt_tokens, prompt_tokens_max)
                }
                RefusedReason::UnknownModel => Self::not_ready(retry_after_s),
                RefusedReason::DuplicateId => Self::internal("two live requests had one id"),
            },
            GenerateError::ShutDown => Self::shutting_down(retry_after_s),
            GenerateError::ModelFailed(what) => Self::model_failed(&what),
            GenerateError::Engine(message) => Self::internal(message),
        }
    }

    fn from_request(error: &RequestError) -> Self {
        let param = match error {
            RequestError::EmptyPrompt => "messages",
            RequestError::NoOutput => "max_completion_tokens",
            RequestError::OutOfRange { name, .. } => name,
            RequestError::TooManyBiases { .. } => "logit_bias",
        };
        Self::invalid(param, error.to_string())
    }

    fn from_constraint(error: &ConstraintError) -> Self {
        match error {
            ConstraintError::Unsupported(_) | ConstraintError::TooLong { .. } | ConstraintError::TooDeep => {
                Self {
                    code: Some("invalid_json_schema"),
                    ..Self::invalid("response_format", error.to_string())
                }
            }
            ConstraintError::Broken(_) => Self::internal(error.to_string()),
        }
    }

    /// What metrics call it: the code, one of those in this file.
    pub fn reason(&self) -> &'static str {
        self.code.unwrap_or("invalid_request")
    }

    /// Whether it is for want of room or of a server that takes requests: worth another try, unlike a mistake.
    pub fn is_admission(&self) -> bool {
        self.retry_after_s.is_some() || self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ApiError {
                message: self.message.clone(),
                kind: Some(self.kind.to_owned()),
                param: self.param.clone(),
                code: self.code.map(str::to_owned),
            },
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Some(DEADLINE_EXCEEDED) {
            // OpenAI's SDKs would try any 5xx again, with a deadline that is as short as this one.
            response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response.extensions_mut().insert(LoggedError(self.message));
        response
    }
}
