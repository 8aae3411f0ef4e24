//! A streamed answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::{self, BoxStream, StreamExt as _};
use quarry_openapi::{ChatChunk, ErrorBody};
use serde_json::Value;

use crate::body::{BoundedBody, excerpt};
use crate::error::ClientError;
use crate::sse::Parser;

/// Chunks in order; ends after the last one, or with an error. Dropping it closes the connection, which cancels
/// the request at the server.
pub struct ChatStream {
    chunks: BoxStream<'static, Result<ChatChunk, ClientError>>,
}

struct State {
    body: BoundedBody,
    parser: Parser,
    event_bytes_max: usize,
    /// A choice has ended: a server that then closes without `[DONE]` has still answered.
    finished: bool,
    over: bool,
}

impl ChatStream {
    pub(crate) fn new(body: BoundedBody, event_bytes_max: usize) -> Self {
        let parser = Parser::new(event_bytes_max);
        let state = State { body, parser, event_bytes_max, finished: false, over: false };
        let chunks = stream::unfold(state, |mut state| async move {
            if state.over {
                return None;
            }
            let item = state.next().await.transpose()?;
            state.over = item.is_err();
            Some((item, state))
        });
        Self { chunks: chunks.boxed() }
    }
}

impl State {
    async fn next(&mut self) -> Result<Option<ChatChunk>, ClientError> {
        loop {
            if let Some(event) = self.parser.next() {
                if event.data.starts_with("[DONE]") {
                    return Ok(None);
                }
                return self.chunk(&event.data).map(Some);
            }
            let Some(piece) = self.body.piece().await? else {
                return if self.finished { Ok(None) } else { Err(ClientError::Interrupted) };
            };
            self.parser
                .push(&piece)
                .map_err(|_| ClientError::TooLarge { what: "an event", bytes_max: self.event_bytes_max })?;
        }
    }

    fn chunk(&mut self, data: &str) -> Result<ChatChunk, ClientError> {
        let unreadable = |source| ClientError::Decode {
            url: self.body.url().to_owned(),
            source,
            excerpt: excerpt(data.as_bytes()),
        };
        let value: Value = serde_json::from_str(data).map_err(unreadable)?;
        if value.get("error").is_some_and(|e| !e.is_null()) {
            let body: ErrorBody = serde_json::from_value(value).map_err(unreadable)?;
            return Err(ClientError::MidStream { error: body.error });
        }
        let chunk: ChatChunk = serde_json::from_value(value).map_err(unreadable)?;
        self.finished |= chunk.choices.iter().any(|c| c.finish_reason.is_some());
        Ok(chunk)
    }
}

impl Stream for ChatStream {
    type Item = Result<ChatChunk, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_next_unpin(cx)
    }
}
