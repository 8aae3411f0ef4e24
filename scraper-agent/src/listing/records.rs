//! Finding repeated records.

use std::collections::{HashMap, HashSet};

use ego_tree::iter::Edge;
use ego_tree::{NodeId, NodeRef};
use scraper::Node;
use scraper::node::Element;

use super::score::score;
use super::{Field, Record, RecordGroup};
use crate::document::{Document, collapse, is_inline, is_invisible, visible_text};
use crate::words::{List, Text};

/// Records of a group at most.
const RECORDS_MAX: usize = 3_000;
/// Points from which a group is job-like enough.
const SURE_SCORE: i32 = 8;
/// Groups looked at closely.
const GROUPS_MAX: usize = 400;
/// Fields of a record at most.
const FIELDS_MAX: usize = 24;
/// Characters of a record beyond which it is no list entry.
const RECORD_CHARS_MAX: usize = 2_500;

/// Groups of repeated records, best first.
pub fn records(document: &Document) -> Vec<RecordGroup> {
    let shapes = shapes(document);
    let heads =
        format!("{}\n{}", document.text_of("title").unwrap_or_default(), document.texts_of("h1").join("\n"));
    let heads = Text::new(&heads);
    let is_about_jobs = heads.has(List::Jobs) || heads.has(List::General);
    let mut groups: Vec<(RecordGroup, Vec<NodeId>)> = Vec::new();
    for ids in shapes.into_iter().take(GROUPS_MAX) {
        let mut records = Vec::new();
        let mut roots = Vec::new();
        for id in ids.into_iter().take(RECORDS_MAX) {
            let Some(node) = document.html.tree.get(id) else { continue };
            if let Some(record) = read(node, document) {
                records.push(record);
                roots.push(id);
            }
        }
        if records.is_empty() {
            continue;
        }
        name_by_headings(&mut records, &roots, document);
        let heading = roots.first().and_then(|id| heading_before(document.html.tree.get(*id)?));
        let score = score(&records, heading.as_deref(), &document.base, is_about_jobs);
        groups.push((RecordGroup { records, score }, roots));
    }
    // Of groups that are job-like enough, the larger one: a few of a list's entries are often more alike than all.
    groups.sort_by_key(|(group, _)| {
        std::cmp::Reverse((group.score.min(SURE_SCORE), group.records.len(), group.score))
    });
    // A group inside another group's records says the same again.
    let mut taken: HashSet<NodeId> = HashSet::new();
    let mut kept: Vec<RecordGroup> = Vec::new();
    for (group, roots) in groups {
        let inside = |id: &NodeId| {
            let node = document.html.tree.get(*id);
            node.is_some_and(|n| taken.contains(id) || n.ancestors().any(|a| taken.contains(&a.id())))
        };
        let around = |id: &NodeId| {
            let node = document.html.tree.get(*id);
            node.is_some_and(|n| n.descendants().any(|d| taken.contains(&d.id())))
        };
        if roots.iter().any(|id| inside(id) || around(id)) {
            continue;
        }
        taken.extend(roots);
        kept.push(group);
    }
    kept
}

/// Characters of a heading beside its record.
const HEADING_CHARS_MAX: usize = 160;

/// Accordions and some lists put a record's heading before it, not into it; then all records have the same text by name.
fn name_by_headings(records: &mut [Record], roots: &[NodeId], document: &Document) {
    let names: HashSet<&str> =
        records.iter().filter_map(Record::name).map(|name| name.text.as_str()).collect();
    let is_headed = records.iter().any(|record| record.fields.iter().any(|field| field.heading));
    if records.len() < 2 || names.len() > 1 || is_headed {
        return;
    }
    let headings: Vec<Option<String>> =
        roots.iter().map(|id| heading_beside(document.html.tree.get(*id)?)).collect();
    if headings.iter().any(Option::is_none) {
        return;
    }
    for (record, text) in records.iter_mut().zip(headings.into_iter().flatten()) {
        record.fields.insert(0, Field { path: "before#0".to_owned(), text, link: None, heading: true });
    }
}

