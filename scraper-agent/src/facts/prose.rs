//! What sentences say: pay, a fixed term, the way to apply; the page's own section, language and address.

use super::lines::{Fact, Line, PROSE_CHARS};
use super::{Candidate, Field, Source, Value};
use crate::normalize;
use crate::page::PageView;
use crate::posting::{EmploymentType, Evidence, EvidenceSource, Salary};
use crate::words::{self, List};

/// Characters of a line that speaks of pay at most.
const PAY_CHARS: usize = 240;
/// Words of the page's own section at least.
const SECTION_WORDS_MIN: usize = 20;

/// Pay, term and apply link.
pub fn candidates(page: &PageView<'_>, lines: &[Line<'_>], out: &mut Vec<Candidate>) {
    for line in lines {
        let fact = Fact { text: line.text, start: line.start };
        if speaks_of_pay(line.text)
            && let Some(pay) = normalize::salary(line.text).filter(Salary::is_pay)
        {
            out.push(Candidate::of_fact(Field::Salary, Value::Salary(Box::new(pay)), Source::Prose, fact));
        }
        let is_term = line.text.chars().count() <= PROSE_CHARS * 2
            && normalize::employment(line.text) == Some(EmploymentType::Temporary);
        if is_term {
            let value = Value::Employment(EmploymentType::Temporary);
            out.push(Candidate::of_fact(Field::EmploymentType, value, Source::Prose, fact));
        }
    }
    let link = page.cleaned.links.iter().find(|link| words::begins_with(List::Apply, &link.text).is_some());
    out.extend(link.map(|link| {
        let evidence = page.prove(&link.text).into_iter().collect();
        Candidate::new(Field::ApplyUrl, Value::Text(link.url.to_string()), Source::Page, evidence)
    }));
    if matches!(page.url.scheme(), "http" | "https") {
        let value = Value::Text(page.url.to_string());
        let evidence = vec![Evidence {
            source: EvidenceSource::Meta,
            pointer: Some("address".to_owned()),
            start: None,
            end: None,
        }];
        out.push(Candidate::new(Field::Url, value, Source::Page, evidence));
    }
    if let Some(language) = normalize::language(&page.cleaned.markdown) {
        out.push(Candidate::new(Field::Language, Value::Text(language), Source::Page, Vec::new()));
    }
}

/// Pay in the text of a declared description; a shell's text is there alone.
pub fn declared_pay(description: &str, evidence: &[Evidence]) -> Option<Candidate> {
    let lines = description.lines().filter(|line| speaks_of_pay(line));
    let pay = lines.filter_map(normalize::salary).find(Salary::is_pay)?;
    Some(Candidate::new(Field::Salary, Value::Salary(Box::new(pay)), Source::Prose, evidence.to_vec()))
}

fn speaks_of_pay(line: &str) -> bool {
    line.chars().count() <= PAY_CHARS && words::has(List::Pay, line) && normalize::names_currency(line)
}

/// The page's own section about the job, from its title on.
pub fn section(page: &PageView<'_>, title: Option<&str>) -> Option<Candidate> {
    let text = page.own;
    let start = title.and_then(|t| page.text.find(t)).map_or(0, |(start, _)| start);
    let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let body = text[from..].trim();
    if body.split_whitespace().count() < SECTION_WORDS_MIN {
        return None;
    }
    let fact = Fact { text: body, start: from + text[from..].len() - text[from..].trim_start().len() };
    Some(Candidate::of_fact(Field::Description, Value::Text(body.to_owned()), Source::Page, fact))
}
