//! Wire types of the HTTP interface and the generated OpenAPI document.
//!
//! Why a crate of its own: the server, the client and the agent must agree on bytes and on nothing else.
//! How: plain serde types, one module per group of endpoints. Requests are strict about types and collect fields
//! nobody knows; responses are lenient when read, so that the client works with other OpenAI-compatible servers,
//! and complete when written. [`document::openapi`] describes them all.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod chat;
pub mod chunk;
pub mod document;
pub mod error;
pub mod message;
pub mod models;
pub mod tokens;
pub mod usage;

pub use chat::{
    ChatRequest, ChatResponse, Choice, FINISH_LENGTH, FINISH_STOP, JsonSchemaFormat, ResponseFormat, Stop,
    StreamOptions,
};
pub use chunk::{ChatChunk, ChunkChoice, Delta};
pub use document::openapi;
pub use error::{ApiError, ErrorBody};
pub use message::{AnswerMessage, ChatMessage, Content, ContentPart};
pub use models::{
    AdminDevice, AdminMemory, AdminModel, AdminState, Model, ModelDetails, ModelList, Status, Version,
};
pub use tokens::{DetokenizeRequest, DetokenizeResponse, RenderResponse, TokenizeRequest, TokenizeResponse};
pub use usage::{CompletionTokensDetails, PromptTokensDetails, Usage};
