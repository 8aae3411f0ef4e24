//! What the head of a page says of it, and its first-level headings, in one walk.

use super::outline::Outline;
use crate::document::{collapse, visible_text};

/// What the head of a page says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `<title>`.
    pub title: Option<String>,
    /// `og:title`.
    pub og_title: Option<String>,
    /// `og:site_name`.
    pub site_name: Option<String>,
    /// `description` or `og:description`.
    pub description: Option<String>,
    /// `link rel=canonical` or `og:url`.
    pub canonical: Option<String>,
    /// `<html lang>`, two letters.
    pub language: Option<String>,
}

/// Names of `<meta>` that are read.
const NAMES: [&str; 6] = ["og:locale", "og:title", "og:site_name", "description", "og:description", "og:url"];

/// The head and the headings.
pub fn read(outline: &Outline<'_>) -> (Meta, Vec<String>) {
    // The first of each, by `property` and by `name`.
    let mut properties = [None; NAMES.len()];
    let mut names = [None; NAMES.len()];
    let (mut title, mut other_title, mut canonical, mut language) = (None, None, None, None);
    let mut headings = Vec::new();
    for entry in &outline.entries {
        let Some(element) = entry.element() else { continue };
        match element.name() {
            "meta" => {
                let Some(content) = element.attr("content") else { continue };
                for (attribute, found) in [("property", &mut properties), ("name", &mut names)] {
                    let place =
                        element.attr(attribute).and_then(|is| NAMES.iter().position(|name| *name == is));
                    if let Some(place) = place {
                        found[place].get_or_insert(content);
                    }
                }
            }
            "link" if element.attr("rel").is_some_and(|rel| rel.eq_ignore_ascii_case("canonical")) => {
                canonical = canonical.or(element.attr("href"));
            }
            "html" => language = language.or(element.attr("lang")),
            "title" => {
                let parent = entry.node.parent().and_then(|parent| parent.value().as_element());
                let place =
                    if parent.is_some_and(|p| p.name() == "head") { &mut title } else { &mut other_title };
                place.get_or_insert(entry.node);
            }
            "h1" => headings.push(collapse(&visible_text(entry.node))),
            _ => {}
        }
    }
    let property = |name: &str| {
        let place = NAMES.iter().position(|known| *known == name)?;
        [properties[place], names[place]].into_iter().flatten().find_map(said).map(|text| collapse(&text))
    };
    let text = |node| Some(collapse(&visible_text(node))).filter(|text| !text.is_empty());
    headings.retain(|heading| !heading.is_empty());
    let language = language.and_then(said).or_else(|| property("og:locale"));
    let meta = Meta {
        title: title.and_then(text).or_else(|| other_title.and_then(text)),
        og_title: property("og:title"),
        site_name: property("og:site_name"),
        description: property("description").or_else(|| property("og:description")),
        canonical: canonical.and_then(said).or_else(|| property("og:url")),
        language: language.map(|l| l.chars().take(2).collect::<String>().to_lowercase()),
    };
    (meta, headings)
}

fn said(value: &str) -> Option<String> {
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}
