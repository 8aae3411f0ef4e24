//! A stretch of a page's content, in the forms in which values are looked for.

use std::cell::OnceCell;
use std::collections::HashSet;

use crate::eval::compare::{title_words, words};

/// Text that belongs together: a record of a list, a declared object, or all that is in neither.
#[derive(Default)]
pub struct Part {
    /// A line for each block of text and each declared value.
    text: String,
    /// Addresses, absolute, and as they are written.
    links: HashSet<String>,
    joined: OnceCell<String>,
    joined_titles: OnceCell<String>,
    amounts: OnceCell<Vec<f64>>,
}

impl Part {
    pub fn new(text: String, links: HashSet<String>) -> Self {
        Self { text, links, ..Self::default() }
    }

    /// Lower-case lines would lose nothing but the borders that words need; this is the text as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn has_link(&self, address: &str) -> bool {
        self.links.contains(address)
    }

    /// Whether the words of a value stand here, one behind the other.
    pub fn holds(&self, value: &str) -> bool {
        let phrase = words(value).join(" ");
        !phrase.is_empty() && holds_phrase(self.joined(), &phrase)
    }

    /// The same for titles, whose gender marks may differ.
    pub fn holds_title(&self, title: &str) -> bool {
        let joined = self.joined_titles.get_or_init(|| joined(&title_words(&self.text)));
        let phrase = title_words(title).join(" ");
        self.holds(title) || !phrase.is_empty() && holds_phrase(joined, &phrase)
    }

    /// Whether an entry of a word list matches here: whole words, `engineer*` a beginning, `*ingenieur` an end.
    pub fn says(&self, entry: &str) -> bool {
        let (entry, open_end) = entry.strip_suffix('*').map_or((entry, false), |e| (e, true));
        let (entry, open_start) = entry.strip_prefix('*').map_or((entry, false), |e| (e, true));
        occurs(self.joined(), entry, open_start, open_end)
    }

    /// Every number as a sum of money might mean it.
    pub fn amounts(&self) -> &[f64] {
        self.amounts.get_or_init(|| super::amounts::readings(&self.text))
    }

    fn joined(&self) -> &str {
        self.joined.get_or_init(|| joined(&words(&self.text)))
    }
}

fn joined(words: &[String]) -> String {
    format!(" {} ", words.join(" "))
}

fn holds_phrase(joined: &str, phrase: &str) -> bool {
    occurs(joined, phrase, false, false)
}

/// Whether `phrase` stands in `joined`, at borders of words where its script has them.
fn occurs(joined: &str, phrase: &str, open_start: bool, open_end: bool) -> bool {
    let is_free = |c: Option<char>, open: bool| open || c.is_some_and(is_unspaced);
    let free_start = is_free(phrase.chars().next(), open_start);
    let free_end = is_free(phrase.chars().next_back(), open_end);
    joined.match_indices(phrase).any(|(at, found)| {
        (free_start || joined[..at].ends_with(' '))
            && (free_end || joined[at + found.len()..].starts_with(' '))
    })
}

/// Letters of scripts that put no spaces between words, and of Hebrew, which glues particles to them.
pub fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{5ff}' | '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}')
}
