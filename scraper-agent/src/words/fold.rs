//! One spelling for texts that mean the same: the build folds the entries, the run the texts.
//!
//! NFKC, lower case, "ё" as "е", one kind of apostrophe and quotation mark; soft hyphens and zero-width characters go.
//! Runs of white space, and a hyphen or underscore inside a word, are one space, so that "full-time", "FULL_TIME" and
//! "full time" are one. A line break stays one: no phrase goes across.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::canonical_combining_class;

/// A folded text and where each of its bytes comes from.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// The text.
    pub text: String,
    /// For each byte of it, the byte in the original at which its character begins.
    pub origin: Vec<u32>,
}

/// Folds a text of at most 4 GiB.
pub fn fold(original: &str) -> Folded {
    let mut out =
        Folded { text: String::with_capacity(original.len()), origin: Vec::with_capacity(original.len()) };
    let mut chars = original.char_indices().peekable();
    let mut previous = ' ';
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let composed = next.is_some_and(joins_previous);
        match c {
            _ if is_nothing(c) => continue,
            '\n' => out.push('\n', at),
            _ if c.is_whitespace() => out.push(' ', at),
            _ if is_hyphen(c) && previous.is_alphanumeric() && next.is_some_and(char::is_alphanumeric) => {
                out.push(' ', at);
            }
            _ if is_hyphen(c) => out.push('-', at),
            '’' | '‘' | 'ʼ' | '`' | '´' | '׳' => out.push('\'', at),
            '“' | '”' | '„' | '״' => out.push('"', at),
            _ if c.is_ascii() && !composed => out.push(c.to_ascii_lowercase(), at),
            _ => {
                let mut cluster = String::from(c);
                while let Some((_, mark)) = chars.next_if(|(_, next)| joins_previous(*next)) {
                    cluster.push(mark);
                }
                for folded in cluster.nfkc().flat_map(char::to_lowercase) {
                    out.push(if folded == 'ё' { 'е' } else { folded }, at);
                }
            }
        }
        previous = c;
    }
    out
}

impl Folded {
    /// Appends a character; a run of white space becomes one, a line break if it holds one.
    fn push(&mut self, c: char, at: usize) {
        if c == '\n' && self.text.ends_with(' ') {
            self.text.pop();
            self.origin.pop();
        }
        if c == ' ' && self.text.ends_with([' ', '\n']) || c == '\n' && self.text.ends_with('\n') {
            return;
        }
        self.text.push(c);
        self.origin.resize(self.text.len(), u32::try_from(at).unwrap_or(u32::MAX));
    }
}

/// Combining marks, and the halfwidth sound marks of kana that NFKC turns into such.
pub fn joins_previous(c: char) -> bool {
    c > '\u{2ff}' && (canonical_combining_class(c) != 0 || matches!(c, '\u{ff9e}' | '\u{ff9f}'))
}

/// Soft hyphens, zero-width characters and marks of direction.
fn is_nothing(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '_' | '\u{2010}' | '\u{2011}' | '\u{5be}')
}
