//! The employer: a name with its legal form beside the title or in the page's title, the link that stands both before
//! and after the title, the head's "X hiring Y in Z", the site's own name.

use std::sync::LazyLock;

use regex::Regex;

use super::lines::{Fact, Line, parts};
use super::{Candidate, Field, Source, Value};
use crate::job_title::{is_general, reads_like_job};
use crate::page::{PageView, fold};
use crate::site::registrable;
use crate::words::{self, List, Text};

/// Lines before and behind the title in which the employer is looked for.
const LINES_BESIDE: usize = 5;
/// Characters of a name.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 2..=60;

/// How LinkedIn titles its pages: "Acme hiring Diver in Kiel | LinkedIn".
static HIRING: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(.{2,60}?) hiring (.{3,160}) in (.{2,80}?)( \||$)").ok());

/// Whether a name is a job board's rather than an employer's.
pub fn is_board(name: &str) -> bool {
    words::is(List::Boards, name)
}

/// Names with their legal form, names linked twice, names in the head.
pub fn candidates(page: &PageView<'_>, lines: &[Line<'_>], at: Option<usize>, out: &mut Vec<Candidate>) {
    let is_name = |text: &str| {
        NAME_CHARS.contains(&text.chars().count()) && !is_host(text, page) && !reads_like_job(text)
    };
    let found = |fact: Fact<'_>, why: &'static str| {
        let value = Value::Text(fact.text.to_owned());
        Candidate::of_fact(Field::Company, value, Source::Beside, fact).adjusted(true, 0, why)
    };
    if let Some(at) = at {
        let end = (at + 1 + LINES_BESIDE).min(lines.len());
        let before = &lines[at.saturating_sub(LINES_BESIDE)..at];
        let after = &lines[at + 1..end];
        let near = lines[at.saturating_sub(LINES_BESIDE)..end].iter().flat_map(parts);
        let legal =
            near.filter(|fact| is_name(fact.text) && has_legal_form(fact.text) && fact.text.contains(' '));
        out.extend(legal.take(1).map(|fact| found(fact, "it has a legal form")));
        let leads_away = |line: &&Line<'_>| {
            line.link.is_some()
                && is_name(line.text)
                && !is_general(line.text)
                && !leads_into(line.text, page)
        };
        let twice = before
            .iter()
            .filter(leads_away)
            .find(|line| after.iter().any(|other| other.link.is_some() && other.text == line.text));
        let fact = twice.map(|line| Fact { text: line.text, start: line.start });
        out.extend(fact.map(|fact| found(fact, "it is linked before and after the title")));
    }
    let heading = at.map_or("", |at| lines[at].text);
    out.extend(in_head(heading, page).and_then(|(name, is_told)| {
        let evidence = page.prove(&name)?;
        let found = Candidate::new(Field::Company, Value::Text(name), Source::Head, vec![evidence]);
        Some(found.adjusted(is_told, 22, "the head says who hires"))
    }));
    let site_name = page.cleaned.meta.site_name.as_deref().map(str::trim);
    out.extend(
        site_name.filter(|name| NAME_CHARS.contains(&name.chars().count()) && !is_board(name)).and_then(
            |name| {
                page.text.find(name)?;
                let evidence = page.prove(name).into_iter().collect();
                Some(Candidate::new(Field::Company, Value::Text(name.to_owned()), Source::Page, evidence))
            },
        ),
    );
}

/// A legal form at the end of a name, or at its beginning where the language puts it there.
pub fn has_legal_form(name: &str) -> bool {
    let name = name.trim_end_matches(['.', ')', ',']);
    let text = Text::new(name);
    let begins = text.begins_with(List::LegalForms).is_some_and(|end| !name[..end].is_ascii());
    begins || text.find_all(List::LegalForms).last().is_some_and(|found| found.end == name.len())
}

/// Whether a link of this text stays on the page or goes on below its address, as what one does with the job does
/// ("…/apply", "…#form"); an employer's page lies elsewhere.
fn leads_into(text: &str, page: &PageView<'_>) -> bool {
    let own = page.url.path().trim_end_matches('/');
    page.cleaned.links.iter().filter(|link| link.text == text).any(|link| {
        let url = &link.url;
        let is_below = || {
            let rest = url.path().trim_end_matches('/').strip_prefix(own);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !matches!(url.scheme(), "http" | "https" | "file")
            || url.domain() == page.url.domain() && !own.is_empty() && is_below()
    })
}

/// Whether a name says where the page is rather than who hires: the board it is on, or its own domain, unless the site
/// itself goes by that domain. The same names are employers on other sites ("Indeed" on its board at another system).
pub fn is_host(name: &str, page: &PageView<'_>) -> bool {
    let Some(host) = page.url.domain() else { return is_board(name) || is_domain(name) };
    let name = name.trim();
    let own = registrable(host);
    if is_domain(name) {
        let calls_itself = page.cleaned.meta.site_name.as_deref().is_some_and(|s| s.trim() == name);
        return registrable(name) == own && (is_board(name) || !calls_itself);
    }
    let folded = fold(name);
    is_board(name) && (fold(own) == folded || host.split('.').any(|label| fold(label) == folded))
}

fn is_domain(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    labels.len() > 1
        && labels.iter().all(|l| {
            !l.is_empty() && l.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        })
}

/// The parts of a page's title between the separators that titles use.
pub fn head_parts(head: &str) -> impl Iterator<Item = &str> {
    head.split([',', '|', '·', '–', '—'])
        .flat_map(|part| part.split(" - "))
        .map(str::trim)
        .filter(|p| !p.is_empty())
}

/// An employer that the page's own title names, and whether it says that this one hires.
fn in_head(title: &str, page: &PageView<'_>) -> Option<(String, bool)> {
    let meta = &page.cleaned.meta;
    for head in [&meta.og_title, &meta.title].into_iter().flatten() {
        if let Some(found) = HIRING.as_ref().and_then(|p| p.captures(head)) {
            return Some((found[1].trim().to_owned(), true));
        }
        let rest = if title.is_empty() { head.clone() } else { head.replacen(title, " | ", 1) };
        let mut named = head_parts(&rest)
            .filter(|n| n.contains(' ') && n.chars().count() <= *NAME_CHARS.end() && has_legal_form(n));
        if let Some(name) = named.find(|n| !is_host(n, page)) {
            return Some((name.to_owned(), false));
        }
    }
    None
}
