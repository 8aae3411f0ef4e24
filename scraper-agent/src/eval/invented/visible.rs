//! What a reader sees of a page, in document order, and which stretches of it are records of a list.
//!
//! A record is one of three or more siblings of one element name and like build that look like cards of a list: each
//! holds a link and two texts or more, and either begins with the link or is short. What a record says belongs to the job in it alone.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ego_tree::iter::Edge;
use ego_tree::{NodeId, NodeRef};
use scraper::node::Element;
use scraper::{ElementRef, Node};

use super::part::Part;
use crate::document::{Document, collapse, is_inline};
use crate::eval::compare::title_words;

/// Siblings that make a list.
const SIBLINGS_MIN: usize = 3;
/// What the builds of two records share at least, of all that is in either.
const LIKENESS_MIN: f64 = 0.5;
/// Siblings to which the others are compared.
const PATTERNS_MAX: usize = 5;
/// Words of a record that begins otherwise than with its link.
const CARD_WORDS_MAX: usize = 60;
/// Words of a record at most; RemoteOK-like boards put whole postings into their lists.
const RECORD_WORDS_MAX: usize = 600;

/// A text node, or a value declared in an attribute, in document order.
struct Piece {
    /// Pieces of one line are read together.
    line: usize,
    text: String,
    is_linked: bool,
    is_heading: bool,
}

/// What one element covers.
#[derive(Clone, Copy)]
struct Cover {
    pieces: (usize, usize),
    links: (usize, usize),
}

/// A record and what is in it but in no record inside it.
pub struct Record {
    /// The record around it.
    pub parent: Option<usize>,
    pieces: Range<usize>,
    /// Its content.
    pub part: Part,
    /// Texts of its lines and pieces that may be a title, as words.
    pub titles: Vec<String>,
}

/// A page as it is seen.
pub struct Visible {
    /// What is in no record.
    pub common: Part,
    /// Lines of it, as words of titles.
    pub common_titles: Vec<String>,
    /// Records, outer ones before what is in them.
    pub records: Vec<Record>,
}

/// Reads the tree.
pub fn read(document: &Document) -> Visible {
    let mut walk = Walk::default();
    walk.run(document);
    let mut spans = walk.records(document);
    spans.sort_by_key(|span| (span.pieces.0, std::cmp::Reverse(span.pieces.1)));
    let mut parents: Vec<Option<usize>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        while open.last().is_some_and(|outer| spans[*outer].pieces.1 <= span.pieces.0) {
            open.pop();
        }
        parents.push(open.last().copied());
        open.push(at);
    }
    // The innermost record of each piece and link; outer records come first and are painted over.
    let mut piece_owner = vec![None; walk.pieces.len()];
    let mut link_owner = vec![None; walk.links.len()];
    for (at, span) in spans.iter().enumerate() {
        piece_owner[span.pieces.0..span.pieces.1].fill(Some(at));
        link_owner[span.links.0..span.links.1].fill(Some(at));
    }
    let part = |owner: Option<usize>, pieces: Range<usize>, links: Range<usize>| {
        let own = pieces.filter(|piece| piece_owner[*piece] == owner);
        let (text, titles) = text_of(own.map(|piece| &walk.pieces[piece]));
        let links = links.filter(|link| link_owner[*link] == owner).flat_map(|link| walk.links[link].clone());
        (Part::new(text, links.collect()), titles)
    };
    let (common, common_titles) = part(None, 0..walk.pieces.len(), 0..walk.links.len());
    let records = spans.iter().zip(parents).enumerate().map(|(at, (span, parent))| {
        let pieces = span.pieces.0..span.pieces.1;
        let (part, titles) = part(Some(at), pieces.clone(), span.links.0..span.links.1);
        Record { parent, pieces, part, titles }
    });
    Visible { common, common_titles, records: records.collect() }
}

impl Record {
    /// Whether another record lies in this one.
    pub fn encloses(&self, other: &Self) -> bool {
        self.pieces.start <= other.pieces.start && other.pieces.end <= self.pieces.end
    }
}

