//! A job posting as stored and printed, with the evidence for every value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::normalize;

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which reading of the page.
    pub source: EvidenceSource,
    /// JSON pointer or itemprop within a structured source; `None` for text.
    pub pointer: Option<String>,
    /// UTF-8 byte offsets in the cleaned markdown, half-open; for text only.
    pub start: Option<usize>,
    /// End of the span.
    pub end: Option<usize>,
}

/// A reading of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum EvidenceSource {
    Text,
    JsonLd,
    Microdata,
    State,
    Api,
    Meta,
}

/// Where the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Workplace {
    Remote,
    Hybrid,
    OnSite,
}

/// How sure it is that a posting is one job that is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The page declares it, it was read from its own page, or an interface gave it.
    #[default]
    Confirmed,
    /// A record of a listing that nobody has followed yet.
    Candidate,
}

/// The kind of contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum EmploymentType {
    FullTime,
    PartTime,
    Contract,
    Temporary,
    Internship,
}

/// What a salary is paid per.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum SalaryPeriod {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// Pay as the page states it, and annualised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Salary {
    /// Lower bound in `currency` per `period`.
    pub min: Option<f64>,
    /// Upper bound.
    pub max: Option<f64>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// Per what.
    pub period: Option<SalaryPeriod>,
    /// `min` per year (2080 hours, 260 days, 52 weeks, 12 months).
    pub annual_min: Option<f64>,
    /// `max` per year.
    pub annual_max: Option<f64>,
    /// The words on the page.
    pub text: Option<String>,
}

/// A place by its codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceCode {
    /// ISO 3166-1, two letters.
    pub country: Option<String>,
    /// ISO 3166-2, with the country's letters.
    pub region: Option<String>,
    /// The city's name as on the page.
    pub city: Option<String>,
}

impl Posting {
    /// Sets the codes of its places.
    pub fn place(&mut self) {
        let code = |text: &String| {
            let place = normalize::place(text)?;
            let country = place.country.map(str::to_owned);
            Some(PlaceCode { country, region: place.region, city: place.city })
        };
        self.places = self.locations.iter().map(code).collect();
    }
}

/// A yearly sum below this is an allowance in any currency.
const YEARLY_MIN: f64 = 1_000.0;

impl Salary {
    /// Whether the amount can be what a job pays.
    pub fn is_pay(&self) -> bool {
        let largest = self.max.or(self.min).unwrap_or(0.0);
        self.currency.is_some() && !(self.period == Some(SalaryPeriod::Year) && largest < YEARLY_MIN)
    }
}

/// One job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Posting {
    /// Confirmed, or a candidate.
    #[serde(default)]
    pub standing: Standing,
    /// As on the page, entities decoded.
    pub title: Option<String>,
    /// The employer; `None` where the page does not name one.
    pub company: Option<String>,
    /// Places as on the page.
    pub locations: Vec<String>,
    /// The same by ISO 3166, one for each of `locations`; `None` where the words leave it open.
    #[serde(default)]
    pub places: Vec<Option<PlaceCode>>,
    /// Remote, hybrid or on site.
    pub workplace: Option<Workplace>,
    /// Whether it can be done remotely; `None` where the page does not say.
    pub remote: Option<bool>,
    /// Kind of contract.
    pub employment_type: Option<EmploymentType>,
    /// As on the page.
    pub seniority: Option<String>,
    /// Pay.
    pub salary: Option<Salary>,
    /// ISO date.
    pub date_posted: Option<String>,
    /// ISO date.
    pub valid_through: Option<String>,
    /// Where to apply.
    pub apply_url: Option<String>,
    /// The posting's own address.
    pub url: Option<String>,
    /// The page's own section, as markdown.
    pub description: Option<String>,
    /// As on the page.
    pub skills: Vec<String>,
    /// ISO 639-1 of the text.
    pub language: Option<String>,
    /// Field name to the spans that prove it.
    pub evidence: BTreeMap<String, Vec<Evidence>>,
}

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum PageKind {
    Posting,
    Listing,
    Hub,
    None,
}

/// Which way a page went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Route {
    ZeroToken,
    Local,
    Cloud,
    None,
}
