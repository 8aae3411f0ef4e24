//! Embedded state: the JSON that pages render themselves from (`window.__appData = …`, `__NEXT_DATA__`, remix).
//!
//! Scripts are searched for JSON objects; in these, objects that look like postings (a title, with a place or an
//! address of their own beside it) are read by the key names the applicant tracking systems use.

use scraper::Selector;
use serde_json::Value;

use super::{DeclaredPosting, POSTINGS_MAX, Structured, html_to_markdown, lenient, number, plain, string};
use crate::document::Document;
use crate::normalize;
use crate::posting::{Evidence, EvidenceSource, Posting, Salary, Workplace};

/// Bytes of a script under which it holds no state worth reading.
const SCRIPT_BYTES_MIN: usize = 200;
/// Places in one script at which an object is looked for.
const STARTS_MAX: usize = 24;
/// Characters of a title at most.
const TITLE_CHARS_MAX: usize = 250;
/// Values visited in one page's state at most.
const NODES_MAX: usize = 400_000;

const TITLE_KEYS: [&str; 6] = ["title", "jobTitle", "text", "name", "positionName", "job_title"];
const PLACE_KEYS: [&str; 10] = [
    "location",
    "locationName",
    "locations",
    "locationsText",
    "city",
    "office",
    "jobLocation",
    "primaryLocation",
    "location_name",
    "offices",
];
const LINK_KEYS: [&str; 12] = [
    "absolute_url",
    "hostedUrl",
    "jobUrl",
    "url",
    "applyUrl",
    "externalPath",
    "jobPath",
    "careers_url",
    "slug",
    "shortcode",
    "publicUrl",
    "link",
];
/// Keys that only jobs have.
const JOB_KEYS: [&str; 16] = [
    "employmentType",
    "employment_type",
    "typeOfEmployment",
    "workplaceType",
    "requisition_id",
    "requisitionId",
    "jobRequisitionId",
    "jobReqId",
    "jobId",
    "datePosted",
    "salaryRange",
    "absolute_url",
    "hostedUrl",
    "jobUrl",
    "applyUrl",
    "experienceLevel",
];
/// Keys that jobs have, and other things too.
const COMMON_KEYS: [&str; 6] =
    ["department", "departmentName", "departments", "teamId", "publishedDate", "isListed"];
/// Parts of the names of arrays and objects that hold jobs.
const HOLDER_NAMES: [&str; 6] = ["job", "posting", "position", "opening", "vacanc", "requisition"];

pub fn read(document: &Document, out: &mut Structured) {
    let Ok(selector) = Selector::parse("script:not([src])") else { return };
    let mut budget = NODES_MAX;
    for script in document.html.select(&selector) {
        let kind = script.value().attr("type").unwrap_or("");
        let text: String = script.text().collect();
        if text.len() < SCRIPT_BYTES_MIN || kind.contains("ld+json") {
            continue;
        }
        if kind.contains("json") {
            if let Some(value) = lenient::parse(&text) {
                walk(&value, document, out, &mut budget);
            }
            continue;
        }
        let mut from = 0;
        for _ in 0..STARTS_MAX {
            let Some(at) = text[from..].find("= {").or_else(|| text[from..].find("={")).map(|at| from + at)
            else {
                break;
            };
            let Some(open) = text[at..].find('{').map(|open| at + open) else { break };
            match lenient::prefix(&text[open..]) {
                Some(value) => {
                    walk(&value, document, out, &mut budget);
                    from = open + 1 + value.to_string().len().min(text.len() - open - 1) / 2;
                    while !text.is_char_boundary(from) {
                        from += 1;
                    }
                }
                None => from = open + 1,
            }
        }
    }
}

fn walk(root: &Value, document: &Document, out: &mut Structured, budget: &mut usize) {
    let organization = root.get("organization").and_then(|o| string(o, "name"));
    if root.get("posting").is_some_and(Value::is_null) {
        out.expired = true;
    }
    let mut stack = vec![(root, String::new())];
    while let Some((value, pointer)) = stack.pop() {
        *budget = budget.saturating_sub(1);
        if *budget == 0 || out.listing.len() >= POSTINGS_MAX {
            return;
        }
        match value {
            Value::Object(fields) => {
                if let Some(total) = fields.get("total").and_then(Value::as_u64).filter(|t| *t < 1_000_000)
                    && fields.get("data").is_some_and(Value::is_array)
                {
                    out.total_on_site = Some(total as usize);
                }
                if let Some(mut declared) = posting(value, &pointer, document) {
                    if declared.posting.company.is_none() {
                        declared.posting.company.clone_from(&organization);
                        if organization.is_some() {
                            let at = evidence("/organization/name");
                            declared.posting.evidence.insert("company".into(), at);
                        }
                    }
                    if declared.posting.description.is_some() && pointer.ends_with("posting") {
                        out.postings.push(declared);
                    } else {
                        out.listing.push(declared);
                    }
                    continue;
                }
                stack.extend(fields.iter().map(|(key, v)| (v, format!("{pointer}/{key}"))));
            }
            Value::Array(items) => {
                stack.extend(items.iter().enumerate().rev().map(|(i, v)| (v, format!("{pointer}/{i}"))));
            }
            _ => {}
        }
    }
}

fn evidence(pointer: &str) -> Vec<Evidence> {
    vec![Evidence {
        source: EvidenceSource::State,
        pointer: Some(pointer.to_owned()),
        start: None,
        end: None,
    }]
}

