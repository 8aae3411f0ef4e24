//! One bounded parse of a page, shared by everything that reads it.

use ego_tree::NodeRef;
use ego_tree::iter::Edge;
use scraper::{Html, Node, Selector};
use url::Url;

use crate::nesting;

/// Bytes of HTML that are parsed at most; what is past them is cut off with a warning.
pub const HTML_BYTES_MAX: usize = 8 << 20;

/// A parsed page.
pub struct Document {
    /// The tree; flat in memory, so that depth costs no stack.
    pub html: Html,
    /// Against which relative links are resolved.
    pub base: Url,
    /// The page was longer than [`HTML_BYTES_MAX`], or nested deeper than [`nesting::DEPTH_MAX`].
    pub truncated: bool,
}

impl Document {
    /// Parses; never fails, as HTML parsing never does.
    pub fn parse(html: &str, base: &Url) -> Self {
        let mut end = html.len().min(HTML_BYTES_MAX);
        while !html.is_char_boundary(end) {
            end -= 1;
        }
        end = nesting::bounded(&html[..end]);
        let truncated = end < html.len();
        let parsed = Html::parse_document(&html[..end]);
        let mut elements = parsed.tree.root().descendants().filter_map(|node| node.value().as_element());
        let declared = elements.find_map(|element| element.attr("href").filter(|_| element.name() == "base"));
        let declared = declared.and_then(|href| base.join(href.trim()).ok());
        let origin = || (base.scheme() == "file").then(|| origin(&parsed)).flatten();
        let base = declared.filter(is_web).or_else(origin).unwrap_or_else(|| base.clone());
        Self { html: parsed, base, truncated }
    }

    /// An attribute of the first element that a selector matches.
    pub fn attr(&self, selector: &str, attribute: &str) -> Option<String> {
        first_attr(&self.html, selector, attribute)
    }

    /// Text of the first element that a selector matches, white space collapsed.
    pub fn text_of(&self, selector: &str) -> Option<String> {
        let selector = Selector::parse(selector).ok()?;
        let element = self.html.select(&selector).next()?;
        let text = collapse(&visible_text(*element));
        (!text.is_empty()).then_some(text)
    }

    /// All texts that a selector matches.
    pub fn texts_of(&self, selector: &str) -> Vec<String> {
        let Ok(selector) = Selector::parse(selector) else { return Vec::new() };
        let all = self.html.select(&selector).map(|e| collapse(&visible_text(*e)));
        all.filter(|text| !text.is_empty()).collect()
    }

    /// A link's absolute address, where it is one of the web.
    pub fn resolve(&self, href: &str) -> Option<Url> {
        self.base.join(href.trim()).ok().filter(is_web)
    }

    /// A link's absolute address; on a saved page that does not say where it was, the reference as it is written.
    pub fn reference(&self, href: &str) -> Option<String> {
        let href = href.trim();
        if let Some(url) = self.resolve(href) {
            return Some(url.into());
        }
        let is_relative = matches!(Url::parse(href), Err(url::ParseError::RelativeUrlWithoutBase));
        let is_usable = !href.is_empty() && !href.starts_with('#') && is_relative;
        (is_usable && self.base.scheme() == "file").then(|| href.to_owned())
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// Where a saved page was, by its own words.
fn origin(html: &Html) -> Option<Url> {
    let said = [("link[rel=canonical]", "href"), ("meta[property='og:url']", "content")];
    let urls = said.iter().filter_map(|(selector, attribute)| first_attr(html, selector, attribute));
    urls.filter_map(|text| Url::parse(&text).ok()).find(is_web)
}

fn first_attr(html: &Html, selector: &str, attribute: &str) -> Option<String> {
    let selector = Selector::parse(selector).ok()?;
    let found = html.select(&selector).find_map(|e| e.value().attr(attribute));
    found.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
}

/// Elements whose content nobody sees.
pub fn is_invisible(name: &str) -> bool {
    matches!(
        name,
        "script" | "style" | "svg" | "template" | "iframe" | "noscript" | "head" | "object" | "canvas"
    )
}

/// Text of a subtree, elements nobody sees left out, a space at each element's border.
pub fn visible_text(root: NodeRef<'_, Node>) -> String {
    let mut out = String::new();
    let mut hidden = 0usize;
    for edge in root.traverse() {
        match edge {
            Edge::Open(node) => match node.value() {
                Node::Text(text) if hidden == 0 => out.push_str(text),
                Node::Element(e) => {
                    if hidden > 0 || is_invisible(e.name()) {
                        hidden += 1;
                    } else if !is_inline(e.name()) {
                        out.push(' ');
                    }
                }
                _ => {}
            },
            Edge::Close(node) => {
                if let Node::Element(e) = node.value() {
                    if hidden > 0 {
                        hidden -= 1;
                    } else if !is_inline(e.name()) {
                        out.push(' ');
                    }
                }
            }
        }
    }
    out
}

/// Elements that do not break a line.
pub fn is_inline(name: &str) -> bool {
    matches!(
        name,
        "a" | "span"
            | "b"
            | "strong"
            | "i"
            | "em"
            | "u"
            | "small"
            | "sup"
            | "sub"
            | "font"
            | "mark"
            | "abbr"
            | "code"
            | "time"
            | "label"
            | "bdi"
            | "wbr"
            | "q"
            | "cite"
            | "s"
            | "data"
            | "tt"
    )
}

/// HTML's entities decoded once (`&amp;`, `&#8211;`, `&eacute;`, and those that may lack their semicolon).
pub fn unescape(text: &str) -> std::borrow::Cow<'_, str> {
    htmlize::unescape(text)
}

/// Characters that take no room: soft hyphens, zero-width spaces and joiners, marks of direction.
pub fn is_zero_width(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{202a}'..='\u{202e}')
}

/// White space collapsed, soft hyphens and zero-width characters gone, no-break spaces made spaces.
pub fn collapse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if is_zero_width(c) => {}
            c if c.is_whitespace() => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    if out.ends_with(' ') {
        out.pop();
    }
    out
}