/// The heading right before a node.
fn heading_beside(node: NodeRef<'_, Node>) -> Option<String> {
    let before = node.prev_siblings().find(|sibling| sibling.value().is_element())?;
    let find = |test: &dyn Fn(&str) -> bool| {
        before.descendants().find(|inside| inside.value().as_element().is_some_and(|e| test(e.name())))
    };
    let heading = find(&is_heading).or_else(|| find(&|name| name == "button"))?;
    let text = collapse(&visible_text(heading));
    (!text.is_empty() && text.chars().count() <= HEADING_CHARS_MAX).then_some(text)
}

/// Nodes that are looked through for the heading above a group.
const NODES_BEFORE_MAX: usize = 400;

/// The nearest heading before a node, in document order.
fn heading_before(node: NodeRef<'_, Node>) -> Option<String> {
    let mut budget = NODES_BEFORE_MAX;
    for around in std::iter::once(node).chain(node.ancestors()) {
        for sibling in around.prev_siblings() {
            for inside in sibling.descendants() {
                budget = budget.checked_sub(1)?;
                if inside.value().as_element().is_some_and(|e| is_heading(e.name())) {
                    // The last heading of the sibling is nearer than its first.
                    let last = sibling
                        .descendants()
                        .take(NODES_BEFORE_MAX)
                        .filter(|n| n.value().as_element().is_some_and(|e| is_heading(e.name())))
                        .last();
                    return last.map(|heading| collapse(&visible_text(heading)));
                }
            }
        }
    }
    None
}

fn is_heading(name: &str) -> bool {
    matches!(name, "h1" | "h2" | "h3" | "h4" | "h5" | "h6")
}

/// Nodes of equal shape under one parent (or under sibling parents of equal shape), each with a link.
fn shapes(document: &Document) -> Vec<Vec<NodeId>> {
    let mut groups: Vec<((String, String), Vec<NodeId>)> = Vec::new();
    let mut index: HashMap<(String, String), usize> = HashMap::new();
    let mut links: HashMap<NodeId, usize> = HashMap::new();
    for edge in document.html.tree.root().traverse() {
        if let Edge::Close(node) = edge {
            let own = usize::from(
                node.value().as_element().is_some_and(|e| e.name() == "a" && e.attr("href").is_some()),
            );
            let below: usize = node.children().map(|c| links.get(&c.id()).copied().unwrap_or(0)).sum();
            links.insert(node.id(), own + below);
        }
    }
    for node in document.html.tree.root().descendants() {
        let Some(element) = node.value().as_element() else { continue };
        let count = links.get(&node.id()).copied().unwrap_or(0);
        if count == 0
            || count > 12
            || is_invisible(element.name())
            || matches!(element.name(), "html" | "body")
        {
            continue;
        }
        let key = (trail(node), signature(node));
        let at = *index.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(node.id());
    }
    let chrome = |id: &NodeId| {
        document.html.tree.get(*id).is_some_and(|n| {
            n.ancestors().any(|a| {
                a.value().as_element().is_some_and(|e| {
                    matches!(e.name(), "nav" | "footer" | "header" | "select")
                        || e.attr("role") == Some("navigation")
                })
            })
        })
    };
    let mut all: Vec<Vec<NodeId>> = groups.into_iter().map(|(_, ids)| ids).collect();
    all.retain(|ids| ids.first().is_some_and(|id| !chrome(id)));
    all.sort_by_key(|ids| std::cmp::Reverse(ids.len()));
    all
}

/// Names of the four nearest ancestors with their steadiest class.
fn trail(node: NodeRef<'_, Node>) -> String {
    let names = node.ancestors().filter_map(|a| a.value().as_element()).take(4);
    names.map(|e| format!("{}.{}/", e.name(), class(e.attr("class")))).collect()
}