/// Lines with their pieces as they stand, once more with spaces between the pieces where that differs, and what of it
/// may be a title.
fn text_of<'a>(pieces: impl Iterator<Item = &'a Piece>) -> (String, Vec<String>) {
    let (mut text, mut titles) = (String::new(), Vec::new());
    let mut line: Vec<&Piece> = Vec::new();
    let mut end = |line: &mut Vec<&Piece>| {
        let glued: String = line.iter().map(|piece| piece.text.as_str()).collect();
        let spaced = line.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join(" ");
        for shown in [collapse(&glued), collapse(&spaced)] {
            let words = title_words(&shown).join(" ");
            if !words.is_empty() && titles.last() != Some(&words) {
                text.push_str(&shown);
                text.push('\n');
                titles.push(words);
            }
        }
        if line.len() > 1 {
            titles.extend(
                line.iter().map(|piece| title_words(&piece.text).join(" ")).filter(|t| !t.is_empty()),
            );
        }
        line.clear();
    };
    for piece in pieces {
        if line.first().is_some_and(|first| first.line != piece.line) {
            end(&mut line);
        }
        line.push(piece);
    }
    end(&mut line);
    (text, titles)
}

#[derive(Default)]
struct Walk {
    pieces: Vec<Piece>,
    /// Each address, absolute and as it is written.
    links: Vec<Vec<String>>,
    covers: HashMap<NodeId, Cover>,
    line: usize,
    linked: usize,
    headings: usize,
}

impl Walk {
    fn run(&mut self, document: &Document) {
        let mut hidden = 0usize;
        let mut starts: Vec<(usize, usize)> = Vec::new();
        for edge in document.html.tree.root().traverse() {
            match edge {
                Edge::Open(node) => match node.value() {
                    Node::Text(text) if hidden == 0 && !text.trim().is_empty() => self.piece(text),
                    // White space between two inline elements still parts them.
                    Node::Text(_) if hidden == 0 => {
                        if let Some(last) = self.pieces.last_mut().filter(|last| last.line == self.line) {
                            last.text.push(' ');
                        }
                    }
                    Node::Element(element) => {
                        if hidden > 0 || is_hidden(element) && !is_folded(node) {
                            hidden += 1;
                            continue;
                        }
                        self.break_line(element);
                        starts.push((self.pieces.len(), self.links.len()));
                        self.attributes(element, document);
                        self.linked += usize::from(element.name() == "a");
                        self.headings += usize::from(is_heading(element.name()));
                    }
                    _ => {}
                },
                Edge::Close(node) => {
                    let Node::Element(element) = node.value() else { continue };
                    if hidden > 0 {
                        hidden -= 1;
                        continue;
                    }
                    self.break_line(element);
                    self.linked -= usize::from(element.name() == "a");
                    self.headings -= usize::from(is_heading(element.name()));
                    let (pieces, links) = starts.pop().unwrap_or_default();
                    let cover =
                        Cover { pieces: (pieces, self.pieces.len()), links: (links, self.links.len()) };
                    self.covers.insert(node.id(), cover);
                }
            }
        }
    }

    fn piece(&mut self, text: &str) {
        let (is_linked, is_heading) = (self.linked > 0, self.headings > 0);
        self.pieces.push(Piece { line: self.line, text: text.to_owned(), is_linked, is_heading });
    }

    fn break_line(&mut self, element: &Element) {
        if !is_inline(element.name()) {
            self.line += 1;
        }
    }

    /// What attributes show or declare, each on a line of its own, and addresses.
    fn attributes(&mut self, element: &Element, document: &Document) {
        let name = element.name();
        let declares =
            element.attr("itemprop").or(element.attr("property")).or(element.attr("name")).is_some();
        let values = [
            element.attr("alt"),
            element.attr("datetime"),
            element.attr("content").filter(|_| declares),
            element.attr("value").filter(|_| {
                name == "data" || name == "input" && matches!(element.attr("type"), Some("submit" | "button"))
            }),
        ];
        for value in values.into_iter().flatten().filter(|value| !value.trim().is_empty()) {
            self.line += 1;
            self.piece(value);
            self.line += 1;
        }
        for attribute in ["href", "action", "src", "content"] {
            let is_link = match attribute {
                "src" => name == "iframe",
                "content" => declares,
                _ => true,
            };
            if let Some(address) = element.attr(attribute).filter(|_| is_link) {
                self.links.push(addresses(address, document));
            }
        }
    }