/// Reads an object that looks like a posting.
fn posting(value: &Value, pointer: &str, document: &Document) -> Option<DeclaredPosting> {
    let fields = value.as_object()?;
    let (title_key, title) = TITLE_KEYS.iter().find_map(|key| Some((*key, string(value, key)?)))?;
    let place = PLACE_KEYS.iter().any(|key| fields.get(*key).is_some_and(|v| !v.is_null()));
    let link = LINK_KEYS.iter().any(|key| fields.get(*key).is_some_and(Value::is_string));
    let has = |keys: &[&str]| keys.iter().any(|key| fields.contains_key(*key));
    let hidden = fields.get("isListed") == Some(&Value::Bool(false));
    let holder = pointer.to_lowercase();
    let is_held = HOLDER_NAMES.iter().any(|name| holder.contains(name));
    // Products, events and shops have a title, a place and a link as well: a job's own key must stand beside them, or two
    // weaker signs. `name` and `text` name so many things that only a job's own key, or all signs together, will do.
    let is_job = has(&JOB_KEYS) && (place || link) || is_held && has(&COMMON_KEYS) && (place || link);
    let is_likely =
        is_held && place && link || has(&COMMON_KEYS) && place && link && has(&["isListed", "teamId"]);
    let sure = match title_key {
        "name" | "text" => is_job && place && link,
        _ => is_job || is_likely,
    };
    if !sure || hidden || title.chars().count() > TITLE_CHARS_MAX {
        return None;
    }
    let mut posting = Posting { title: Some(title), ..Posting::default() };
    let mut prove = |field: &str, key: &str| {
        posting.evidence.insert(field.to_owned(), evidence(&format!("{pointer}/{key}")));
    };
    prove("title", title_key);
    let mut locations = Vec::new();
    for key in PLACE_KEYS {
        if let Some(found) = fields.get(key) {
            places(found, &mut locations);
            if !locations.is_empty() {
                prove("locations", key);
                break;
            }
        }
    }
    if let Some(more) = fields.get("secondaryLocations") {
        places(more, &mut locations);
    }
    for key in ["publishedDate", "datePosted", "published_at", "publishedAt", "createdAt"] {
        if let Some(date) = string(value, key).and_then(|d| normalize::iso_date(&d)) {
            posting.date_posted = Some(date);
            posting.evidence.insert("date_posted".into(), evidence(&format!("{pointer}/{key}")));
            break;
        }
    }
    for key in ["employmentType", "employment_type", "commitment"] {
        if let Some(kind) = string(value, key).and_then(|t| normalize::employment(&t)) {
            posting.employment_type = Some(kind);
            posting.evidence.insert("employment_type".into(), evidence(&format!("{pointer}/{key}")));
            break;
        }
    }
    if let Some(workplace) = string(value, "workplaceType").and_then(|w| normalize::workplace(&w)) {
        posting.workplace = Some(workplace);
        posting.evidence.insert("workplace".into(), evidence(&format!("{pointer}/workplaceType")));
    }
    posting.remote = match fields.get("isRemote") {
        Some(Value::Bool(remote)) => Some(*remote),
        _ => (posting.workplace == Some(Workplace::Remote)).then_some(true),
    };
    posting.salary = components(value);
    if posting.salary.is_some() {
        posting.evidence.insert("salary".into(), evidence(&format!("{pointer}/summaryComponents")));
    }
    for key in LINK_KEYS {
        let resolved = string(value, key).filter(|u| u.contains('/')).and_then(|u| document.resolve(&u));
        if let Some(url) = resolved {
            posting.url = Some(url.into());
            posting.evidence.insert("url".into(), evidence(&format!("{pointer}/{key}")));
            break;
        }
    }
    for key in ["descriptionHtml", "description", "content", "descriptionPlainText"] {
        if let Some(html) = fields.get(key).and_then(Value::as_str).filter(|d| d.len() > 200) {
            posting.description = Some(html_to_markdown(html, document));
            posting.evidence.insert("description".into(), evidence(&format!("{pointer}/{key}")));
            break;
        }
    }
    posting.company = string(value, "company_name").or_else(|| string(value, "companyName"));
    posting.locations = locations;
    Some(DeclaredPosting { posting, source: EvidenceSource::State })
}

fn places(value: &Value, out: &mut Vec<String>) {
    let mut add = |place: String| {
        if !place.is_empty() && place.len() < 200 && !out.contains(&place) && out.len() < 50 {
            out.push(place);
        }
    };
    match value {
        Value::String(s) => add(plain(s)),
        Value::Array(items) => items.iter().take(50).for_each(|item| places(item, out)),
        Value::Object(_) => {
            let named = ["name", "locationName", "fullLocation", "location", "city"];
            if let Some(name) = named.iter().find_map(|key| string(value, key)) {
                add(name);
            }
        }
        _ => {}
    }
}

/// Ashby's compensation: the component that is a salary.
fn components(value: &Value) -> Option<Salary> {
    let list =
        value.get("summaryComponents").or_else(|| value.get("compensation")?.get("summaryComponents"))?;
    let salary =
        list.as_array()?.iter().find(|c| string(c, "compensationType").as_deref() == Some("Salary"))?;
    let period = string(salary, "interval").and_then(|i| normalize::salary_period(&i));
    normalize::plausible_salary(Salary {
        min: salary.get("minValue").and_then(number),
        max: salary.get("maxValue").and_then(number),
        currency: string(salary, "currencyCode"),
        period,
        ..Salary::default()
    })
}
