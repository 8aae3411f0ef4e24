//! The tree as a list: every node once, in document order, with what cleaning asks of it. All later passes walk this
//! list; a subtree is a range of it, so leaving one out is a jump.

use ego_tree::NodeRef;
use ego_tree::iter::Edge;
use scraper::Node;
use scraper::node::Element;

use crate::document::{Document, is_inline, is_invisible, is_zero_width};

/// How an element stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No element.
    None,
    /// Nobody sees what is in it.
    Invisible,
    /// It breaks no line.
    Inline,
    /// It breaks the line before and behind it.
    Block,
}

/// A node.
pub struct Entry<'a> {
    pub node: NodeRef<'a, Node>,
    pub kind: Kind,
    /// Past its subtree.
    pub end: usize,
    /// Characters of visible text in its subtree, a space for each word.
    pub weight: usize,
}

impl<'a> Entry<'a> {
    pub fn element(&self) -> Option<&'a Element> {
        self.node.value().as_element()
    }
}

/// All nodes, and how many words can be seen in the first `body`.
pub struct Outline<'a> {
    pub entries: Vec<Entry<'a>>,
    pub visible_words: usize,
}

impl<'a> Outline<'a> {
    pub fn of(document: &'a Document) -> Self {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        // Open elements that are or are in something invisible.
        let mut hidden = 0usize;
        let mut open: Vec<usize> = Vec::new();
        let mut body = None;
        let mut words = Words::default();
        let mut visible_words = 0;
        for edge in document.html.tree.root().traverse() {
            match edge {
                Edge::Open(node) => {
                    let at = entries.len();
                    let (mut kind, mut weight) = (Kind::None, 0);
                    match node.value() {
                        Node::Text(text) if hidden == 0 => weight = words.read(text),
                        Node::Element(element) => {
                            kind = kind_of(element.name());
                            if hidden > 0 || kind == Kind::Invisible {
                                hidden += 1;
                            } else if kind == Kind::Block {
                                words.is_open = false;
                            }
                            if body.is_none() && element.name() == "body" {
                                body = Some(at);
                                words.count = 0;
                            }
                        }
                        _ => {}
                    }
                    entries.push(Entry { node, kind, end: at + 1, weight });
                    open.push(at);
                }
                Edge::Close(node) => {
                    let Some(at) = open.pop() else { continue };
                    entries[at].end = entries.len();
                    if let Some(parent) = open.last() {
                        let weight = entries[at].weight;
                        entries[*parent].weight += weight;
                    }
                    if body == Some(at) {
                        visible_words = words.count;
                    }
                    if !node.value().is_element() {
                        continue;
                    }
                    if hidden > 0 {
                        hidden -= 1;
                    } else if entries[at].kind == Kind::Block {
                        words.is_open = false;
                    }
                }
            }
        }
        Self { entries, visible_words }
    }

    /// The subtree's children, by their places.
    pub fn children(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.entries[of].end;
        let within = move |at: usize| (at < end).then_some(at);
        std::iter::successors(within(of + 1), move |at| within(self.entries[*at].end))
    }
}

fn kind_of(name: &str) -> Kind {
    if is_invisible(name) {
        Kind::Invisible
    } else if is_inline(name) {
        Kind::Inline
    } else {
        Kind::Block
    }
}

/// Words over the borders of text nodes: `<b>S</b>enior` is one.
#[derive(Default)]
struct Words {
    count: usize,
    is_open: bool,
}

impl Words {
    /// The text's weight.
    fn read(&mut self, text: &str) -> usize {
        let (mut weight, mut is_within) = (0, false);
        for c in text.chars() {
            if c.is_whitespace() {
                weight += usize::from(is_within);
                (is_within, self.is_open) = (false, false);
                continue;
            }
            weight += 1;
            is_within = true;
            if !is_zero_width(c) {
                self.count += usize::from(!self.is_open);
                self.is_open = true;
            }
        }
        weight + usize::from(is_within)
    }
}
