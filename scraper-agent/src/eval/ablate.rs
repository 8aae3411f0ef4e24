//! Pages with something taken away that rules lean on, or put inside a site they are not from: what does each cost?
//!
//! Each change is made on the parsed tree and written out again, so the pipeline reads an ordinary page.

use ego_tree::NodeId;
use scraper::{Html, Node};
use serde::{Deserialize, Serialize};

use super::chrome;
use crate::nesting;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variation {
    /// Without JSON-LD, microdata and RDFa attributes, and scripts that hold state.
    NoDeclared,
    /// Without class names and ids.
    NoClasses,
    /// Without first-level headings: their elements are plain blocks.
    NoFirstHeading,
    /// Inside another site's header, menus, cookie box, side column and footer.
    OtherChrome,
}

impl Variation {
    /// All, in the tables' order.
    pub const ALL: [Self; 4] = [Self::NoDeclared, Self::NoClasses, Self::NoFirstHeading, Self::OtherChrome];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoDeclared => "no declared data",
            Self::NoClasses => "no classes, ids",
            Self::NoFirstHeading => "no h1",
            Self::OtherChrome => "other chrome",
        }
    }
}

/// Attributes by which a page declares what its text means.
const DECLARING: [&str; 10] = [
    "itemscope",
    "itemtype",
    "itemprop",
    "itemid",
    "itemref",
    "typeof",
    "vocab",
    "property",
    "resource",
    "datetime",
];

/// The changed page. `seed`, such as the page's name, chooses among the other sites.
pub fn ablate(html: &str, variation: Variation, seed: &str) -> String {
    // A page that nests without end is cut where the pipeline cuts it.
    let mut page = Html::parse_document(&html[..nesting::bounded(html)]);
    match variation {
        Variation::NoDeclared => without_declared(&mut page),
        Variation::NoClasses => edit(&mut page, |node| {
            if let Node::Element(element) = node {
                element.attrs.retain(|(name, _)| !matches!(&*name.local, "class" | "id"));
            }
        }),
        Variation::NoFirstHeading => edit(&mut page, |node| {
            if let Node::Element(element) = node
                && element.name() == "h1"
            {
                element.name.local = "div".into();
            }
        }),
        Variation::OtherChrome => return chrome::around(&page.html(), seed),
    }
    page.html()
}

fn edit(page: &mut Html, mut change: impl FnMut(&mut Node)) {
    page.tree.values_mut().for_each(&mut change);
}

fn without_declared(page: &mut Html) {
    let holds_data = |node: ego_tree::NodeRef<'_, Node>| {
        // Code of a page's own is state as well; nothing that a reader sees is lost with it.
        node.value()
            .as_element()
            .is_some_and(|element| element.name() == "script" && element.attr("src").is_none())
    };
    let scripts: Vec<NodeId> =
        page.tree.nodes().filter(|node| holds_data(*node)).map(|node| node.id()).collect();
    for id in scripts {
        if let Some(mut node) = page.tree.get_mut(id) {
            node.detach();
        }
    }
    edit(page, |node| {
        let Node::Element(element) = node else { return };
        // In the head a property is Open Graph's, which says of the page what its title says.
        let is_meta = element.name() == "meta" && element.attr("itemprop").is_none();
        element.attrs.retain(|(name, value)| {
            let declares = DECLARING.contains(&&*name.local) && !is_meta;
            let is_state = value.len() > 60 && value.trim_start().starts_with(['{', '[']);
            !declares && !is_state
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<!doctype html><html><head><title>Cook</title><meta property="og:title" content="Cook">
        <script type="application/ld+json">{"@type":"JobPosting","title":"Declared"}</script>
        <script src="/app.js"></script></head>
        <body class="a b" id=top><h1 class=big>Cook &amp; Baker</h1><script>window.__state = {"title":"Stated"}</script>
        <div itemscope itemtype="https://schema.org/JobPosting"><span itemprop=title>Cook</span></div>
        <p data-page='{"title":"Attributed","place":"Oslo","more":"and more and more and more of it"}'>We cook.</p>
        </body></html>"#;

    fn with(variation: Variation) -> String {
        ablate(PAGE, variation, "seed")
    }

    #[test]
    fn declared_data_goes_and_the_text_stays() {
        let page = with(Variation::NoDeclared);
        for gone in ["Declared", "Stated", "Attributed", "itemprop", "itemtype"] {
            assert!(!page.contains(gone), "{gone}: {page}");
        }
        for kept in
            ["<h1 class=\"big\">Cook &amp; Baker</h1>", "We cook.", "og:title", "/app.js", "id=\"top\""]
        {
            assert!(page.contains(kept), "{kept}: {page}");
        }
    }

    #[test]
    fn names_and_headings_go_and_nothing_else() {
        let page = with(Variation::NoClasses);
        assert!(!page.contains("class=") && !page.contains("id=") && page.contains("itemprop=\"title\""));
        let page = with(Variation::NoFirstHeading);
        assert!(
            !page.contains("<h1") && page.contains("<div class=\"big\">Cook &amp; Baker</div>"),
            "{page}"
        );
        assert!(page.contains("Declared") && page.contains("Stated"));
    }

    #[test]
    fn the_page_stands_whole_inside_another_site() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..40 {
            let page = ablate(PAGE, Variation::OtherChrome, &seed.to_string());
            assert_eq!(page, ablate(PAGE, Variation::OtherChrome, &seed.to_string()), "a seed is one site");
            assert!(
                page.contains("<h1 class=\"big\">Cook &amp; Baker</h1>") && page.contains("Stated"),
                "{page}"
            );
            assert_eq!(page.matches("<body").count(), 1);
            assert!(page.len() > PAGE.len() + 1_000);
            seen.insert(page);
        }
        assert!(seen.len() >= 3, "several sites");
    }

    #[test]
    fn a_changed_page_reads_as_it_did_but_for_the_change() {
        let text = |html: &str| {
            let base = url::Url::parse("https://a.example/").unwrap();
            crate::clean::clean(&crate::document::Document::parse(html, &base)).markdown
        };
        assert_eq!(text(&with(Variation::NoClasses)), text(PAGE));
        assert_eq!(text(&with(Variation::NoFirstHeading)), text(PAGE).replace("# ", ""));
        let deep = "<div>".repeat(nesting::DEPTH_MAX * 2);
        assert!(ablate(&deep, Variation::NoClasses, "").len() < deep.len() * 3);
    }
}
