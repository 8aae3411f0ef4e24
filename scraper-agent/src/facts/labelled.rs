//! "Label: value", a table's "Label | value", or a label alone with its value on the next line.

use super::lines::{FACT_CHARS, Fact, Line};
use super::{Candidate, Field, Source, Value};
use crate::normalize;
use crate::page::PageView;
use crate::posting::{Salary, Workplace};
use crate::words::{List, Text};

/// A shorter beginning before a full stop is an abbreviation ("St. Gallen").
const SHORT_CHARS: usize = 3;
/// Characters of a labelled employer or place at most.
const NAME_CHARS: usize = 80;

const LABELS: [(List, Field); 7] = [
    (List::LabelCompany, Field::Company),
    (List::LabelLocation, Field::Locations),
    (List::LabelEmployment, Field::EmploymentType),
    (List::LabelWorkplace, Field::Workplace),
    (List::LabelSalary, Field::Salary),
    (List::LabelPosted, Field::DatePosted),
    (List::LabelUntil, Field::ValidThrough),
];

/// The field that a line is a label of, with what stands behind the label; `None` in the second place where nothing does.
pub fn label<'a>(line: &Line<'a>) -> Option<(Field, Option<Fact<'a>>)> {
    if line.is_prose() {
        return None;
    }
    let text = Text::new(line.text);
    LABELS.iter().find_map(|(list, field)| {
        let end = text.begins_with(*list)?;
        let rest = &line.text[end..];
        let value = rest.trim_start().strip_prefix([':', '：', '|']).map(str::trim);
        let fact = |value: &'a str| Fact {
            text: value,
            start: line.start + line.text.len() - behind(line.text, value),
        };
        match value {
            Some("") => Some((*field, None)),
            Some(value) => Some((*field, Some(fact(value)))),
            None if rest.trim().is_empty() => Some((*field, None)),
            None => None,
        }
    })
}

/// Bytes from where `part` begins to the end of `whole`, of which it is a slice.
fn behind(whole: &str, part: &str) -> usize {
    whole.len() - (part.as_ptr() as usize - whole.as_ptr() as usize)
}

/// Every labelled fact, the earliest of a field first.
pub fn candidates(page: &PageView<'_>, lines: &[Line<'_>], out: &mut Vec<Candidate>) {
    for (index, line) in lines.iter().enumerate() {
        let Some((field, value)) = label(line) else { continue };
        let is_alone = value.is_none();
        let next = || lines.get(index + 1).filter(|next| next.text.chars().count() <= FACT_CHARS);
        let Some(fact) = value.or_else(|| next().map(|next| Fact { text: next.text, start: next.start }))
        else {
            continue;
        };
        let found = read(field, fact, Source::Label, page);
        // A heading "Company" is more often above a text about it than above its name.
        let is_name = !(is_alone && field == Field::Company);
        let later = out.iter().any(|other| other.field == field && other.source == Source::Label);
        out.extend(
            found.filter(|_| is_name).map(|found| found.adjusted(later, -5, "another label stands earlier")),
        );
    }
}

/// The value of a field that a short text states.
pub fn read(field: Field, fact: Fact<'_>, source: Source, page: &PageView<'_>) -> Option<Candidate> {
    // "Kiel. Full-time": the place ends with its sentence.
    let end =
        (field == Field::Locations).then(|| fact.text.find(". ")).flatten().filter(|end| *end > SHORT_CHARS);
    let fact = Fact { text: &fact.text[..end.unwrap_or(fact.text.len())], ..fact };
    let is_name = || fact.text.chars().count() <= NAME_CHARS && !fact.text.ends_with([':', '?']);
    let value = match field {
        Field::Company => is_name().then(|| Value::Text(fact.text.to_owned()))?,
        Field::Locations => is_name().then(|| Value::Texts(vec![fact.text.to_owned()]))?,
        Field::EmploymentType => Value::Employment(normalize::employment(fact.text)?),
        Field::Workplace => Value::Workplace(normalize::workplace(fact.text)?),
        Field::Salary => Value::Salary(Box::new(normalize::salary(fact.text).filter(Salary::is_pay)?)),
        Field::DatePosted | Field::ValidThrough => {
            Value::Text(normalize::date(fact.text, page.fetched, page.month_first())?)
        }
        _ => return None,
    };
    Some(Candidate::of_fact(field, value, source, fact))
}

/// Whether a place of work makes a job remote; a hybrid one says nothing of it.
pub fn remote(workplace: Workplace) -> Option<bool> {
    match workplace {
        Workplace::Remote => Some(true),
        Workplace::OnSite => Some(false),
        Workplace::Hybrid => None,
    }
}
