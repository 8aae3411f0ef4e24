//! A page as the model reads it: its main text as markdown, link addresses kept outside.

mod charset;
mod drop;
mod head;
mod markdown;
mod outline;

pub use charset::decode;
pub use head::Meta;

use url::Url;

use self::outline::Outline;
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
    let outline = Outline::of(document);
    let dropped = drop::choose(&outline);
    let (markdown, links) = markdown::write(document, &outline, &dropped);
    let (meta, headings) = head::read(&outline);
    let mut warnings = Vec::new();
    if document.truncated {
        warnings.push(format!(
            "page longer than {} bytes: the rest was cut off",
            crate::document::HTML_BYTES_MAX
        ));
    }
    Cleaned { markdown, links, meta, headings, visible_words: outline.visible_words, warnings }
}
