//! JSON as pages write it: control characters in strings, trailing commas, comments around it.

use serde_json::Value;

/// Parses, mending what can be mended without guessing.
pub fn parse(text: &str) -> Option<Value> {
    let trimmed = text
        .trim()
        .trim_start_matches("<!--")
        .trim_end_matches("-->")
        .trim()
        .trim_start_matches("//<![CDATA[")
        .trim_start_matches("<![CDATA[")
        .trim_end_matches("//]]>")
        .trim_end_matches("]]>")
        .trim()
        .trim_end_matches(';');
    if let Ok(value) = serde_json::from_str(trimmed) {
        return Some(value);
    }
    serde_json::from_str(&mend(trimmed)).ok()
}

/// The first JSON value at the start of `text`, whatever follows it.
pub fn prefix(text: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok()
}

fn mend(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            match c {
                '\n' if !escaped => out.push_str("\\n"),
                '\r' if !escaped => {}
                '\t' if !escaped => out.push_str("\\t"),
                c if c < ' ' => out.push(' '),
                c => out.push(c),
            }
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == '"' {
                in_string = false;
            }
        } else {
            if matches!(c, '}' | ']') {
                let kept = out.trim_end().len();
                if out[..kept].ends_with(',') {
                    out.truncate(kept - 1);
                }
            }
            in_string = c == '"';
            out.push(c);
        }
    }
    out
}
