//! What the model is asked for, and what it answers.
//!
//! Salary and dates are asked for verbatim and parsed here: a small model copies well and calculates badly.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The model's answer for one posting. Every string is a copy from the page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExtractedFields {
    /// As on the page.
    pub title: Option<String>,
    /// The employer.
    pub company: Option<String>,
    /// Places, one each.
    #[serde(default)]
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
    #[serde(default)]
    pub skills: Vec<String>,
}

/// The schema for guided decoding.
pub fn posting_schema() -> Value {
    let text = |max: u32| json!({"type": ["string", "null"], "maxLength": max});
    let properties = json!({
        "title": text(200),
        "company": text(120),
        "locations": {"type": "array", "maxItems": 6, "items": {"type": "string", "maxLength": 80}},
        "workplace": {"enum": ["remote", "hybrid", "on_site", null]},
        "employment_type": {"enum": ["full_time", "part_time", "contract", "temporary", "internship", null]},
        "seniority": text(40),
        "salary": text(120),
        "date_posted": text(60),
        "valid_through": text(60),
        "apply_link": {"type": ["integer", "null"], "minimum": 1, "maximum": 9999},
        "skills": {"type": "array", "maxItems": 8, "items": {"type": "string", "maxLength": 40}},
    });
    let required: Vec<&String> = properties.as_object().map(|p| p.keys().collect()).unwrap_or_default();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
}