/// The node's name and class; without a class its children's names, for badges and notes vary from record to record.
fn signature(node: NodeRef<'_, Node>) -> String {
    let Some(element) = node.value().as_element() else { return String::new() };
    let class = class(element.attr("class"));
    if !class.is_empty() {
        return format!("{}.{class}", element.name());
    }
    let mut children: Vec<&str> =
        node.children().filter_map(|c| c.value().as_element()).map(|e| e.name()).collect();
    children.dedup();
    children.truncate(3);
    format!("{}>{}", element.name(), children.join(","))
}

/// The first class without digits: states ("active"), odd and even and generated suffixes vary.
fn class(classes: Option<&str>) -> &str {
    let varies = |c: &&str| {
        c.chars().any(|c| c.is_ascii_digit())
            || matches!(*c, "odd" | "even" | "first" | "last" | "active" | "new" | "featured")
    };
    classes.unwrap_or("").split_whitespace().find(|c| !varies(c)).unwrap_or("")
}

/// Reads a record; `None` when it is too long, empty or has no usable link.
fn read(root: NodeRef<'_, Node>, document: &Document) -> Option<Record> {
    let mut fields: Vec<Field> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut link: Vec<(NodeId, String)> = Vec::new();
    let mut headings = 0usize;
    let mut hidden = 0usize;
    let mut total = 0usize;
    let mut current = String::new();
    let flush = |current: &mut String,
                 fields: &mut Vec<Field>,
                 path: &[String],
                 link: &[(NodeId, String)],
                 headings: usize| {
        let text = collapse(current);
        current.clear();
        if text.chars().any(char::is_alphanumeric) && fields.len() < FIELDS_MAX {
            let base = path.join("/");
            let twins = fields.iter().filter(|f| f.path.split('#').next() == Some(&base)).count();
            let link = link.last().map(|(_, href)| href.clone());
            fields.push(Field { path: format!("{base}#{twins}"), text, link, heading: headings > 0 });
        }
    };
    for edge in root.traverse() {
        match edge {
            Edge::Open(node) => match node.value() {
                Node::Text(text) if hidden == 0 => {
                    total += text.len();
                    if total > RECORD_CHARS_MAX * 4 {
                        return None;
                    }
                    current.push_str(text);
                }
                Node::Element(e) => {
                    if hidden > 0 || is_invisible(e.name()) || e.name() == "button" {
                        // What stands on either side of an icon is not one text.
                        flush(&mut current, &mut fields, &path, &link, headings);
                        hidden += 1;
                        continue;
                    }
                    if is_field(e) {
                        flush(&mut current, &mut fields, &path, &link, headings);
                    }
                    path.push(format!("{}.{}", e.name(), class(e.attr("class"))));
                    if e.name() == "a" {
                        let href = e.attr("href").and_then(|h| document.reference(h));
                        link.push((node.id(), href.unwrap_or_default()));
                    }
                    if is_heading(e.name()) {
                        headings += 1;
                    }
                }
                _ => {}
            },
            Edge::Close(node) => {
                let Node::Element(e) = node.value() else { continue };
                if hidden > 0 {
                    hidden -= 1;
                    continue;
                }
                if is_field(e) {
                    flush(&mut current, &mut fields, &path, &link, headings);
                }
                path.pop();
                if link.last().is_some_and(|(id, _)| *id == node.id()) {
                    link.pop();
                }
                if is_heading(e.name()) {
                    headings = headings.saturating_sub(1);
                }
            }
        }
    }
    let chars: usize = fields.iter().map(|f| f.text.chars().count()).sum();
    let linked = fields.iter().any(|f| f.link.as_ref().is_some_and(|l| !l.is_empty()));
    (linked && chars > 3 && chars <= RECORD_CHARS_MAX).then_some(Record { fields })
}

/// Elements whose text stands for itself.
fn is_field(element: &Element) -> bool {
    let styled = element.name() == "span" && element.attr("class").is_some();
    !is_inline(element.name()) || matches!(element.name(), "a" | "time" | "br") || styled
}
