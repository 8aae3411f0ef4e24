//! Which parts of a page are not its content: navigation, footers, cookie boxes, hidden things.
//!
//! One rule stands above all: no block that holds more than half of the text that remains is ever dropped. Real
//! pages wrap a whole posting in a `<form>` or a `role="dialog"`.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ego_tree::NodeId;
use regex::Regex;
use scraper::Node;
use scraper::node::Element;

use crate::document::{Document, is_invisible};

static CONSENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)cookie|consent|gdpr|onetrust|usercentrics|didomi|cybot|truste|privacy-?(banner|popup|notice)",
    )
    .ok()
});
static CHROME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)(^|[\s_-])(nav|navbar|navigation|breadcrumbs?|menu|footer|site-header|skip-?link|social|share|sidebar-?nav|language-?(switch|select)\w*)($|[\s_-])").ok()
});

/// Roots of the subtrees to leave out.
pub fn choose(document: &Document, weights: &HashMap<NodeId, usize>) -> HashSet<NodeId> {
    let tree = &document.html.tree;
    let mut remaining = weights.get(&tree.root().id()).copied().unwrap_or(0);
    let mut dropped = HashSet::new();
    let mut stack = vec![tree.root()];
    let mut candidates = Vec::new();
    while let Some(node) = stack.pop() {
        if let Node::Element(element) = node.value() {
            if is_invisible(element.name()) {
                dropped.insert(node.id());
                continue;
            }
            if is_chrome(element) {
                candidates.push(node);
            }
        }
        stack.extend(node.children());
    }
    // In document order of discovery; a nested candidate of a dropped one costs nothing.
    for node in candidates {
        if node.ancestors().any(|a| dropped.contains(&a.id())) {
            continue;
        }
        let weight = weights.get(&node.id()).copied().unwrap_or(0);
        if weight * 2 > remaining {
            continue;
        }
        remaining -= weight;
        dropped.insert(node.id());
    }
    dropped
}

fn is_chrome(element: &Element) -> bool {
    let name = element.name();
    if matches!(
        name,
        "nav" | "footer" | "aside" | "select" | "button" | "dialog" | "form" | "textarea" | "datalist"
    ) {
        return true;
    }
    if element.attr("hidden").is_some() || element.attr("aria-hidden") == Some("true") {
        return true;
    }
    if element.attr("aria-modal") == Some("true") {
        return true;
    }
    let role = element.attr("role").unwrap_or("");
    if matches!(role, "navigation" | "contentinfo" | "dialog" | "alertdialog" | "search" | "menu" | "menubar")
    {
        return true;
    }
    let style = element.attr("style").unwrap_or("");
    if style.replace(' ', "").contains("display:none") {
        return true;
    }
    if matches!(name, "html" | "body" | "main" | "article") {
        return false;
    }
    let labels = format!("{} {}", element.attr("id").unwrap_or(""), element.attr("class").unwrap_or(""));
    let found = |pattern: &LazyLock<Option<Regex>>| pattern.as_ref().is_some_and(|p| p.is_match(&labels));
    found(&CONSENT) || (matches!(name, "div" | "ul" | "section" | "header") && found(&CHROME))
}
