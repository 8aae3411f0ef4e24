//! A page without what nobody reads: the text of style sheets, and what is inside SVG pictures.
//!
//! Both are a fifth of real pages' bytes, and a parser pays for each attribute of each path. The elements themselves
//! stay, empty. Where the markup is not as it should be (no end tag), it stays whole.

use std::borrow::Cow;

use memchr::{memchr, memmem};

/// Elements in whose text a tag is no tag.
const TEXT_ONLY: [&str; 6] = ["script", "textarea", "title", "noscript", "iframe", "xmp"];

/// The slim page.
pub fn slim(html: &str) -> Cow<'_, str> {
    let bytes = html.as_bytes();
    let mut out = String::new();
    let (mut at, mut copied) = (0, 0);
    // Bytes that were looked through for an end that was not there: nobody may make that a square of the length.
    let mut in_vain = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'<', rest))
        && in_vain <= bytes.len()
    {
        at += found + 1;
        let rest = &bytes[at..];
        if rest.starts_with(b"!--") {
            at = memmem::find(rest, b"-->").map_or(bytes.len(), |end| at + end);
            continue;
        }
        if let Some(name) = TEXT_ONLY.iter().find(|name| begins(rest, name)) {
            match end_tag(bytes, at, name) {
                Ok(end) => at = end,
                Err(looked) => in_vain += looked - at,
            }
            continue;
        }
        let find_end = if begins(rest, "style") {
            style_end
        } else if begins(rest, "svg") {
            svg_end
        } else {
            continue;
        };
        match tag_end(bytes, at).and_then(|start| Ok((start, find_end(bytes, start)?))) {
            Ok((start, end)) => {
                out.push_str(&html[copied..start]);
                (at, copied) = (end, end);
            }
            Err(looked) => in_vain += looked - at,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(html);
    }
    out.push_str(&html[copied..]);
    Cow::Owned(out)
}

/// Whether a tag of this name begins; given from behind `<`.
fn begins(bytes: &[u8], name: &str) -> bool {
    let is_name = bytes.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
    is_name && bytes.get(name.len()).is_some_and(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-')
}

/// How far was looked, where an end was not found.
type Found = Result<usize, usize>;

/// Past the `>` of a tag, given from within it. None where it closes itself.
fn tag_end(bytes: &[u8], from: usize) -> Found {
    let mut quote = None;
    let mut before = b' ';
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match (quote, *byte) {
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) if before == b'=' => quote = Some(byte),
            (None, b'>') if before == b'/' => return Err(at + 1),
            (None, b'>') => return Ok(at + 1),
            (None, b' ' | b'\t' | b'\n' | b'\r') => continue,
            (None, _) => {}
        }
        before = *byte;
    }
    Err(bytes.len())
}

/// Where `</name` stands next.
fn end_tag(bytes: &[u8], from: usize, name: &str) -> Found {
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| memmem::find(rest, b"</")) {
        at += found;
        if begins(&bytes[at + 2..], name) {
            return Ok(at);
        }
        at += 2;
    }
    Err(bytes.len())
}

fn style_end(bytes: &[u8], from: usize) -> Found {
    end_tag(bytes, from, "style")
}

/// The end of the picture, past those inside it. One that opens an HTML document inside is left alone, and so is one
/// that HTML may have ended without a tag.
fn svg_end(bytes: &[u8], from: usize) -> Found {
    let (mut at, mut depth) = (from, 1);
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'<', rest)) {
        let start = at + found;
        at = start + 1;
        let rest = &bytes[at..];
        if rest.first() == Some(&b'/') && begins(&rest[1..], "svg") {
            depth -= 1;
            if depth == 0 {
                return Ok(start);
            }
        } else if begins(rest, "svg") {
            match tag_end(bytes, at) {
                Ok(end) => {
                    depth += 1;
                    at = end;
                }
                Err(end) => at = end,
            }
        } else if rest.starts_with(b"!") || BREAKS_OUT.iter().any(|name| begins(rest, name)) {
            return Err(at);
        }
    }
    Err(bytes.len())
}

/// Elements that end a picture, or bring back HTML, or code.
const BREAKS_OUT: [&str; 14] =
    ["div", "p", "span", "a", "img", "ul", "li", "table", "body", "script", "foreignobject", "br", "h1", "b"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_sheets_and_pictures_are_emptied_and_nothing_else_changes() {
        for (page, expected) in [
            ("<STYLE media='a>b'>p { x }</style><p>a", "<STYLE media='a>b'></style><p>a"),
            ("<svg width=1><g><path d='M0'/></g></svg>b", "<svg width=1></svg>b"),
            ("<svg><svg><path/></svg><text>t</text></svg>b", "<svg></svg>b"),
            ("<svg><svg/><text>t</text></svg>b", "<svg></svg>b"),
        ] {
            assert_eq!(slim(page), expected);
        }
        for same in [
            "<svg/><p>a</p></svg>",
            "<svg><path/><p>not closed, and out of it",
            "<svg><foreignObject><p>a</p></foreignObject></svg>",
            "<svg><div>breaks out</div></svg>",
            "<svg><script>x</script></svg>",
            "<svg><title>open",
            "<style>open",
            "<script>'<svg><g></g></svg><style>x</style>'</script>",
            "<!-- <style>x</style> -->",
            "<textarea><style>x</style></textarea>",
            "<svgx><g></svgx><styles>x</styles>",
            "é<",
            "<style",
            "",
        ] {
            assert_eq!(slim(same), same);
        }
    }

    #[test]
    fn ends_that_never_come_are_not_looked_for_again_and_again() {
        // By the square of the length each of these would take hours.
        for part in
            ["<title>", "<svg>", "<style>", "<style ", "<svg a='", "<svg/", "<script", "<svg><path>", "</svg"]
        {
            let page = part.repeat(300_000);
            assert_eq!(slim(&page), page, "{part}");
        }
    }

    #[test]
    fn what_is_seen_stays() {
        let base = url::Url::parse("https://a.example/").unwrap();
        for page in [
            "<p>a<svg><title>t</title><g/></svg>b<style>p{}</style>c<h1>d</h1>",
            "<ul><li><svg viewBox='0 0 1 1'><path d='M0>1'/></svg>x</li><li>y<svg><use href=#i></use></svg></li></ul>",
        ] {
            let text = |document: crate::document::Document| crate::clean::clean(&document).markdown;
            let whole = crate::document::Document {
                html: scraper::Html::parse_document(page),
                base: base.clone(),
                truncated: false,
            };
            assert_eq!(text(crate::document::Document::parse(page, &base)), text(whole), "{page}");
        }
    }
}
