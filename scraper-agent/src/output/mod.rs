//! Printing results: a table for people, JSON for programs, and why each page went where.

mod explain;
mod table;

use std::io::{self, Write};

use crate::attempt::PageReport;

pub use explain::explain;
pub use table::table;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns, one line a job.
    Table,
    /// One array, one object a page.
    Json,
    /// One object a line, one line a page.
    Jsonl,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "jsonl" => Ok(Self::Jsonl),
            other => Err(format!("{other:?} is none of table, json, jsonl")),
        }
    }
}

/// Prints the pages in order. `width` bounds the table's lines.
pub fn write(format: Format, reports: &[PageReport], width: usize, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Table => out.write_all(table(reports, width).as_bytes()),
        Format::Json => {
            let pages: Vec<_> = reports.iter().map(|report| &report.page).collect();
            serde_json::to_writer_pretty(&mut *out, &pages)?;
            writeln!(out)
        }
        Format::Jsonl => {
            for report in reports {
                serde_json::to_writer(&mut *out, &report.page)?;
                writeln!(out)?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::attempt::{Attempt, AttemptResult, Tokens};
    use crate::posting::{PageKind, Posting, Route, Salary};

    pub fn sample() -> Vec<PageReport> {
        let mut report =
            PageReport::failed("http://a.example/1".into(), "seed".into(), "JSON-LD is complete".into());
        report.page.kind = PageKind::Posting;
        report.page.route = Route::ZeroToken;
        report.page.postings = vec![Posting {
            title: Some("エンジニア".into()),
            company: Some("Acme".into()),
            locations: vec!["東京".into()],
            salary: Some(Salary { min: Some(400_000.0), currency: Some("JPY".into()), ..Salary::default() }),
            ..Posting::default()
        }];
        report.attempts = vec![Attempt {
            route: Route::Local,
            reason: "no structured data".into(),
            tokens: Tokens { prompt: 900, completion: 80, is_estimate: false },
            cost_usd: 0.0,
            seconds: 1.5,
            result: AttemptResult::Refused(vec!["company is not on the page".into()]),
        }];
        vec![
            report,
            PageReport::failed("http://a.example/2".into(), "link".into(), "robots.txt says no".into()),
        ]
    }

    #[test]
    fn json_has_exactly_the_promised_keys() {
        let mut out = Vec::new();
        write(Format::Json, &sample(), 100, &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            keys(&value[0]),
            ["source", "kind", "route", "reason", "tokens", "seconds", "cost_usd", "postings", "warnings"]
        );
        assert_eq!(
            keys(&value[0]["postings"][0]),
            [
                "standing",
                "title",
                "company",
                "locations",
                "places",
                "workplace",
                "remote",
                "employment_type",
                "seniority",
                "salary",
                "date_posted",
                "valid_through",
                "apply_url",
                "url",
                "description",
                "skills",
                "language",
                "evidence"
            ]
        );
        let salary = ["min", "max", "currency", "period", "annual_min", "annual_max", "text"];
        assert_eq!(keys(&value[0]["postings"][0]["salary"]), salary);
        assert_eq!(value[0]["route"], "zero-token");
        assert_eq!(value[1]["kind"], "none");
        assert_eq!(value.as_array().unwrap().len(), 2);
    }

    #[test]
    fn jsonl_has_one_page_a_line() {
        let mut out = Vec::new();
        write(Format::Jsonl, &sample(), 100, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| serde_json::from_str::<crate::attempt::PageResult>(line).is_ok()));
    }
}
