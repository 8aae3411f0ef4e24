//! How many tokens a prompt has, as it would be sent.
//!
//! The server's own tokenizer and template say it; where a server lacks that, an estimate by characters does, and the
//! count says which it is. What is paid for is bounded from above by bytes instead.

use std::sync::atomic::{AtomicU8, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quarry_client::{Client, ClientError};
use quarry_openapi::{ChatRequest, Content, TokenizeRequest};

/// A prompt's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCount {
    /// Tokens, template included.
    pub tokens: u32,
    /// Counted by the server's tokenizer and template; else an estimate, or an upper bound by bytes.
    pub is_exact: bool,
    /// What the server would take, where it says so.
    pub prompt_tokens_max: Option<u32>,
}

/// Counts prompts.
pub trait TokenCounter: Send + Sync {
    /// The length of the prompt that this request becomes.
    fn count<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, TokenCount>;
}

/// Tokens of a template around one message at most: role names, separators, the opening of the answer.
const TEMPLATE_TOKENS_PER_MESSAGE: u32 = 24;

/// Bounds by bytes: no byte-level tokenizer gives more tokens than bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteBound;

impl ByteBound {
    /// An upper bound.
    pub fn bound(request: &ChatRequest) -> TokenCount {
        let bytes: usize = texts(request).map(str::len).sum();
        let tokens = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(template_tokens(request));
        TokenCount { tokens, is_exact: false, prompt_tokens_max: None }
    }
}

impl TokenCounter for ByteBound {
    fn count<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, TokenCount> {
        std::future::ready(Self::bound(request)).boxed()
    }
}

/// ASCII characters of one token: prose has four, markdown with numbers and links fewer.
const ASCII_CHARS_PER_TOKEN: usize = 3;

/// Where no tokenizer can be asked: a third of a token for an ASCII character, a whole one for any other. Rather more than
/// real tokenizers give, but not several times as much, as bytes would.
pub fn estimate(request: &ChatRequest) -> TokenCount {
    let (mut ascii, mut other) = (0_usize, 0_usize);
    for text in texts(request) {
        let count = text.bytes().filter(u8::is_ascii).count();
        ascii += count;
        other += text.chars().count() - count;
    }
    let tokens = u32::try_from(ascii.div_ceil(ASCII_CHARS_PER_TOKEN) + other).unwrap_or(u32::MAX);
    let tokens = tokens.saturating_add(template_tokens(request));
    TokenCount { tokens, is_exact: false, prompt_tokens_max: None }
}

fn template_tokens(request: &ChatRequest) -> u32 {
    TEMPLATE_TOKENS_PER_MESSAGE.saturating_mul(request.messages.len() as u32 + 1)
}

/// Asks the server: its `render`, else its `tokenize`, else [`estimate`]. What it lacks is asked for once.
pub struct ServerCounter {
    client: Client,
    /// 0 render, 1 tokenize, 2 neither.
    way: AtomicU8,
}

impl ServerCounter {
    /// For this server.
    pub fn new(client: Client) -> Self {
        Self { client, way: AtomicU8::new(0) }
    }

    fn lacks(&self, way: u8, error: &ClientError) {
        // Another shape of request or answer under the same name is as good as none.
        let is_lasting = !error.is_context_length()
            && matches!(error.status(), Some(400 | 404 | 405 | 415 | 422 | 501))
            || matches!(error, ClientError::Decode { .. });
        if is_lasting && self.way.fetch_max(way + 1, Ordering::Relaxed) == way && way == 1 {
            tracing::warn!(
                %error,
                "the server counts no tokens; prompts are estimated: {ASCII_CHARS_PER_TOKEN} ASCII characters, or one \
                 other, a token"
            );
        }
    }
}

impl TokenCounter for ServerCounter {
    fn count<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, TokenCount> {
        async move {
            if self.way.load(Ordering::Relaxed) == 0 {
                match self.client.render(request).await {
                    Ok(answer) => {
                        let prompt_tokens_max = Some(answer.prompt_tokens_max);
                        return TokenCount { tokens: answer.count, is_exact: true, prompt_tokens_max };
                    }
                    Err(error) => self.lacks(0, &error),
                }
            }
            if self.way.load(Ordering::Relaxed) == 1 {
                let prompt = texts(request).collect::<Vec<_>>().join("\n");
                let body =
                    TokenizeRequest { model: Some(request.model.clone()), prompt, add_special_tokens: None };
                match self.client.tokenize(&body).await {
                    Ok(answer) => {
                        let counted = (answer.tokens.len() as u32).max(answer.count);
                        let tokens = counted.saturating_add(template_tokens(request));
                        // The template is bounded, not counted.
                        return TokenCount { tokens, is_exact: false, prompt_tokens_max: None };
                    }
                    Err(error) => self.lacks(1, &error),
                }
            }
            estimate(request)
        }
        .boxed()
    }
}

fn texts(request: &ChatRequest) -> impl Iterator<Item = &str> {
    request.messages.iter().filter_map(|message| message.content.as_ref()).flat_map(|content| match content {
        Content::Text(text) => vec![text.as_str()],
        Content::Parts(parts) => parts.iter().filter_map(|part| part.text.as_deref()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarry_openapi::ChatMessage;

    #[test]
    fn the_bound_is_above_any_count_and_says_that_it_is_one() {
        let request = ChatRequest {
            messages: vec![ChatMessage::system("Short."), ChatMessage::user("Зарплата")],
            ..ChatRequest::default()
        };
        let count = ByteBound::bound(&request);
        assert!(count.tokens as usize >= "Short.".len() + "Зарплата".len());
        assert!(!count.is_exact);
    }
}
