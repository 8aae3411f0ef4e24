//! What a page is, decided before any model is asked: posting, listing, hub, or none of these.
//!
//! Structure outweighs words: a declared posting, a group of repeated records that link to postings, one heading
//! with the sections that postings have. Words only say that a page is a block page, an empty search, or gone.

use std::sync::LazyLock;

use regex::Regex;
use url::Url;

use crate::clean::Cleaned;
use crate::document::Document;
use crate::listing::{self, RecordGroup};
use crate::posting::PageKind;
use crate::structured::Structured;

/// Under this many visible words a page without state is an empty shell.
pub const SHELL_WORDS: usize = 40;
/// Records that make a listing.
const LISTING_RECORDS_MIN: usize = 3;

/// An applicant tracking system's tenant that a page links to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtsTenant {
    /// `greenhouse`, `lever`, …
    pub ats: &'static str,
    /// The address on the page.
    pub url: Url,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// What the page is.
    pub kind: PageKind,
    /// Why, for people.
    pub reason: String,
    /// Systems linked to.
    pub ats_links: Vec<AtsTenant>,
}

fn regex(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

static BLOCKED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)just a moment\.\.\.|verify (that )?you are (a )?human|attention required! \| cloudflare|access denied|enable javascript and cookies to continue|security check|unusual traffic|captcha|bot detection|request unsuccessful",
    )
});
static GONE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)(job|position|posting|vacancy|role|listing|opening)\b.{0,40}\b(no longer|has been (filled|closed|removed)|has expired|is closed|not available)|no longer accepting applications|this job (has )?expired|stelle .{0,30}(nicht mehr|besetzt)|(nicht mehr verfügbar)|ваканс\p{L}+ (закрит|закрыт|в архиве|неактивн)|cette offre n.est plus|ya no está disponible|vaga (encerrada|expirada)|posizione non è più|募集は終了|job not found|page not found|seite nicht gefunden",
    )
});
static EMPTY_SEARCH: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)\b(no|0) (jobs?|results?|vacanc(y|ies)|positions?|openings?) (were )?(found|match|available)|did not match any|keine (stellen|treffer|ergebnisse|jobs) (gefunden|verfügbar)|нічого не знайдено|не знайдено|ничего не найдено|aucun résultat|no se encontraron|nenhum resultado|nessun risultato",
    )
});
static POSTING_SECTIONS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?im)^(?:#+\s*|\*\s*)?[^\n]{0,30}(responsibilit|requirements|qualifications|what you('|’)?(ll| will)|who you are|about (the|this) (role|job|position)|your (role|profile|tasks|mission|impact)|job description|duties|key (skills|tasks)|skills|we offer|benefits|how to apply|what we offer|deine? aufgaben|ihre aufgaben|(dein|ihr) profil|das (bringst|bieten|erwartet)|wir bieten|anforderungen|aufgabengebiet|обов.язки|вимоги|ми пропонуємо|обязанности|требования|условия|missions|profil recherché|requisitos|responsabilidad|qualifica|cosa offriamo|arbejdsopgaver|kvalifikation|functie-?eisen|仕事内容|応募資格|待遇|דרישות|תיאור התפקיד)",
    )
});
static POSTING_URL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)/(jobs?|careers?|positions?|postings?|vacanc(y|ies)|openings?|stellen(angebote?)?|o|p|viewjob|vakansi\w*|vacancy|offer|offres?|emploi|karriere)/(view/)?[^/?#]*\d{3,}|/jobs?/[\w%-]+-[\w%-]+-[\w%-]+|[?&](jk|jobid|job_id|gh_jid|currentjobid|vacancyid|req(uisition)?id)=|/[0-9a-f]{8}-[0-9a-f]{4}-",
    )
});
static LISTING_URL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)/(jobs|careers?|openings|positions|open-positions|vacancies|stellenangebote|karriere|search|jobsearch|all-jobs|opportunities|join-us)/?(\?|#|$)",
    )
});
static APPLY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)\b(apply (now|for this|here|online|today)?|jetzt bewerben|bewerben|відгукнутися|откликнуться|postuler|aplicar|candidat|candidature|solicitar|ansøg|solliciteer|応募)\b",
    )
});
static JOBS_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)\b(careers?|jobs?|openings?|vacanc(y|ies)|open (roles|positions)|join (us|our team)|karriere|stellen\w*|offene|arbeiten bei|ваканс\p{L}+|робота|работа|emplois?|recrutement|carrières?|empleo|vagas?|lavora|job|stillinger|vacatures)\b|採用|求人|דרושים|משרות",
    )
});

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

/// Decides.
pub fn judge(url: &Url, document: &Document, cleaned: &Cleaned, structured: &Structured) -> Gate {
    let groups = listing::records(document);
    judge_with(url, document, cleaned, structured, &groups)
}

