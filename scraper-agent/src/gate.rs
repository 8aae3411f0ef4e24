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
        r"(?i)\b(no|0) (jobs?|results?|vacanc(y|ies)|positions?|openings?) (were )?(found|match|available)|did not match any|keine (stellen|treffer|ergebnisse|jobs) (gefunden|verfügbar)|нічого не знайдено|не знайдено|за вашим запитом.{0,120}немає|по вашему запросу.{0,120}(нет|не найден)|(your|this) search (returned|has|had|matched) no|no(thing|ne)? (jobs? )?match(es|ed|ing)? your|zu (ihrer|deiner) suche.{0,60}(keine|nichts)|ничего не найдено|aucun résultat|no se encontraron|nenhum resultado|nessun risultato",
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
static POSTED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)^\W*(date )?(posted|published|online since|veröffentlicht|eingestellt|опубліковано|опубликован\p{L}*|вакансі\p{L}* від|publié|publicado|pubblicato|geplaatst)\b|\b\d+\+? (day|week|month|hour)s? ago\b",
    )
});
static JOBS_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    regex(
        r"(?i)\b(careers?|jobs?|job ?search|internships|professuren|ausschreibung\w*|openings?|vacanc(y|ies)|open (roles|positions)|join (us|our team)|karriere|stellen\w*|offene|arbeiten bei|ваканс\p{L}+|робота|работа|emplois?|recrutement|carrières?|empleo|vagas?|lavora|job|stillinger|vacatures)\b|採用|求人|דרושים|משרות",
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
    // Two readings of one posting are one posting.
    let declared = distinct_titles(structured);
    let sections = POSTING_SECTIONS.as_ref().map_or(0, |p| p.find_iter(&cleaned.markdown).count());
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
        if has_named_jobs(groups) {
            return gate(PageKind::Listing, "a few records that link to jobs");
        }
        if ats_links.is_empty() && (matches(&GONE, title) || matches(&GONE, &cleaned.markdown)) {
            return gate(PageKind::None, "expired: the page says that the job is gone");
        }
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
    let signals = signals(url, document, cleaned, groups);
    let (posting, list) = (signals.posting_score(), signals.list_score());
    if signals.records >= LISTING_RECORDS_MIN && list >= posting {
        return gate(PageKind::Listing, "repeated records that link to jobs");
    }
    if short && signals.records < LISTING_RECORDS_MIN && matches(&EMPTY_SEARCH, &cleaned.markdown) {
        return gate(PageKind::None, "an empty search");
    }
    if posting >= POSTING_SCORE_MIN && (signals.job_title || signals.posting_url || signals.headings == 1) {
        return gate(PageKind::Posting, "one heading with the marks of a posting");
    }
    if signals.records >= 1 && has_named_jobs(groups) {
        return gate(PageKind::Listing, "a few records that link to jobs");
    }
    if !ats_links.is_empty() || signals.is_about_jobs {
        return gate(PageKind::Hub, "about jobs, but holds none itself");
    }
    gate(PageKind::None, "not about jobs")
}

/// Score from which a page is taken for a posting.
const POSTING_SCORE_MIN: i32 = 6;

/// What speaks for a posting and for a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Headings that postings have.
    pub sections: usize,
    /// The address names one job.
    pub posting_url: bool,
    /// The address names a list.
    pub listing_url: bool,
    /// A link or button to apply.
    pub apply: bool,
    /// First-level headings.
    pub headings: usize,
    /// A short line that states pay.
    pub pay: bool,
    /// A short line that states the kind of contract.
    pub contract: bool,
    /// A short line that states when it was posted.
    pub dated: bool,
    /// Records of the largest group of jobs.
    pub records: usize,
    /// Title or heading speak of jobs in general.
    pub is_about_jobs: bool,
    /// The first heading or the title reads like a job's.
    pub job_title: bool,
    /// That heading is the page's title as well.
    pub is_titled: bool,
}

impl Signals {
    fn posting_score(&self) -> i32 {
        let one = |is: bool, points| if is { points } else { 0 };
        self.sections.min(3) as i32
            + one(self.posting_url, 3)
            + one(self.apply, 2)
            + one(self.headings == 1, 1)
            + one(self.pay, 2)
            + one(self.contract, 2)
            + one(self.dated, 1)
            + one(self.job_title, 3)
            + one(self.is_headed(), 2)
            - one(self.listing_url, 3)
            - one(self.headings > MANY_HEADINGS, 3)
            - one(self.is_about_jobs && !self.job_title, 3)
    }

