//! Writing the kept part of the tree as markdown, iteratively: depth costs no stack.

use std::collections::{HashMap, HashSet};

use ego_tree::NodeId;
use ego_tree::iter::Edge;
use scraper::Node;

use super::Link;
use crate::document::{Document, is_inline};

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
        for c in text.chars() {
            match c {
                '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{202a}'..='\u{202e}' => {}
                c if c.is_whitespace() => self.space = true,
                c => {
                    self.flush();
                    self.out.push(c);
                }
            }
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
pub fn write(document: &Document, dropped: &HashSet<NodeId>) -> (String, Vec<Link>) {
    let mut w = Writer { out: String::new(), newline: false, space: false, marker: "" };
    let mut links: Vec<Link> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut open_links: Vec<(NodeId, usize)> = Vec::new();
    let mut skipping: Option<NodeId> = None;
    for edge in document.html.tree.root().traverse() {
        match edge {
            Edge::Open(node) => {
                if skipping.is_some() {
                    continue;
                }
                if dropped.contains(&node.id()) {
                    skipping = Some(node.id());
                    w.space = true;
                    continue;
                }
                match node.value() {
                    Node::Text(text) => w.text(text),
                    Node::Element(element) => match element.name() {
                        "br" => w.newline = true,
                        "td" | "th" => {
                            if node.prev_siblings().any(|s| s.value().is_element()) {
                                w.text(" | ");
                            }
                        }
                        "img" => {
                            // Logos often are the only place that names the employer.
                            if let Some(alt) =
                                element.attr("alt").filter(|a| a.chars().count() > 2 && a.len() < 80)
                            {
                                w.space = true;
                                w.text(alt);
                                w.space = true;
                            }
                        }
                        "a" => open_links.push((node.id(), w.out.len())),
                        name if is_inline(name) => {}
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
                    },
                    _ => {}
                }
            }
            Edge::Close(node) => {
                if let Some(skipped) = skipping {
                    if skipped == node.id() {
                        skipping = None;
                    }
                    continue;
                }
                let Node::Element(element) = node.value() else { continue };
                match element.name() {
                    "a" => {
                        let Some((id, start)) = open_links.pop() else { continue };
                        let text = w.out.get(start..).unwrap_or("").trim().to_owned();
                        let href = element.attr("href").filter(|h| !h.starts_with('#'));
                        let url = href.and_then(|href| document.resolve(href));
                        let (true, Some(url), false) = (id == node.id(), url, text.is_empty()) else {
                            continue;
                        };
                        let next = links.len() + 1;
                        let number = *numbers.entry(url.to_string()).or_insert(next);
                        if number == next {
                            if links.len() >= LINKS_MAX {
                                numbers.remove(url.as_str());
                                continue;
                            }
                            links.push(Link { number, url, text });
                        }
                        w.out.push_str(&format!(" [{number}]"));
                    }
                    name if is_inline(name) || matches!(name, "td" | "th" | "br" | "img") => {}
                    _ => {
                        w.newline = true;
                        // A marker without text belongs to nothing that follows.
                        w.marker = "";
                    }
                }
            }
        }
    }
    (w.out, links)
}
