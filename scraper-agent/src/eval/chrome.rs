//! Other sites' frames: what stands around a page's content, in the words of a shop, a town and a club, marked up with
//! sectioning elements, with classes alone, or with neither. None of them speaks of jobs.

/// A site's words.
struct Site {
    name: &'static str,
    menu: &'static [&'static str],
    cookies: &'static str,
    beside_heading: &'static str,
    beside: &'static [&'static str],
    footer: &'static str,
}

const SITES: [Site; 3] = [
    Site {
        name: "Marlow & Finch Homeware",
        menu: &[
            "New in",
            "Kitchen",
            "Bedding",
            "Garden",
            "Lighting",
            "Sale",
            "Gift cards",
            "Store finder",
            "Basket (2)",
        ],
        cookies: "We use cookies to remember your basket and to see which pages are read. You can refuse all but the \
            necessary ones.",
        beside_heading: "You may also like",
        beside: &[
            "Enamel jug, cream £18",
            "Linen napkins, set of four £24",
            "Oak chopping board £32",
            "Wool throw £65",
        ],
        footer: "Marlow & Finch Homeware. Free delivery over £50. Returns within 30 days. Terms of sale. Gift wrapping.",
    },
    Site {
        name: "Stadt Hohenfeld",
        menu: &[
            "Rathaus",
            "Bürgerservice",
            "Leben & Wohnen",
            "Kultur",
            "Tourismus",
            "Wirtschaft",
            "Suche",
            "Leichte Sprache",
        ],
        cookies: "Diese Website verwendet Cookies. Notwendige Cookies sind immer aktiv, über alle anderen entscheiden Sie.",
        beside_heading: "Ähnliche Seiten",
        beside: &[
            "Wochenmarkt: neue Zeiten",
            "Sperrung der Bachstraße",
            "Freibad öffnet am 15. Mai",
            "Müllkalender",
        ],
        footer: "Stadt Hohenfeld, Marktplatz 1, 00000 Hohenfeld. Telefon 00000 1234. Öffnungszeiten. Impressum. Datenschutz.",
    },
    Site {
        name: "Riverside Rowing Club",
        menu: &[
            "Home",
            "Juniors",
            "Masters",
            "Regatta results",
            "Boathouse hire",
            "Gallery",
            "Members",
            "Log in",
        ],
        cookies: "This site sets cookies for logging in and for counting visits. OK, or change your settings.",
        beside_heading: "Similar stories",
        beside: &[
            "Eights win at the spring head",
            "New ergometers arrive",
            "Learn to row, 12 June 2026",
            "Dinner: tickets £35",
        ],
        footer: "Riverside Rowing Club, founded 1887. Registered charity. Safeguarding. Privacy. Find us on the river.",
    },
];

/// How a frame is marked up: for each part its opening and its closing tag.
struct Markup {
    header: [&'static str; 2],
    menu: [&'static str; 2],
    cookies: [&'static str; 2],
    content: [&'static str; 2],
    beside: [&'static str; 2],
    footer: [&'static str; 2],
}

const MARKUPS: [Markup; 3] = [
    Markup {
        header: ["<header>", "</header>"],
        menu: ["<nav><ul>", "</ul></nav>"],
        cookies: ["<div role=\"dialog\" aria-label=\"Cookies\">", "</div>"],
        content: ["<main>", "</main>"],
        beside: ["<aside>", "</aside>"],
        footer: ["<footer>", "</footer>"],
    },
    Markup {
        header: ["<div class=\"site-header\">", "</div>"],
        menu: ["<div class=\"main-menu\"><ul class=\"menu\">", "</ul></div>"],
        cookies: ["<div class=\"cookie-banner\" id=\"cookie-consent\">", "</div>"],
        content: ["<div class=\"layout\"><div class=\"content\">", "</div></div>"],
        beside: ["<div class=\"sidebar\">", "</div>"],
        footer: ["<div class=\"footer\">", "</div>"],
    },
    Markup {
        header: ["<div><div>", "</div></div>"],
        menu: ["<ul>", "</ul>"],
        cookies: ["<div>", "</div>"],
        content: ["<div><div>", "</div></div>"],
        beside: ["<div>", "</div>"],
        footer: ["<div>", "</div>"],
    },
];

/// A whole page, as it is serialized, with a frame around what its body holds.
pub fn around(html: &str, seed: &str) -> String {
    let number = hash(seed);
    let site = &SITES[(number % SITES.len() as u64) as usize];
    let markup = &MARKUPS[(number / 7 % MARKUPS.len() as u64) as usize];
    // The serializer writes exactly one body; none, and the page is a frameset or empty.
    let open = html.find("<body").and_then(|at| html[at..].find('>').map(|end| at + end + 1));
    let (Some(open), Some(close)) = (open, html.rfind("</body>")) else { return html.to_owned() };
    if close < open {
        return html.to_owned();
    }
    let before = format!("{}{}", header(site, markup), markup.content[0]);
    let after = format!("{}{}{}", markup.content[1], beside(site, markup), footer(site, markup));
    [&html[..open], &before, &html[open..close], &after, &html[close..]].concat()
}

fn header(site: &Site, markup: &Markup) -> String {
    let entries = links(site.menu, "/menu", "<li>", "</li>");
    [
        markup.cookies[0],
        &format!("<p>{}</p><button>Accept all</button><button>Refuse</button>", site.cookies),
        markup.cookies[1],
        markup.header[0],
        &format!("<a href=\"/\">{}</a>", escaped(site.name)),
        markup.menu[0],
        &entries,
        markup.menu[1],
        markup.header[1],
    ]
    .concat()
}

fn beside(site: &Site, markup: &Markup) -> String {
    let entries = links(site.beside, "/more", "<div>", "</div>");
    format!("{}<h2>{}</h2>{entries}{}", markup.beside[0], site.beside_heading, markup.beside[1])
}

fn footer(site: &Site, markup: &Markup) -> String {
    format!("{}<p>{}</p>{}", markup.footer[0], escaped(site.footer), markup.footer[1])
}

fn links(texts: &[&str], folder: &str, open: &str, close: &str) -> String {
    let link =
        |(at, text): (usize, &&str)| format!("{open}<a href=\"{folder}/{at}\">{}</a>{close}", escaped(text));
    texts.iter().enumerate().map(link).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
}

/// FNV-1a: the same on every machine and in every version, as a seed must be.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
