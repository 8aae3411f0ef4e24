//! What the model is asked for, and what it answers.
//!
//! Salary and dates are asked for verbatim and parsed here: a small model copies well and calculates badly.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::facts::Field;

/// The model's answer for one posting. Every string is a copy from the page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtractedFields {
    /// As on the page.
    pub title: Option<String>,
    /// The employer.
    pub company: Option<String>,
    /// Places, one each.
    pub locations: Vec<String>,
    /// `remote`, `hybrid` or `on_site`.
    pub workplace: Option<String>,
    /// One of the five types.
    pub employment_type: Option<String>,
    /// As on the page.
    pub seniority: Option<String>,
    /// The words on the page that state the pay.
    pub salary: Option<String>,
    /// The words on the page that state when it was posted.
    pub date_posted: Option<String>,
    /// The words on the page that state until when one can apply.
    pub valid_through: Option<String>,
    /// Number of the link to apply.
    pub apply_link: Option<u32>,
    /// A few named skills.
    pub skills: Vec<String>,
}

/// The schema for guided decoding, of the fields that are asked for: what is settled already costs no token.
pub fn posting_schema(fields: &[Field]) -> Value {
    let text = |max: u32| json!({"type": ["string", "null"], "maxLength": max});
    let texts = |items: u32, max: u32| json!({"type": "array", "maxItems": items, "items": {"type": "string", "maxLength": max}});
    let mut properties = Map::new();
    for field in fields {
        let (name, schema) = match field {
            Field::Title => ("title", text(200)),
            Field::Company => ("company", text(120)),
            Field::Locations => ("locations", texts(6, 80)),
            Field::Workplace => ("workplace", json!({"enum": ["remote", "hybrid", "on_site", null]})),
            Field::EmploymentType => (
                "employment_type",
                json!({"enum": ["full_time", "part_time", "contract", "temporary", "internship", null]}),
            ),
            Field::Seniority => ("seniority", text(40)),
            Field::Salary => ("salary", text(120)),
            Field::DatePosted => ("date_posted", text(60)),
            Field::ValidThrough => ("valid_through", text(60)),
            Field::ApplyUrl => {
                ("apply_link", json!({"type": ["integer", "null"], "minimum": 1, "maximum": 9999}))
            }
            Field::Skills => ("skills", texts(8, 40)),
            // The page says these itself.
            Field::Remote | Field::Url | Field::Description | Field::Language => continue,
        };
        properties.insert(name.to_owned(), schema);
    }
    let required: Vec<String> = properties.keys().cloned().collect();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
}
