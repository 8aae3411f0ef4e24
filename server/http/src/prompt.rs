//! Messages to the prompt's text and tokens, as the model reads them. Runs for milliseconds to seconds: call it by
//! [`crate::state::AppState::off_thread`].

use quarry_core::ids::TokenId;
use quarry_runtime::ServedModel;
use quarry_text::chat::ChatInput;
use quarry_text::prompt::Prompt;
use quarry_text::tokenizer::Specials;
use serde_json::{Map, Value};

use crate::error::HttpError;

/// Renders and tokenizes.
pub(crate) fn render(
    model: &ServedModel,
    messages: &[Value],
    kwargs: &Map<String, Value>,
) -> Result<Prompt, HttpError> {
    let input = ChatInput { messages, tools: None, add_generation_prompt: true, kwargs };
    let prompt = model.text.prompt(&input).map_err(|e| HttpError::invalid("messages", e.to_string()))?;
    prompt.ok_or_else(|| {
        HttpError::invalid("model", format!("the model {:?} has no chat template", model.name))
    })
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
