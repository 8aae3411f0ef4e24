//! A conversation to the prompt's tokens, such that nothing a message says passes for the template's own marks.
//!
//! A template joins its marks and the messages into one text, in which `<|im_end|>` of a page that somebody quotes
//! looks like the end of the turn. So each special spelling inside a message gets a character before it that occurs
//! nowhere else; where the tokenizer meets that character, it drops it and takes what follows by its letters.

use quarry_core::ids::TokenId;
use serde_json::Value;

use crate::chat::ChatInput;
use crate::tokenizer::Tokenizer;
use crate::{TextError, TextModel};

/// Unicode's noncharacters, which text of people never has.
const MARKS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// As the template wrote it.
    pub text: String,
    /// As the model reads it.
    pub tokens: Vec<TokenId>,
}

impl TextModel {
    /// Renders and tokenizes; `None` where the model has no template. Begins with the token that the model wants
    /// before every text, if it wants one.
    ///
    /// # Errors
    /// [`TextError::Template`], also where the template itself refuses the messages.
    pub fn prompt(&self, input: &ChatInput<'_>) -> Result<Option<Prompt>, TextError> {
        let Some(template) = &self.template else { return Ok(None) };
        let strings = input.messages.iter().chain(input.tools.unwrap_or_default());
        let mark = if strings.clone().any(|value| self.spells_special(value)) {
            let free = |mark: &char| !strings.clone().any(|value| holds(value, *mark));
            let mark = MARKS.into_iter().find(free);
            Some(mark.ok_or_else(|| TextError::Template("the messages hold every noncharacter".into()))?)
        } else {
            None
        };
        let text = match mark {
            None => template.render(input)?,
            Some(mark) => {
                let messages: Vec<Value> = input.messages.iter().map(|m| self.guarded(m, mark)).collect();
                let tools = input.tools.map(|tools| tools.iter().map(|t| self.guarded(t, mark)).collect());
                let tools: Option<Vec<Value>> = tools;
                template.render(&ChatInput { messages: &messages, tools: tools.as_deref(), ..*input })?
            }
        };
        let mut tokens = self.tokens(&text, mark);
        if let Some(bos) = self.tokenizer.bos_to_add()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        let text = match mark {
            None => text,
            Some(mark) => text.replace(mark, ""),
        };
        Ok(Some(Prompt { text, tokens }))
    }

    fn tokens(&self, text: &str, mark: Option<char>) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        self.tokenizer.encode_marked(text, mark, &mut tokens);
        tokens
    }

    fn spells_special(&self, value: &Value) -> bool {
        let spells =
            |text: &str| text.char_indices().any(|(at, _)| self.tokenizer.begins_special(&text[at..], false));
        any_string(value, &spells)
    }

    /// A message or tool with its special spellings marked. What the model itself has said keeps its own
    /// (`</think>`, by which templates cut thoughts off), but not those that steer the conversation.
    fn guarded(&self, value: &Value, mark: char) -> Value {
        let control_only = value["role"] == "assistant";
        guard(value, mark, control_only, &self.tokenizer)
    }
}

fn holds(value: &Value, mark: char) -> bool {
    any_string(value, &|text: &str| text.contains(mark))
}

fn any_string(value: &Value, is: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is(text),
        Value::Array(items) => items.iter().any(|item| any_string(item, is)),
        Value::Object(fields) => fields.iter().any(|(key, item)| is(key) || any_string(item, is)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn guard(value: &Value, mark: char, control_only: bool, tokenizer: &Tokenizer) -> Value {
    let text = |text: &str| {
        let mut out = String::with_capacity(text.len() + 16);
        for (at, c) in text.char_indices() {
            if tokenizer.begins_special(&text[at..], control_only) {
                out.push(mark);
            }
            out.push(c);
        }
        out
    };
    let inner = |item: &Value| guard(item, mark, control_only, tokenizer);
    match value {
        Value::String(string) => Value::String(text(string)),
        Value::Array(items) => items.iter().map(inner).collect(),
        Value::Object(fields) => fields.iter().map(|(key, item)| (text(key), inner(item))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
