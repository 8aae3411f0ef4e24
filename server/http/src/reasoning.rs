//! Splits an answer into what the model thinks and what it says, piece by piece.
//!
//! A thinking model writes `<think>…</think>` before its answer, or, where its template has already opened the tag,
//! only the end of it. Tags may be cut anywhere between pieces; white space around them belongs to neither side.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// A piece of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub reasoning: String,
    pub content: String,
}

/// Where in the answer we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nothing but white space so far: a tag may still come.
    Start,
    /// Inside the tags; the flag says that text has begun.
    Thinking(bool),
    /// After the closing tag; only white space so far.
    Between,
    /// In the answer: everything passes.
    Saying,
}

/// Splits one answer.
#[derive(Debug)]
pub(crate) struct Splitter {
    at: At,
    held: String,
}

impl Splitter {
    /// For a model that may think (`thinks`), asked with `prompt`.
    pub fn new(thinks: bool, prompt: &str) -> Self {
        let opened = thinks && prompt.trim_end().ends_with(OPEN);
        let at = match (thinks, opened) {
            (_, true) => At::Thinking(false),
            (true, false) => At::Start,
            (false, false) => At::Saying,
        };
        Self { at, held: String::new() }
    }

    /// Whether the model is thinking now.
    pub fn is_thinking(&self) -> bool {
        matches!(self.at, At::Thinking(_))
    }

    /// Takes text in; gives out what is certain.
    pub fn push(&mut self, text: &str) -> Piece {
        let mut piece = Piece::default();
        self.held.push_str(text);
        while self.advance(&mut piece) {}
        piece
    }

    /// The answer ended: what was held back is text.
    pub fn finish(&mut self) -> Piece {
        let held = std::mem::take(&mut self.held);
        match self.at {
            At::Thinking(_) => Piece { reasoning: held.trim_end().to_owned(), content: String::new() },
            At::Start | At::Saying => Piece { reasoning: String::new(), content: held },
            At::Between => Piece::default(),
        }
    }

    /// One step; true where another may follow.
    fn advance(&mut self, piece: &mut Piece) -> bool {
        match self.at {
            At::Start => {
                let rest = self.held.trim_start();
                if let Some(rest) = rest.strip_prefix(OPEN) {
                    self.held = rest.to_owned();
                    self.at = At::Thinking(false);
                    return true;
                }
                if OPEN.starts_with(rest) {
                    return false;
                }
                self.at = At::Saying;
                true
            }
            At::Thinking(begun) => {
                if !begun {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return false;
                    }
                    self.at = At::Thinking(true);
                }
                if let Some(end) = self.held.find(CLOSE) {
                    piece.reasoning.push_str(self.held[..end].trim_end());
                    self.held.drain(..end + CLOSE.len());
                    self.at = At::Between;
                    return true;
                }
                // White space and the beginning of a closing tag wait for what follows them.
                let tag = (1..CLOSE.len()).rev().find(|&n| self.held.ends_with(&CLOSE[..n])).unwrap_or(0);
                let certain = self.held[..self.held.len() - tag].trim_end().len();
                piece.reasoning.extend(self.held.drain(..certain));
                false
            }
            At::Between => {
                self.held = self.held.trim_start().to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.at = At::Saying;
                true
            }
            At::Saying => {
                piece.content.push_str(&std::mem::take(&mut self.held));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way of cutting the text in two, and every character alone.
    fn split_all(thinks: bool, prompt: &str, text: &str, reasoning: &str, content: &str) {
        let bounds: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
        let singles: Vec<&str> = bounds.windows(2).map(|w| &text[w[0]..w[1]]).collect();
        let cuts = bounds.iter().map(|&b| vec![&text[..b], &text[b..]]).chain([singles]);
        for pieces in cuts {
            let mut splitter = Splitter::new(thinks, prompt);
            let mut got = Piece::default();
            let mut take = |p: Piece| {
                got.reasoning.push_str(&p.reasoning);
                got.content.push_str(&p.content);
            };
            pieces.iter().for_each(|p| take(splitter.push(p)));
            take(splitter.finish());
            assert_eq!((got.reasoning.as_str(), got.content.as_str()), (reasoning, content), "{pieces:?}");
        }
    }

    #[test]
    fn thinking_is_split_from_saying() {
        let text = "<think>\nso: a < b\n</thin or </b>\n</think>\n\n{\"a\": 1}\n";
        split_all(true, "", text, "so: a < b\n</thin or </b>", "{\"a\": 1}\n");
    }

    #[test]
    fn a_tag_opened_by_the_template_counts() {
        split_all(true, "assistant\n<think>\n", "hm\u{fc}\n</think>ok", "hm\u{fc}", "ok");
    }

    #[test]
    fn no_thinking_loses_nothing() {
        split_all(true, "", " \n<thing> <think>", "", " \n<thing> <think>");
        split_all(true, "<think>\n\n</think>\n\n", "<th", "", "<th");
        split_all(false, "<think>", "<think>a</think>b", "", "<think>a</think>b");
        split_all(true, "", "", "", "");
    }

    #[test]
    fn thinking_cut_short_is_no_answer() {
        split_all(true, "", "<think>half a tho</thi", "half a tho</thi", "");
    }
}
