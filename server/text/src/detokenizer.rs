//! Tokens to text, one at a time: a character is given out when its last byte is there.

use std::sync::Arc;

use quarry_core::ids::TokenId;

use crate::tokenizer::Tokenizer;

/// One answer's detokenizer. Hidden tokens ([`Tokenizer::is_hidden`]) have no text.
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// The begun character: at most three bytes.
    begun: Vec<u8>,
}

impl Detokenizer {
    /// At the start of an answer.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, begun: Vec::new() }
    }

    /// The text that the token completes; may be empty.
    pub fn push(&mut self, token: TokenId) -> String {
        if self.tokenizer.is_hidden(token) {
            return String::new();
        }
        self.begun.extend_from_slice(self.tokenizer.token_bytes(token));
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.begun) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.begun.clear();
                    return text;
                }
                Err(error) => {
                    let (good, rest) = self.begun.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(good));
                    let rest = match error.error_len() {
                        // Bytes that begin no character are lost to no one: they show as U+FFFD.
                        Some(bad) => {
                            text.push('\u{fffd}');
                            rest[bad..].to_vec()
                        }
                        None => {
                            self.begun = rest.to_vec();
                            return text;
                        }
                    };
                    self.begun = rest;
                }
            }
        }
    }

    /// What is left at the end: a character cut short, as U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned()
    }
}
