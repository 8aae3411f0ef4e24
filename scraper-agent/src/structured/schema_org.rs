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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use url::Url;

    use super::*;
    use crate::posting::{EmploymentType, SalaryPeriod};

    fn read(fields: Value) -> Posting {
        let document = Document::parse("", &Url::parse("https://acme.example/jobs/1").unwrap());
        let mut value = json!({"@type": "JobPosting", "title": "Diver &amp;amp; Cook"});
        value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        posting(&value, "/0", EvidenceSource::JsonLd, &document).unwrap().posting
    }

    #[test]
    fn pay_in_the_shapes_that_pages_write() {
        let range = |value: Value| json!({"baseSalary": {"currency": "eur", "value": value}});
        for (fields, expected) in [
            (range(json!({"minValue": 100, "maxValue": 200, "unitText": "DAY"})), Some((100.0, 200.0))),
            (range(json!({"value": "1,500", "unitText": "MONTH"})), Some((1500.0, 1500.0))),
            (range(json!(90000)), Some((90000.0, 90000.0))),
            (range(json!("52000.50")), Some((52000.5, 52000.5))),
            (json!({"baseSalary": 4000}), Some((4000.0, 4000.0))),
            (
                json!({"baseSalary": [{"currency": "EUR", "minValue": "10", "maxValue": "12"}]}),
                Some((10.0, 12.0)),
            ),
            (range(json!({"minValue": 1, "maxValue": 1000000})), None),
            (range(json!({"minValue": 0, "maxValue": 0})), None),
            (json!({"baseSalary": "competitive"}), None),
        ] {
            let salary = read(fields.clone()).salary;
            let bounds = salary.as_ref().map(|s| (s.min.unwrap(), s.max.unwrap()));
            assert_eq!(bounds, expected, "{fields}");
        }
        let monthly = read(range(json!({"value": 1500, "unitText": "MONTH"}))).salary.unwrap();
        assert_eq!((monthly.currency.as_deref(), monthly.period), (Some("EUR"), Some(SalaryPeriod::Month)));
    }

    #[test]
    fn places_employers_and_kinds_in_the_shapes_that_pages_write() {
        let address = |city: &str| json!({"@type": "Place", "address": {"addressLocality": city, "addressCountry": "DE"}});
        for (fields, expected) in [
            (json!({"jobLocation": address("Kiel")}), vec!["Kiel, DE"]),
            (
                json!({"jobLocation": [address("Kiel"), address("Bonn"), address("Kiel")]}),
                vec!["Kiel, DE", "Bonn, DE"],
            ),
            (json!({"jobLocation": {"address": "Kiel"}}), vec!["Kiel"]),
            (json!({"jobLocation": {"address": {"addressCountry": {"name": "Germany"}}}}), vec!["Germany"]),
            (json!({"jobLocation": {"address": {"addressLocality": "", "addressCountry": ""}}}), vec![]),
        ] {
            assert_eq!(read(fields.clone()).locations, expected, "{fields}");
        }
        let employer = |value: Value| read(json!({"hiringOrganization": value})).company;
        assert_eq!(employer(json!("Acme")).as_deref(), Some("Acme"));
        assert_eq!(employer(json!([{"name": "Acme"}])).as_deref(), Some("Acme"));
        assert_eq!(employer(json!("https://acme.example")), None);
        let kind = |value: Value| read(json!({"employmentType": value})).employment_type;
        assert_eq!(kind(json!("FULL_TIME")), Some(EmploymentType::FullTime));
        assert_eq!(kind(json!(["OTHER", "PART_TIME"])), Some(EmploymentType::PartTime));
        assert_eq!(kind(json!("OTHER")), None);
        let remote =
            read(json!({"jobLocationType": "TELECOMMUTE", "datePosted": "2026-08-05T10:10:39+02:00"}));
        assert_eq!((remote.remote, remote.date_posted.as_deref()), (Some(true), Some("2026-08-05")));
        assert_eq!(remote.title.as_deref(), Some("Diver & Cook"), "escaped twice");
    }
}
