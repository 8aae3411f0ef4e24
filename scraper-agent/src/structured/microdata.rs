//! Microdata: elements with `itemtype` JobPosting, read into the same shape as JSON-LD.

use ego_tree::NodeRef;
use ego_tree::iter::Edge;
use scraper::{ElementRef, Node, Selector};
use serde_json::{Map, Value};

use super::{Structured, schema_org};
use crate::document::{Document, collapse, visible_text};
use crate::posting::EvidenceSource;

/// Items read from a page at most.
const ITEMS_MAX: usize = 200;

pub fn read(document: &Document, out: &mut Structured) {
    let Ok(selector) = Selector::parse("[itemtype$='schema.org/JobPosting']") else { return };
    let mut found = Vec::new();
    for (index, item) in document.html.select(&selector).take(ITEMS_MAX).enumerate() {
        let value = read_item(item);
        let pointer = format!("/{index}");
        found.extend(schema_org::posting(&value, &pointer, EvidenceSource::Microdata, document));
    }
    match found.len() {
        0 => {}
        1 => out.postings.append(&mut found),
        _ => {
            out.is_list = true;
            out.listing.append(&mut found);
        }
    }
}

fn read_item(item: ElementRef<'_>) -> Value {
    let mut fields = Map::new();
    let mut inner: Vec<(ego_tree::NodeId, Option<String>, Map<String, Value>)> = Vec::new();
    for edge in item.traverse() {
        match edge {
            Edge::Open(node) if node.id() != item.id() => {
                let Some(element) = node.value().as_element() else { continue };
                let property = element.attr("itemprop").map(str::to_owned);
                if element.attr("itemscope").is_some() {
                    inner.push((node.id(), property, Map::new()));
                } else if let Some(property) = property {
                    let target = inner.last_mut().map_or(&mut fields, |(_, _, map)| map);
                    let value = value_of(node, &property);
                    for name in property.split_whitespace() {
                        target.entry(name.to_owned()).or_insert_with(|| Value::String(value.clone()));
                    }
                }
            }
            Edge::Close(node) if inner.last().is_some_and(|(id, _, _)| *id == node.id()) => {
                let Some((_, property, map)) = inner.pop() else { continue };
                let target = inner.last_mut().map_or(&mut fields, |(_, _, map)| map);
                if let Some(property) = property {
                    let value = if map.is_empty() {
                        Value::String(value_of(node, &property))
                    } else {
                        Value::Object(map)
                    };
                    target.entry(property).or_insert(value);
                }
            }
            _ => {}
        }
    }
    Value::Object(fields)
}

/// Properties whose value is an address; of any other, a link's text is the value, not where it leads.
const ADDRESSES: [&str; 6] = ["url", "sameAs", "logo", "image", "mainEntityOfPage", "applicationContact"];

fn value_of(node: NodeRef<'_, Node>, property: &str) -> String {
    if let Some(element) = node.value().as_element() {
        let is_address = property.split_whitespace().any(|name| ADDRESSES.contains(&name));
        let attribute = match element.name() {
            "meta" => "content",
            "a" | "link" if is_address => "href",
            "time" => "datetime",
            _ => "content",
        };
        if let Some(value) = element.attr(attribute) {
            return value.to_owned();
        }
    }
    match ElementRef::wrap(node) {
        Some(element) if property == "description" => element.inner_html(),
        _ => collapse(&visible_text(node)),
    }
}
