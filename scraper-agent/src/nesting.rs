//! Where to cut a page that nests without end, before it is parsed.
//!
//! An HTML parser looks through its open elements for many a tag, so depth times length is what a hostile page can
//! make it cost: 200 KB of `<div>` take ten seconds. Browsers flatten at 512; here the page ends where it gets deeper
//! than any real one.

use memchr::memchr;

/// Open elements at most; real pages have tens, broken ones (a `<div>` left open per row) hundreds.
pub const DEPTH_MAX: usize = 1_500;

/// Bytes of a tag's name that are looked at; the longest that matters has fourteen.
const NAME_BYTES_MAX: usize = 16;

/// Bytes of one tag that are looked through; an icon's path is long, but not that long.
const TAG_BYTES_MAX: usize = 64 << 10;

/// Elements that never hold anything, or that the next one of their kind closes.
const NOT_COUNTED: [&str; 28] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
    "p", "li", "td", "th", "tr", "dt", "dd", "option", "tbody", "thead", "tfoot", "colgroup", "optgroup",
    "param", "rp",
];
/// Elements that open SVG or MathML, where `<path/>` is a whole element; in HTML the slash means nothing.
const FOREIGN: [&str; 2] = ["svg", "math"];
/// Elements inside SVG or MathML whose content is HTML again (its integration points).
const HTML_AGAIN: [&str; 9] =
    ["foreignobject", "desc", "title", "annotation-xml", "mi", "mo", "mn", "ms", "mtext"];
/// HTML elements that end SVG or MathML where they stand in it (WHATWG HTML, "in foreign content").
const BREAKS_OUT: [&str; 45] = [
    "b",
    "big",
    "blockquote",
    "body",
    "br",
    "center",
    "code",
    "dd",
    "div",
    "dl",
    "dt",
    "em",
    "embed",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "hr",
    "i",
    "img",
    "li",
    "listing",
    "menu",
    "meta",
    "nobr",
    "ol",
    "p",
    "pre",
    "ruby",
    "s",
    "small",
    "span",
    "strong",
    "strike",
    "sub",
    "sup",
    "table",
    "tt",
    "u",
    "ul",
    "var",
];
/// Elements whose content is text up to their end tag.
const RAW_TEXT: [&str; 5] = ["script", "style", "textarea", "title", "xmp"];

/// The length of the part to parse: all of it, or up to the tag that is too deep.
pub fn bounded(html: &str) -> usize {
    let bytes = html.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    // Depths at which SVG or MathML begins (true) or HTML begins again in it (false), innermost last.
    let mut modes: Vec<(usize, bool)> = Vec::new();
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'<', rest)) {
        let start = at + found;
        at = start + 1;
        let closes = bytes.get(at) == Some(&b'/');
        let from = at + usize::from(closes);
        let name_len =
            bytes[from..].iter().take(NAME_BYTES_MAX).take_while(|b| b.is_ascii_alphanumeric()).count();
        if name_len == 0 {
            if html[at..].starts_with("!--") {
                at = html[at..].find("-->").map_or(html.len(), |end| at + end);
            }
            continue;
        }
        let mut lower = [0; NAME_BYTES_MAX];
        let lower = &mut lower[..name_len];
        lower.copy_from_slice(&bytes[from..from + name_len]);
        lower.make_ascii_lowercase();
        at = from + name_len;
        // Alphanumeric ASCII, by how it was found.
        let Ok(name) = std::str::from_utf8(lower) else { continue };
        if modes.last().is_some_and(|(_, is_foreign)| *is_foreign) {
            if BREAKS_OUT.contains(&name) {
                modes.pop();
            } else if !closes && is_self_closing(&html[at..]) {
                continue;
            }
        }
        let is_foreign = modes.last().is_some_and(|(_, is_foreign)| *is_foreign);
        if !is_foreign && NOT_COUNTED.contains(&name) {
            continue;
        }
        if closes {
            depth = depth.saturating_sub(1);
            while modes.last().is_some_and(|(begins, _)| *begins > depth) {
                modes.pop();
            }
        } else if !is_foreign && RAW_TEXT.contains(&name) {
            at = raw_end(html, at, name);
        } else {
            depth += 1;
            if depth > DEPTH_MAX {
                return start;
            }
            if FOREIGN.contains(&name) && !is_self_closing(&html[at..]) {
                modes.push((depth, true));
            } else if is_foreign && HTML_AGAIN.contains(&name) {
                modes.push((depth, false));
            }
        }
    }
    html.len()
}

/// Whether a tag, given from behind its name, ends in `/>`; a slash or a `>` in quotes is none.
fn is_self_closing(rest: &str) -> bool {
    let mut quote = None;
    let mut before = b' ';
    for byte in rest.bytes().take(TAG_BYTES_MAX) {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') if before == b'=' => quote = Some(byte),
            (None, b'>') => return before == b'/',
            (None, b' ' | b'\t' | b'\n' | b'\r') => continue,
            (None, _) => {}
        }
        before = byte;
    }
    false
}

/// Past the end tag of a raw text element, or the end of the page.
fn raw_end(html: &str, from: usize, name: &str) -> usize {
    let bytes = html.as_bytes();
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'<', rest)) {
        at += found + 1;
        let tag = bytes.get(at + 1..at + 1 + name.len());
        if bytes.get(at) == Some(&b'/') && tag.is_some_and(|tag| tag.eq_ignore_ascii_case(name.as_bytes())) {
            return at + 1 + name.len();
        }
    }
    html.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nests_without_end_is_cut() {
        let deep = "<div>".repeat(DEPTH_MAX + 10);
        assert_eq!(bounded(&deep), 5 * DEPTH_MAX);
        let closed = "<DIV><b>x</b></div>".repeat(100_000);
        assert_eq!(bounded(&closed), closed.len());
        let lists = "<p>x<li>y<br><img><td>".repeat(100_000);
        assert_eq!(bounded(&lists), lists.len());
        let script = format!("<script>{}</SCRIPT><!-- {} -->é<", "<div>".repeat(9_000), "<i>".repeat(9_000));
        assert_eq!(bounded(&script), script.len());
        let icon = r#"<svg viewBox="0 0 9 9"><title>x</title><g><path d='M0>/' /><circle r="1"/></g></svg>"#;
        let icons = format!("<div>{}</div>", icon.repeat(3_000));
        assert_eq!(bounded(&icons), icons.len(), "a self-closed element of SVG holds nothing");
        let math = "<math><mrow><mspace/><mi>x</mi></mrow></math>".repeat(3_000);
        assert_eq!(bounded(&math), math.len());
        // Where the slash means nothing to a parser, it means nothing here.
        for hostile in ["<div/>", "<svg><div/>", "<svg><foreignObject><x/>", "<svg/>", "<svg><g class=/>"] {
            let page = format!("<svg><foreignObject>{}", hostile.repeat(DEPTH_MAX + 10));
            assert!(bounded(&page) < page.len(), "{hostile}");
        }
        for cut in ["<", "</", "<a", "<!--", "<script", "<script></"] {
            assert_eq!(bounded(cut), cut.len());
        }
    }
}
