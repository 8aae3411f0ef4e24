//! A schema.org JobPosting, as Google's documentation wants it and as pages write it.

use serde_json::Value;

use super::{DeclaredPosting, html_to_markdown, number, plain, string};
use crate::document::Document;
use crate::normalize;
use crate::posting::{Evidence, EvidenceSource, Posting, Salary, Workplace};

/// Whether `@type` names a type, alone or among others.
pub fn is(value: &Value, name: &str) -> bool {
    let same = |v: &Value| v.as_str().is_some_and(|t| t.rsplit(['/', ':']).next() == Some(name));
    match value.get("@type") {
        Some(Value::Array(types)) => types.iter().any(same),
        Some(one) => same(one),
        None => false,
    }
}

/// Reads one; `None` without a title.
pub fn posting(
    value: &Value,
    pointer: &str,
    source: EvidenceSource,
    document: &Document,
) -> Option<DeclaredPosting> {
    let mut posting =
        Posting { title: string(value, "title").or_else(|| string(value, "name")), ..Posting::default() };
    posting.title.as_ref()?;
    posting.company = organization(value.get("hiringOrganization"));
    posting.locations = locations(value.get("jobLocation"));
    let telecommute = value.get("jobLocationType").map(Value::to_string).unwrap_or_default();
    if telecommute.to_uppercase().contains("TELECOMMUTE") {
        posting.workplace = Some(Workplace::Remote);
        posting.remote = Some(true);
    }
    posting.employment_type =
        texts(value.get("employmentType")).iter().find_map(|t| normalize::employment(t));
    posting.salary = salary(value.get("baseSalary")).or_else(|| salary(value.get("estimatedSalary")));
    posting.date_posted = string(value, "datePosted").and_then(|d| normalize::iso_date(&d));
    posting.valid_through = string(value, "validThrough").and_then(|d| normalize::iso_date(&d));
    posting.url = string(value, "url").and_then(|u| document.resolve(&u)).map(String::from);
    posting.description = value
        .get("description")
        .and_then(Value::as_str)
        .map(|html| html_to_markdown(html, document))
        .filter(|text| !text.trim().is_empty());
    posting.skills = texts(value.get("skills"));
    posting.skills.truncate(32);
    let fields = [
        ("title", "title", posting.title.is_some()),
        ("company", "hiringOrganization", posting.company.is_some()),
        ("locations", "jobLocation", !posting.locations.is_empty()),
        ("workplace", "jobLocationType", posting.workplace.is_some()),
        ("employment_type", "employmentType", posting.employment_type.is_some()),
        ("salary", "baseSalary", posting.salary.is_some()),
        ("date_posted", "datePosted", posting.date_posted.is_some()),
        ("valid_through", "validThrough", posting.valid_through.is_some()),
        ("url", "url", posting.url.is_some()),
        ("description", "description", posting.description.is_some()),
        ("skills", "skills", !posting.skills.is_empty()),
    ];
    for (field, key, there) in fields {
        if there {
            let at = Evidence { source, pointer: Some(format!("{pointer}/{key}")), start: None, end: None };
            posting.evidence.insert(field.to_owned(), vec![at]);
        }
    }
    Some(DeclaredPosting { posting, source })
}

fn organization(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(name) => Some(plain(name)).filter(|n| !n.is_empty() && !n.starts_with("http")),
        Value::Array(items) => organization(items.first()),
        object => string(object, "name"),
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(s)) => s.split(',').map(plain).filter(|s| !s.is_empty()).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(plain).collect(),
        _ => Vec::new(),
    }
}

fn locations(value: Option<&Value>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let items: Vec<&Value> = match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    for item in items.into_iter().take(50) {
        let place = match item {
            Value::String(s) => plain(s),
            object => address(object.get("address").unwrap_or(object))
                .or_else(|| string(object, "name"))
                .unwrap_or_default(),
        };
        if !place.is_empty() && !out.contains(&place) {
            out.push(place);
        }
    }
    out
}

fn address(value: &Value) -> Option<String> {
    if let Value::String(s) = value {
        return Some(plain(s)).filter(|s| !s.is_empty());
    }
    let country = match value.get("addressCountry") {
        Some(Value::String(s)) => Some(plain(s)),
        Some(object) => string(object, "name"),
        None => None,
    };
    let mut parts: Vec<String> = Vec::new();
    for part in
        [string(value, "addressLocality"), string(value, "addressRegion"), country].into_iter().flatten()
    {
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A MonetaryAmount in any of the shapes seen; placeholders (1 to a million, zero) are nothing.
fn salary(value: Option<&Value>) -> Option<Salary> {
    let value = match value? {
        Value::Array(items) => items.first()?,
        one => one,
    };
    let inner = value.get("value").unwrap_or(value);
    let single = number(inner).or_else(|| inner.get("value").and_then(number));
    let min = inner.get("minValue").or_else(|| value.get("minValue")).and_then(number).or(single);
    let max = inner.get("maxValue").or_else(|| value.get("maxValue")).and_then(number).or(single);
    let unit = string(inner, "unitText").or_else(|| string(value, "unitText"));
    let currency = string(value, "currency").or_else(|| string(inner, "currency"));
    normalize::plausible_salary(Salary {
        min,
        max,
        currency: currency.map(|c| c.to_uppercase()).filter(|c| c.len() == 3),
        period: unit.as_deref().and_then(normalize::salary_period),
        ..Salary::default()
    })
}
