//! Where to cut a page that nests without end, before it is parsed.
//!
//! An HTML parser looks through its open elements for many a tag, so depth times length is what a hostile page can
//! make it cost: 200 KB of `<div>` take ten seconds. Browsers flatten at 512; here the page ends where it gets deeper
//! than any real one.

/// Open elements at most; real pages have tens, broken ones (a `<div>` left open per row) hundreds.
pub const DEPTH_MAX: usize = 1_500;

/// Elements that never hold anything, or that the next one of their kind closes.
const NOT_COUNTED: [&str; 28] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
    "p", "li", "td", "th", "tr", "dt", "dd", "option", "tbody", "thead", "tfoot", "colgroup", "optgroup",
    "param", "rp",
];
/// Elements whose content is text up to their end tag.
const RAW_TEXT: [&str; 5] = ["script", "style", "textarea", "title", "xmp"];

/// The length of the part to parse: all of it, or up to the tag that is too deep.
pub fn bounded(html: &str) -> usize {
    let bytes = html.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(found) = html.get(at..).and_then(|rest| rest.find('<')) {
        let start = at + found;
        at = start + 1;
        let closes = bytes.get(at) == Some(&b'/');
        let from = at + usize::from(closes);
        let name_len = bytes[from..].iter().take(16).take_while(|b| b.is_ascii_alphanumeric()).count();
        if name_len == 0 {
            if html[at..].starts_with("!--") {
                at = html[at..].find("-->").map_or(html.len(), |end| at + end);
            }
            continue;
        }
        let name = html[from..from + name_len].to_ascii_lowercase();
        at = from + name_len;
        if NOT_COUNTED.contains(&name.as_str()) {
            continue;
        }
        if closes {
            depth = depth.saturating_sub(1);
        } else if RAW_TEXT.contains(&name.as_str()) {
            at = raw_end(html, at, &name);
        } else {
            depth += 1;
            if depth > DEPTH_MAX {
                return start;
            }
        }
    }
    html.len()
}

/// Past the end tag of a raw text element, or the end of the page.
fn raw_end(html: &str, from: usize, name: &str) -> usize {
    let mut at = from;
    while let Some(found) = html.get(at..).and_then(|rest| rest.find("</")) {
        at += found + 2;
        if html.as_bytes()[at..]
            .get(..name.len())
            .is_some_and(|tag| tag.eq_ignore_ascii_case(name.as_bytes()))
        {
            return at + name.len();
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
        for cut in ["<", "</", "<a", "<!--", "<script", "<script></"] {
            assert_eq!(bounded(cut), cut.len());
        }
    }
}
