//! Messages to the prompt's text and tokens, as the model reads them. Runs for milliseconds to seconds: call it by
//! [`crate::state::AppState::off_thread`].

use quarry_core::ids::TokenId;
use quarry_runtime::ServedModel;
use quarry_text::chat::ChatInput;
use quarry_text::tokenizer::Specials;
use serde_json::{Map, Value};

use crate::error::HttpError;

/// A rendered conversation.
pub(crate) struct Prompt {
    pub text: String,
    pub tokens: Vec<TokenId>,
}

impl Prompt {
    /// How many tokens.
    pub fn count(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }
}

/// Renders and tokenizes.
pub(crate) fn render(
    model: &ServedModel,
    messages: &[Value],
    kwargs: &Map<String, Value>,
) -> Result<Prompt, HttpError> {
    let Some(template) = &model.text.template else {
        let message = format!("the model {:?} has no chat template", model.name);
        return Err(HttpError::invalid("model", message));
    };
    let input = ChatInput { messages, tools: None, add_generation_prompt: true, kwargs };
    let text = template.render(&input).map_err(|e| HttpError::invalid("messages", e.to_string()))?;
    let tokens = tokenize(model, &text, true);
    Ok(Prompt { text, tokens })
}

/// Tokens of a text in which spellings of special tokens are those tokens; with the token that the model wants
/// before every text, unless the text already begins with it.
pub(crate) fn tokenize(model: &ServedModel, text: &str, add_special: bool) -> Vec<TokenId> {
    let tokenizer = &model.text.tokenizer;
    let mut tokens = tokenizer.encode(text, Specials::Parse);
    if let Some(bos) = tokenizer.bos_to_add().filter(|_| add_special)
        && tokens.first() != Some(&bos)
    {
        tokens.insert(0, bos);
    }
    tokens
}
