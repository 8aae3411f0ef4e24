//! Whether a value is on the page at all. Independent of the verifier that it checks: it looks at the page's source,
//! scripts included, not at the cleaned text.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::clean;
use crate::eval::compare::words;
use crate::posting::Posting;

/// The words of a page's source.
pub struct SourceWords(HashSet<String>, String);

impl SourceWords {
    /// Of a saved page.
    pub fn new(bytes: &[u8]) -> Self {
        static ENTITY: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos|nbsp|ndash|mdash|auml|ouml|uuml|Auml|Ouml|Uuml|szlig|eacute|shy));|\\u([0-9a-fA-F]{4})")
                .expect("a constant pattern compiles")
        });
        let mut text = clean::decode(bytes, None);
        // Twice, for what is escaped twice.
        for _ in 0..2 {
            text = ENTITY.replace_all(&text, |found: &regex::Captures<'_>| entity(found)).into_owned();
        }
        // Tags may stand within a word's neighbours, never within a word, but for soft breaks.
        let found = words(&text.replace("\\n", " ").replace("\\/", "/").replace("<wbr>", ""));
        let joined = found.join(" ");
        Self(found.into_iter().collect(), joined)
    }

    /// Whether every word is somewhere on the page, or the whole runs through it.
    pub fn holds(&self, value: &str) -> bool {
        let value = words(value);
        value.iter().all(|word| self.0.contains(word)) || self.1.contains(&value.join(" "))
    }
}

fn entity(found: &regex::Captures<'_>) -> String {
    let number = |index: usize, radix| {
        found.get(index).and_then(|m| u32::from_str_radix(m.as_str(), radix).ok()).and_then(char::from_u32)
    };
    if let Some(c) = number(1, 10).or_else(|| number(2, 16)).or_else(|| number(4, 16)) {
        return c.to_string();
    }
    match found.get(3).map_or("", |m| m.as_str()) {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" => "\"",
        "apos" => "'",
        "ndash" | "mdash" => "–",
        "auml" => "ä",
        "ouml" => "ö",
        "uuml" => "ü",
        "Auml" => "Ä",
        "Ouml" => "Ö",
        "Uuml" => "Ü",
        "szlig" => "ß",
        "eacute" => "é",
        "shy" => "",
        _ => " ",
    }
    .to_owned()
}

/// Values of a posting that are not on the page, with their field.
pub fn invented(posting: &Posting, source: &SourceWords) -> Vec<(String, String)> {
    let mut values: Vec<(&str, &str)> = Vec::new();
    values.extend(posting.title.as_deref().map(|v| ("title", v)));
    values.extend(posting.company.as_deref().map(|v| ("company", v)));
    values.extend(posting.seniority.as_deref().map(|v| ("seniority", v)));
    values.extend(posting.locations.iter().map(|v| ("locations", v.as_str())));
    values.extend(posting.skills.iter().map(|v| ("skills", v.as_str())));
    values.extend(posting.salary.as_ref().and_then(|s| s.text.as_deref()).map(|v| ("salary", v)));
    values
        .into_iter()
        .filter(|(_, value)| !source.holds(value))
        .map(|(field, value)| (field.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_text_attributes_or_state_is_held_and_the_rest_is_not() {
        let page = r#"<p>Senior&nbsp;Engineer &amp; Lead</p><script>{"name":"M\u00fcller GmbH","x":"a\nB&amp;quot;C"}</script>"#;
        let source = SourceWords::new(page.as_bytes());
        for yes in ["Senior Engineer & Lead", "Müller GmbH", "B\"C"] {
            assert!(source.holds(yes), "{yes}");
        }
        assert!(!source.holds("Junior Engineer"));
        let posting = Posting { title: Some("Chief Engineer".into()), ..Posting::default() };
        assert_eq!(invented(&posting, &source), [("title".to_owned(), "Chief Engineer".to_owned())]);
    }
}
