//! What the page's data declares, as candidates: doubted where the page's text does not bear it out.

use super::{Candidate, Field, Source, Value, prose};
use crate::gate::SHELL_WORDS;
use crate::page::{PageView, fold};
use crate::structured::DeclaredPosting;

/// Visible words from which a page can bear out what it declares.
const READABLE_WORDS: usize = 150;
/// A declared description of less than this share of the page's own section is a teaser.
const TEASER_SHARE: f64 = 0.4;

/// Every field of a declared posting.
pub fn candidates(declared: &DeclaredPosting, page: &PageView<'_>, section_words: usize) -> Vec<Candidate> {
    let posting = &declared.posting;
    let source = Source::from(declared.source);
    let is_readable = page.cleaned.visible_words >= READABLE_WORDS;
    let is_absent = |value: &str| is_readable && page.prove(value).is_none();
    let text = |value: &Option<String>| value.clone().map(Value::Text);
    let texts = |value: &[String]| (!value.is_empty()).then(|| Value::Texts(value.to_vec()));
    let values = [
        (Field::Title, text(&posting.title)),
        (Field::Company, text(&posting.company)),
        (Field::Locations, texts(&posting.locations)),
        (Field::Workplace, posting.workplace.map(Value::Workplace)),
        (Field::Remote, posting.remote.map(Value::Remote)),
        (Field::EmploymentType, posting.employment_type.map(Value::Employment)),
        (Field::Seniority, text(&posting.seniority)),
        (Field::Salary, posting.salary.clone().map(|salary| Value::Salary(Box::new(salary)))),
        (Field::DatePosted, text(&posting.date_posted)),
        (Field::ValidThrough, text(&posting.valid_through)),
        (Field::ApplyUrl, text(&posting.apply_url)),
        (Field::Url, text(&posting.url)),
        (Field::Description, text(&posting.description)),
        (Field::Skills, texts(&posting.skills)),
        (Field::Language, text(&posting.language)),
    ];
    let candidate = |(field, value): (Field, Option<Value>)| {
        let evidence = posting.evidence.get(field.name()).cloned().unwrap_or_default();
        let found = Candidate::new(field, value?, source, evidence);
        Some(match (field, &found.value) {
            (Field::Title, Value::Text(title)) => {
                let (is_headed, is_absent) = (is_headed_by(page, title), is_absent(title));
                found.adjusted(is_headed, 8, "the page is headed by it").adjusted(
                    is_absent,
                    -25,
                    "it stands nowhere in the text",
                )
            }
            (Field::Company, Value::Text(company)) => {
                let has_text = page.cleaned.visible_words >= SHELL_WORDS;
                let is_account = is_slug(company) && has_text && page.prove(company).is_none();
                found.adjusted(is_account, -30, "it reads like an account's name")
            }
            (Field::Description, Value::Text(text)) => {
                let words = text.split_whitespace().count() as f64;
                let is_teaser = words < section_words as f64 * TEASER_SHARE;
                found.adjusted(is_teaser, -50, "the page's text says more")
            }
            _ => found,
        })
    };
    let mut out: Vec<Candidate> = values.into_iter().filter_map(candidate).collect();
    // A shell's text is in what it declares.
    if let (None, Some(description)) = (&posting.salary, &posting.description) {
        let evidence = posting.evidence.get(Field::Description.name()).map_or(&[][..], Vec::as_slice);
        out.extend(prose::declared_pay(description, evidence));
    }
    out
}

fn is_headed_by(page: &PageView<'_>, title: &str) -> bool {
    let meta = &page.cleaned.meta;
    let folded = fold(title);
    page.cleaned
        .headings
        .iter()
        .chain(&meta.title)
        .chain(&meta.og_title)
        .any(|head| fold(head).contains(&folded))
}

/// One token of lower-case letters and digits: an account's name rather than an employer's.
fn is_slug(name: &str) -> bool {
    name.len() > 3
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}
