//! Writing the kept part of the tree as markdown, iteratively: depth costs no stack.

use std::collections::HashMap;
use std::fmt::Write as _;

use scraper::Node;
use scraper::node::Element;

use super::Link;
use super::outline::{Entry, Kind, Outline};
use crate::document::{Document, is_zero_width};

/// Links that are numbered at most; a page with more is a sitemap.
const LINKS_MAX: usize = 5_000;

struct Writer {
    out: String,
    /// A line break is due before the next text.
    newline: bool,
    space: bool,
    /// Marker to write at the start of the next text (heading, list item).
    marker: &'static str,
}

impl Writer {
    fn text(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            // Runs of plain characters at once.
            let run = rest.bytes().position(|byte| !byte.is_ascii_graphic()).unwrap_or(rest.len());
            if run > 0 {
                self.flush();
                self.out.push_str(&rest[..run]);
                rest = &rest[run..];
                continue;
            }
            if c.is_whitespace() {
                self.space = true;
            } else if !is_zero_width(c) {
                self.flush();
                self.out.push(c);
            }
            rest = &rest[c.len_utf8()..];
        }
    }

    fn flush(&mut self) {
        if self.newline {
            if !self.out.is_empty() {
                self.out.push('\n');
            }
            self.newline = false;
            self.space = false;
        }
        if !self.marker.is_empty() {
            if !self.out.is_empty() && !self.out.ends_with('\n') {
                self.out.push('\n');
            }
            self.out.push_str(self.marker);
            self.marker = "";
            self.space = false;
        }
        if self.space {
            if !self.out.is_empty() && !self.out.ends_with(['\n', ' ']) {
                self.out.push(' ');
            }
            self.space = false;
        }
    }
}

/// Markdown and its links.
pub fn write(document: &Document, outline: &Outline<'_>, dropped: &[bool]) -> (String, Vec<Link>) {
    let entries = &outline.entries;
    let mut w = Writer { out: String::new(), newline: false, space: false, marker: "" };
    let mut links = Links { document, links: Vec::new(), by_url: HashMap::new(), by_href: HashMap::new() };
    // Open elements, and where in the text each begins.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    loop {
        while let Some((element, start)) = open.pop_if(|(element, _)| entries[*element].end <= at) {
            end(&entries[element], start, &mut w, &mut links);
        }
        let Some(entry) = entries.get(at) else { break };
        if dropped[at] {
            w.space = true;
            at = entry.end;
            continue;
        }
        match entry.node.value() {
            Node::Text(text) => w.text(text),
            Node::Element(element) => {
                open.push((at, w.out.len()));
                begin(entry, element, &mut w);
            }
            _ => {}
        }
        at += 1;
    }
    (w.out, links.links)
}

fn begin(entry: &Entry<'_>, element: &Element, w: &mut Writer) {
    match element.name() {
        "br" => w.newline = true,
        "td" | "th" => {
            if entry.node.prev_siblings().any(|s| s.value().is_element()) {
                w.text(" | ");
            }
        }
        "img" => {
            // Logos often are the only place that names the employer.
            if let Some(alt) = element.attr("alt").filter(|a| a.chars().count() > 2 && a.len() < 80) {
                w.space = true;
                w.text(alt);
                w.space = true;
            }
        }
        _ if entry.kind == Kind::Inline => {}
        name => {
            w.newline = true;
            w.marker = match name {
                "h1" => "# ",
                "h2" => "## ",
                "h3" => "### ",
                "h4" | "h5" | "h6" => "#### ",
                "li" => "* ",
                _ => w.marker,
            };
        }
    }
}

fn end<'a>(entry: &Entry<'a>, start: usize, w: &mut Writer, links: &mut Links<'a>) {
    let Some(element) = entry.element() else { return };
    match element.name() {
        "a" => {
            let text = w.out.get(start..).unwrap_or("").trim();
            if let Some(number) = links.number(element.attr("href"), text) {
                // Writing into a String cannot fail.
                let _ = write!(w.out, " [{number}]");
            }
        }
        "td" | "th" | "br" | "img" => {}
        _ if entry.kind == Kind::Inline => {}
        _ => {
            w.newline = true;
            // A marker without text belongs to nothing that follows.
            w.marker = "";
        }
    }
}

/// The links in the text, numbered.
struct Links<'a> {
    document: &'a Document,
    links: Vec<Link>,
    by_url: HashMap<String, usize>,
    /// As the page writes them.
    by_href: HashMap<&'a str, Option<usize>>,
}

impl<'a> Links<'a> {
    /// The number of a link with a text, where it leads to another page.
    fn number(&mut self, href: Option<&'a str>, text: &str) -> Option<usize> {
        let href = href.filter(|href| !href.starts_with('#') && !text.is_empty())?;
        if let Some(known) = self.by_href.get(href) {
            return *known;
        }
        let number = self.document.resolve(href).and_then(|url| {
            if let Some(known) = self.by_url.get(url.as_str()) {
                return Some(*known);
            }
            let number = self.links.len() + 1;
            if number > LINKS_MAX {
                return None;
            }
            self.by_url.insert(url.to_string(), number);
            self.links.push(Link { number, url, text: text.to_owned() });
            Some(number)
        });
        self.by_href.insert(href, number);
        number
    }
}