/// Decides, with the page's record groups at hand.
pub fn judge_with(
    url: &Url,
    document: &Document,
    cleaned: &Cleaned,
    structured: &Structured,
    groups: &[RecordGroup],
) -> Gate {
    let ats_links = ats_links(document);
    let gate = |kind, reason: &str| Gate { kind, reason: reason.to_owned(), ats_links: ats_links.clone() };
    let title = cleaned.meta.title.as_deref().unwrap_or("");
    let short = cleaned.markdown.chars().count() < 3_000;
    if matches(&BLOCKED, title) || (cleaned.visible_words < 150 && matches(&BLOCKED, &cleaned.markdown)) {
        return gate(PageKind::None, "a block page: the site refused this visit");
    }
    if structured.expired && structured.postings.is_empty() && structured.listing.is_empty() {
        return gate(PageKind::None, "expired: the page's state names no posting any more");
    }
    let address = cleaned.meta.canonical.as_deref().unwrap_or(url.as_str());
    let declared = structured.postings.len();
    let sections = POSTING_SECTIONS.as_ref().map_or(0, |p| p.find_iter(&cleaned.markdown).count());
    let best = groups.iter().filter(|g| g.is_jobs()).map(|g| g.records.len()).max().unwrap_or(0);
    if declared == 1 && !structured.is_list && is_of_this_page(structured, cleaned) {
        if short && matches(&GONE, &cleaned.markdown) {
            return gate(PageKind::None, "expired: the page says that the job is gone");
        }
        return gate(PageKind::Posting, "declares one job posting that the page is about");
    }
    if structured.listing.len() >= LISTING_RECORDS_MIN || declared > 1 {
        return gate(PageKind::Listing, "the page's state lists jobs");
    }
    if cleaned.visible_words < SHELL_WORDS && structured.listing.is_empty() {
        let reason = if ats_links.is_empty() {
            "an empty shell: no text and no state to read"
        } else {
            "a shell that only links to a job board"
        };
        let kind = if ats_links.is_empty() { PageKind::None } else { PageKind::Hub };
        return gate(kind, reason);
    }
    if !structured.listing.is_empty() {
        return gate(PageKind::Listing, "the page's state lists jobs");
    }
    if matches(&GONE, title) || (short && sections < 2 && matches(&GONE, &cleaned.markdown)) {
        return gate(PageKind::None, "expired: the page says that the job is gone");
    }
    let posting_url = matches(&POSTING_URL, address);
    let apply = matches(&APPLY, &document.text_of("body").unwrap_or_default());
    let mut posting = sections.min(4) * 2;
    posting += if posting_url { 3 } else { 0 };
    posting += if apply { 1 } else { 0 };
    posting += if cleaned.headings.len() == 1 { 1 } else { 0 };
    let mut list = if best >= LISTING_RECORDS_MIN { 3 + best.min(12) / 3 } else { 0 };
    list += if matches(&LISTING_URL, address) { 2 } else { 0 };
    if best >= LISTING_RECORDS_MIN && list >= posting {
        return gate(PageKind::Listing, "repeated records that link to jobs");
    }
    if short && best < LISTING_RECORDS_MIN && matches(&EMPTY_SEARCH, &cleaned.markdown) {
        return gate(PageKind::None, "an empty search");
    }
    if posting >= 5 {
        return gate(PageKind::Posting, "one heading with the sections of a posting");
    }
    if best >= 1 && matches(&JOBS_WORD, title) {
        return gate(PageKind::Listing, "a few records that link to jobs");
    }
    if !ats_links.is_empty() || matches(&JOBS_WORD, title) || matches(&JOBS_WORD, &cleaned.headings.join(" "))
    {
        return gate(PageKind::Hub, "about jobs, but holds none itself");
    }
    gate(PageKind::None, "not about jobs")
}

/// A declared posting can be a decoy: its title must stand on the page, or the page must be a shell.
fn is_of_this_page(structured: &Structured, cleaned: &Cleaned) -> bool {
    let Some(declared) = structured.postings.first() else { return false };
    let title = declared.posting.title.as_deref().unwrap_or("");
    if declared.posting.description.as_deref().is_none_or(|d| d.len() < 80)
        && declared.posting.locations.is_empty()
    {
        return false;
    }
    let folded = fold(title);
    let heads = cleaned.headings.iter().chain(&cleaned.meta.title).chain(&cleaned.meta.og_title);
    cleaned.visible_words < SHELL_WORDS * 4
        || heads.into_iter().any(|h| {
            let h = fold(h);
            h.contains(&folded) || (h.len() > 8 && folded.contains(&h))
        })
}

/// Letters and digits only, lower case, for comparing titles.
pub fn fold(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    text.nfkc().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect()
}

/// Systems by what their addresses hold.
const ATS: [(&str, &str); 14] = [
    ("greenhouse", "boards.greenhouse.io/"),
    ("greenhouse", "job-boards.greenhouse.io/"),
    ("greenhouse", "job-boards.eu.greenhouse.io/"),
    ("lever", "jobs.lever.co/"),
    ("lever", "jobs.eu.lever.co/"),
    ("ashby", "jobs.ashbyhq.com/"),
    ("workable", "apply.workable.com/"),
    ("smartrecruiters", "careers.smartrecruiters.com/"),
    ("smartrecruiters", "jobs.smartrecruiters.com/"),
    ("recruitee", ".recruitee.com"),
    ("workday", ".myworkdayjobs.com/"),
    ("personio", ".jobs.personio."),
    ("teamtailor", ".teamtailor.com/jobs"),
    ("join", "join.com/companies/"),
];

fn ats_links(document: &Document) -> Vec<AtsTenant> {
    let Ok(selector) = scraper::Selector::parse("a[href], iframe[src], script[src]") else {
        return Vec::new();
    };
    let mut found: Vec<AtsTenant> = Vec::new();
    for element in document.html.select(&selector) {
        let address = element.value().attr("href").or_else(|| element.value().attr("src")).unwrap_or("");
        let Some((ats, _)) = ATS.iter().find(|(_, part)| address.contains(part)) else { continue };
        if let Some(url) = document.resolve(address)
            && found.len() < 50
            && !found.iter().any(|t| t.url == url)
        {
            found.push(AtsTenant { ats, url });
        }
    }
    found
}
