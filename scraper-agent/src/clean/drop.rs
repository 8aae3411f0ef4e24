//! Which parts of a page are not its content: navigation, footers, cookie boxes, hidden things.
//!
//! One rule stands above all: no block that holds more than half of the text that remains is ever dropped. Real
//! pages wrap a whole posting in a `<form>` or a `role="dialog"`.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use scraper::node::Element;

use super::outline::{Kind, Outline};

static CONSENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)cookie|consent|gdpr|onetrust|usercentrics|didomi|cybot|truste|privacy-?(banner|popup|notice)",
    )
    .ok()
});
static CHROME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)(^|[\s_-])(nav|navbar|navigation|breadcrumbs?|menu|footer|site-header|skip-?link|social|share|sidebar-?nav|language-?(switch|select)\w*)($|[\s_-])").ok()
});

/// For each node whether it is the root of a subtree to leave out.
pub fn choose(outline: &Outline<'_>) -> Vec<bool> {
    let entries = &outline.entries;
    let mut remaining = entries.first().map_or(0, |root| root.weight);
    let mut dropped = vec![false; entries.len()];
    let mut labels = Labels::default();
    let mut candidates = Vec::new();
    // The last children first: of blocks that cannot all go, those at the page's end do.
    let mut stack = vec![0];
    while let Some(at) = stack.pop() {
        if entries[at].kind == Kind::Invisible {
            dropped[at] = true;
            continue;
        }
        if entries[at].element().is_some_and(|element| is_chrome(element, &mut labels)) {
            candidates.push(at);
        }
        stack.extend(outline.children(at));
    }
    // Nodes in what is dropped; a candidate comes after those around it and costs nothing in one that went.
    let mut gone = vec![false; entries.len()];
    for at in candidates {
        let weight = entries[at].weight;
        if gone[at] || weight * 2 > remaining {
            continue;
        }
        remaining -= weight;
        dropped[at] = true;
        gone[at..entries[at].end].fill(true);
    }
    dropped
}

/// What an element's id and class name; pages repeat them hundreds of times.
#[derive(Default)]
struct Labels<'a>(HashMap<(&'a str, &'a str), [bool; 2]>);

impl<'a> Labels<'a> {
    /// Whether they speak of consent, and of chrome.
    fn of(&mut self, element: &'a Element) -> [bool; 2] {
        let (id, class) = (element.attr("id").unwrap_or(""), element.attr("class").unwrap_or(""));
        if id.is_empty() && class.is_empty() {
            return [false, false];
        }
        *self.0.entry((id, class)).or_insert_with(|| {
            let labels = format!("{id} {class}");
            [&CONSENT, &CHROME].map(|pattern| pattern.as_ref().is_some_and(|p| p.is_match(&labels)))
        })
    }
}

fn is_chrome<'a>(element: &'a Element, labels: &mut Labels<'a>) -> bool {
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
    if !style.is_empty() && style.replace(' ', "").contains("display:none") {
        return true;
    }
    if matches!(name, "html" | "body" | "main" | "article") {
        return false;
    }
    let [consent, chrome] = labels.of(element);
    consent || (chrome && matches!(name, "div" | "ul" | "section" | "header"))
}
