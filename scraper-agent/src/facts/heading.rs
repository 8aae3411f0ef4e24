//! The heading that is the title, other headings and the head that may be, and short lines beside it.

use super::lines::{Fact, Line, parts};
use super::{Candidate, Field, Source, Value, employer, labelled};
use crate::job_title::{is_general, names_one_job, reads_like_job};
use crate::listing::is_place_like;
use crate::normalize;
use crate::page::{PageView, fold};
use crate::words::{List, Text};

/// Lines around the title that are looked at for facts.
const LINES_BEHIND: usize = 24;
const LINES_BEFORE: usize = 6;
/// Characters of a title at most.
const TITLE_CHARS: usize = 200;
/// Characters of a line that is the title on a page without a heading for it.
const LINE_TITLE_CHARS: usize = 100;
/// Characters of a line that states a kind of contract or a workplace.
const KIND_CHARS: usize = 60;
/// Lines in which a lower heading may be the title.
const TITLE_LINES: usize = 40;

/// The heading that names the job: the only first-level one, or the only one that reads like a job's name; on a page without
/// any, the first lower one that does.
pub fn main(lines: &[Line<'_>]) -> Option<usize> {
    let first: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].level == 1).collect();
    if let [only] = first.as_slice() {
        return Some(*only);
    }
    if first.is_empty() {
        let lower = |at: &usize| lines[*at].level > 0 && names_one_job(lines[*at].text);
        return (0..lines.len().min(TITLE_LINES)).find(lower);
    }
    let mut named = first.into_iter().filter(|at| reads_like_job(lines[*at].text));
    let only = named.next()?;
    named.next().is_none().then_some(only)
}

/// Titles by headings and by the head.
pub fn titles(page: &PageView<'_>, lines: &[Line<'_>], main: Option<usize>, out: &mut Vec<Candidate>) {
    let meta = &page.cleaned.meta;
    let heads: Vec<&String> = [&meta.title, &meta.og_title].into_iter().flatten().collect();
    let is_in_head = |text: &str| {
        let text = fold(text);
        heads.iter().any(|head| fold(head).contains(&text))
    };
    let site = meta.site_name.as_deref().map(fold);
    let is_open = main.is_none_or(|at| is_general(lines[at].text) && !reads_like_job(lines[at].text));
    if is_open {
        let from = main.unwrap_or(0);
        let is_named = |line: &&Line<'_>| {
            line.level == 0
                && line.link.is_none()
                && line.text.chars().count() <= LINE_TITLE_CHARS
                && names_one_job(line.text)
                && labelled::label(line).is_none()
        };
        let line = lines.iter().skip(from).take(TITLE_LINES).find(is_named);
        out.extend(line.map(|line| {
            let fact = Fact { text: line.text, start: line.start };
            Candidate::of_fact(Field::Title, Value::Text(line.text.to_owned()), Source::Beside, fact)
        }));
    }
    for (at, line) in lines.iter().enumerate().take(main.map_or(TITLE_LINES, |at| at + TITLE_LINES)) {
        let (is_main, text) = (main == Some(at), line.text);
        let folded = fold(text);
        if line.level == 0
            || folded.is_empty()
            || text.chars().count() > TITLE_CHARS
            || employer::is_board(text)
        {
            continue;
        }
        let (names, in_head) = (reads_like_job(text), is_in_head(text));
        // Beneath a heading that heads any job, or none, a lower one may be the title.
        if !is_main && !(names_one_job(text) && (in_head || is_open)) {
            continue;
        }
        let value = Value::Text(text.to_owned());
        let fact = Fact { text, start: line.start };
        out.push(
            Candidate::of_fact(Field::Title, value, Source::Heading, fact)
                .adjusted(!is_main, -12, "a lower heading")
                .adjusted(names, 20, "it reads like a job's name")
                .adjusted(in_head, 12, "the page's title has it too")
                .adjusted(!names && is_general(text), -50, "it heads any job")
                .adjusted(site.as_deref() == Some(&folded), -50, "it is the site's name"),
        );
    }
    for head in heads {
        for part in employer::head_parts(head) {
            if !names_one_job(part) {
                continue;
            }
            let Some(evidence) = page.prove(part) else { continue };
            let value = Value::Text(part.to_owned());
            out.push(Candidate::new(Field::Title, value, Source::Head, vec![evidence]));
        }
    }
}

/// Contract, workplace, pay and dates in the short lines around the title.
pub fn beside(page: &PageView<'_>, lines: &[Line<'_>], at: usize, out: &mut Vec<Candidate>) {
    let title = fold(lines[at].text);
    let prose = lines.iter().skip(at + 1).take(LINES_BEHIND).position(Line::is_prose);
    let until = (at + 1 + prose.unwrap_or(LINES_BEHIND)).min(lines.len());
    let near = &lines[at.saturating_sub(LINES_BEFORE)..until];
    for fact in near.iter().filter(|line| fold(line.text) != title).flat_map(parts) {
        if fact.text.chars().count() <= KIND_CHARS && is_place_like(fact.text) && !reads_like_job(fact.text) {
            let value = Value::Texts(vec![fact.text.to_owned()]);
            let found = Candidate::of_fact(Field::Locations, value, Source::Beside, fact);
            out.push(found.adjusted(true, -6, "it has the form of a place"));
        }
        let mut add = |field| out.extend(labelled::read(field, fact, Source::Beside, page));
        let text = Text::new(fact.text);
        if text.begins_with(List::Posted).is_some() {
            add(Field::DatePosted);
        } else if text.begins_with(List::Until).is_some() {
            add(Field::ValidThrough);
        } else if fact.text.chars().count() <= KIND_CHARS {
            if text.has(List::Ago) {
                add(Field::DatePosted);
            }
            add(Field::EmploymentType);
            add(Field::Workplace);
        }
        if normalize::names_currency(fact.text) {
            add(Field::Salary);
        }
    }
}