    /// Elements that are records.
    fn records(&self, document: &Document) -> Vec<Cover> {
        let mut words = vec![0];
        words.extend(self.pieces.iter().scan(0, |sum, piece| {
            *sum += piece.text.split_whitespace().count();
            Some(*sum)
        }));
        let mut found = Vec::new();
        let mut scopes = Vec::new();
        for parent in document.html.tree.root().descendants() {
            if parent.value().as_element().is_some_and(declares_job)
                && let Some(cover) = self.covers.get(&parent.id())
            {
                scopes.push(*cover);
            }
            let mut by_name: HashMap<&str, Vec<NodeRef<'_, Node>>> = HashMap::new();
            for child in parent.children() {
                if let Some(element) = child.value().as_element() {
                    by_name.entry(element.name()).or_default().push(child);
                }
            }
            for siblings in by_name.values().filter(|siblings| siblings.len() >= SIBLINGS_MIN) {
                found.extend(self.alike(siblings, &words));
            }
        }
        // One declared job is the page's own.
        if scopes.len() > 1 {
            found.extend(scopes);
        }
        found.sort_by_key(|cover| (cover.pieces, cover.links));
        found.dedup_by_key(|cover| (cover.pieces, cover.links));
        found
    }

    /// The siblings that look like records and are built alike; parts of one card are built differently.
    fn alike(&self, siblings: &[NodeRef<'_, Node>], words: &[usize]) -> Vec<Cover> {
        let cards: Vec<(Cover, HashSet<(&str, &str)>)> = siblings
            .iter()
            .filter_map(|sibling| Some((*self.covers.get(&sibling.id())?, *sibling)))
            .filter(|(cover, _)| self.is_record(cover, words))
            .map(|(cover, sibling)| (cover, build(sibling)))
            .collect();
        let like = |pattern: &HashSet<(&str, &str)>| {
            let is_like = |build: &HashSet<(&str, &str)>| {
                let shared = pattern.intersection(build).count();
                shared as f64 >= LIKENESS_MIN * (pattern.len() + build.len() - shared) as f64
            };
            cards.iter().filter(|(_, build)| is_like(build)).map(|(cover, _)| *cover).collect::<Vec<_>>()
        };
        let groups = cards.iter().take(PATTERNS_MAX).map(|(_, pattern)| like(pattern));
        let largest = groups.max_by_key(Vec::len).unwrap_or_default();
        let is_list = largest.len() >= SIBLINGS_MIN && largest.len() * 2 >= siblings.len();
        if is_list { largest } else { Vec::new() }
    }

    fn is_record(&self, cover: &Cover, words: &[usize]) -> bool {
        let pieces = &self.pieces[cover.pieces.0..cover.pieces.1];
        let count = words[cover.pieces.1] - words[cover.pieces.0];
        let heading = pieces.iter().find(|piece| piece.is_heading);
        let begins_linked = [pieces.first(), heading].into_iter().flatten().any(|piece| piece.is_linked);
        cover.links.0 < cover.links.1
            && (begins_linked && pieces.len() >= 2 && count <= RECORD_WORDS_MAX
                || pieces.len() >= 3 && count <= CARD_WORDS_MAX)
    }
}

/// An address as it is written and, where it is one of the web, absolute.
pub fn addresses(written: &str, document: &Document) -> Vec<String> {
    let absolute = document.resolve(written).map(String::from);
    absolute.into_iter().chain([written.trim().to_owned()]).collect()
}

/// Which elements stand directly in which, below a node.
fn build<'a>(root: NodeRef<'a, Node>) -> HashSet<(&'a str, &'a str)> {
    let name = |node: NodeRef<'a, Node>| node.value().as_element().map(Element::name);
    root.descendants().skip(1).filter_map(|node| Some((name(node.parent()?)?, name(node)?))).collect()
}

fn declares_job(element: &Element) -> bool {
    element.attr("itemtype").is_some_and(|kind| kind.contains("schema.org/JobPosting"))
}

fn is_heading(name: &str) -> bool {
    matches!(name, "h1" | "h2" | "h3" | "h4" | "h5" | "h6")
}

/// Whether a hidden element is a panel that the button before it opens: the reader sees it with one click.
fn is_folded(node: NodeRef<'_, Node>) -> bool {
    let is_panel = node.value().as_element().is_some_and(|element| element.attr("hidden").is_some());
    let before = node.prev_siblings().find_map(ElementRef::wrap);
    is_panel && before.is_some_and(|element| element.value().attr("aria-expanded").is_some())
}

fn is_hidden(element: &Element) -> bool {
    let style = element.attr("style").unwrap_or("").replace(' ', "");
    matches!(element.name(), "script" | "style" | "template" | "noscript" | "svg" | "object" | "canvas")
        || element.attr("hidden").is_some()
        || style.contains("display:none")
        || style.contains("visibility:hidden")
}
