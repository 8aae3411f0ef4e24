//! A page as the model reads it: its main text as markdown, link addresses kept outside.

mod charset;
mod drop;
mod markdown;

pub use charset::decode;

use url::Url;

use crate::document::Document;

/// Rises with every change that moves or alters the markdown: kept evidence counts bytes of it.
pub const VERSION: u32 = 1;

/// A link of the page, by the number that stands in the markdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// From 1.
    pub number: usize,
    /// Absolute.
    pub url: Url,
    /// Its text.
    pub text: String,
}

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

/// A cleaned page. Evidence offsets are bytes of `markdown`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The main text.
    pub markdown: String,
    /// Links in order of their numbers.
    pub links: Vec<Link>,
    /// The head.
    pub meta: Meta,
    /// First-level headings, in order.
    pub headings: Vec<String>,
    /// Words of visible text of the whole page, for telling shells.
    pub visible_words: usize,
    /// What was cut or odd.
    pub warnings: Vec<String>,
}

/// Cleans a page.
pub fn clean(document: &Document) -> Cleaned {
    let weights = crate::document::text_weights(&document.html);
    let dropped = drop::choose(document, &weights);
    let (markdown, links) = markdown::write(document, &dropped);
    let mut warnings = Vec::new();
    if document.truncated {
        warnings.push(format!(
            "page longer than {} bytes: the rest was cut off",
            crate::document::HTML_BYTES_MAX
        ));
    }
    let visible = document.text_of("body").unwrap_or_default();
    Cleaned {
        markdown,
        links,
        meta: meta(document),
        headings: document.texts_of("h1"),
        visible_words: visible.split_whitespace().count(),
        warnings,
    }
}

fn meta(document: &Document) -> Meta {
    let property = |name: &str| {
        document
            .attr(&format!("meta[property='{name}']"), "content")
            .or_else(|| document.attr(&format!("meta[name='{name}']"), "content"))
            .map(|v| crate::document::collapse(&v))
    };
    let language = document.attr("html[lang]", "lang").or_else(|| property("og:locale"));
    Meta {
        title: document.text_of("head > title").or_else(|| document.text_of("title")),
        og_title: property("og:title"),
        site_name: property("og:site_name"),
        description: property("description").or_else(|| property("og:description")),
        canonical: document.attr("link[rel='canonical']", "href").or_else(|| property("og:url")),
        language: language.map(|l| l.chars().take(2).collect::<String>().to_lowercase()),
    }
}