    /// The one heading is the page's title and a job's name, above something that a posting has.
    fn is_headed(&self) -> bool {
        self.job_title && self.is_titled && self.headings == 1 && (self.sections > 0 || self.apply)
    }

    fn list_score(&self) -> i32 {
        let records =
            if self.records >= LISTING_RECORDS_MIN { 3 + self.records.min(24) as i32 / 3 } else { 0 };
        records + if self.listing_url { 2 } else { 0 } + if self.is_about_jobs { 3 } else { 0 }
    }
}

/// More first-level headings than a page about one thing has.
const MANY_HEADINGS: usize = 4;
/// Lines longer than this are prose, not a statement of one fact.
const FACT_CHARS_MAX: usize = 140;

/// Reads the signals off a page.
pub fn signals(url: &Url, document: &Document, cleaned: &Cleaned, groups: &[RecordGroup]) -> Signals {
    let address = cleaned.meta.canonical.as_deref().unwrap_or(url.as_str());
    let title = cleaned.meta.title.as_deref().unwrap_or("");
    let facts = || cleaned.markdown.lines().filter(|line| line.chars().count() <= FACT_CHARS_MAX);
    let heading = cleaned.headings.first().map_or("", String::as_str);
    let heads = cleaned.headings.join(" ");
    Signals {
        sections: POSTING_SECTIONS.as_ref().map_or(0, |p| p.find_iter(&cleaned.markdown).count()),
        posting_url: matches(&POSTING_URL, address),
        listing_url: matches(&LISTING_URL, address),
        apply: matches(&APPLY, &document.text_of("body").unwrap_or_default()),
        headings: cleaned.headings.len(),
        pay: facts().any(|line| crate::normalize::salary(line).is_some()),
        contract: facts().any(|line| crate::normalize::employment(line).is_some()),
        dated: facts().any(|line| matches(&POSTED, line)),
        records: groups.iter().filter(|g| g.is_jobs()).map(|g| g.records.len()).max().unwrap_or(0),
        is_about_jobs: matches(&JOBS_WORD, title) || matches(&JOBS_WORD, &heads),
        job_title: names_a_job(if heading.is_empty() { title } else { heading }),
        is_titled: !heading.is_empty()
            && [title, cleaned.meta.og_title.as_deref().unwrap_or("")]
                .iter()
                .any(|t| fold(t).contains(&fold(heading))),
    }
}

/// A declared description of this length is a posting's own.
const FULL_DESCRIPTION_BYTES: usize = 300;

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
    // A page that names the job nowhere in its head still is about it, if it says so in the text and at length.
    let is_full = declared.posting.description.as_deref().is_some_and(|d| d.len() >= FULL_DESCRIPTION_BYTES);
    let about_jobs = matches(&JOBS_WORD, cleaned.meta.title.as_deref().unwrap_or(""));
    if is_full && !about_jobs && !folded.is_empty() && fold(&cleaned.markdown).contains(&folded) {
        return true;
    }
    // Some sites head a posting by a lower heading.
    let heads_a_part = |line: &str| line.starts_with('#') && fold(line) == folded;
    if names_a_job(title) && !about_jobs && cleaned.markdown.lines().any(heads_a_part) {
        return true;
    }
    let heads = cleaned.headings.iter().chain(&cleaned.meta.title).chain(&cleaned.meta.og_title);
    cleaned.visible_words < SHELL_WORDS * 4
        || heads.into_iter().any(|h| {
            let h = fold(h);
            h.contains(&folded) || (h.len() > 8 && folded.contains(&h))
        })
}

/// Whether a text speaks of jobs in general or asks to apply, so that it names neither a job nor an employer.
pub fn is_about_jobs(text: &str) -> bool {
    matches(&JOBS_WORD, text) || matches(&APPLY, text)
}

/// The name of one job, not of a list of them.
fn names_a_job(text: &str) -> bool {
    listing::is_job_title(text) && !matches(&JOBS_WORD, text)
}

/// Among few records, "All openings" is no job: some linked text must read like one.
fn has_named_jobs(groups: &[RecordGroup]) -> bool {
    let fields = groups
        .iter()
        .filter(|group| group.is_jobs())
        .flat_map(|group| &group.records)
        .flat_map(|r| &r.fields);
    fields.filter(|field| field.link.is_some() || field.heading).any(|field| names_a_job(&field.text))
}

fn distinct_titles(structured: &Structured) -> usize {
    let titles =
        structured.postings.iter().map(|declared| fold(declared.posting.title.as_deref().unwrap_or("")));
    titles.collect::<std::collections::HashSet<_>>().len()
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
