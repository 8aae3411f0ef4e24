//! The table: one line a job, the page's route, tokens and seconds on its first line.
//!
//! A listing's jobs that were read from their own pages too are shown there only. Columns shrink from the widest
//! until a line fits.

use std::collections::HashSet;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::attempt::{PageReport, Tokens};
use crate::posting::{EmploymentType, PageKind, Posting, Route, Salary, SalaryPeriod, Standing, Workplace};

const HEADS: [&str; 11] = [
    "title", "company", "place", "type", "salary", "posted", "standing", "route", "tokens", "seconds", "page",
];
/// Columns of numbers stand to the right.
const TOKENS: usize = 8;
const SECONDS: usize = 9;
/// No column is cut below this.
const WIDTH_MIN: usize = 7;
const GAP: &str = "  ";

type Row = [String; HEADS.len()];

/// The whole table, with a line of sums.
pub fn table(reports: &[PageReport], width: usize) -> String {
    let own_pages: HashSet<&str> = reports
        .iter()
        .filter(|report| report.page.kind == PageKind::Posting)
        .flat_map(|report| {
            let source = std::iter::once(report.page.source.as_str());
            source.chain(report.page.postings.iter().filter_map(|p| p.url.as_deref()))
        })
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    let (mut jobs, mut candidates) = (0, 0);
    for report in reports {
        let page = &report.page;
        let is_elsewhere = |posting: &&Posting| {
            page.kind == PageKind::Listing
                && posting.url.as_deref().is_some_and(|url| own_pages.contains(url))
        };
        let shown: Vec<&Posting> = page.postings.iter().filter(|posting| !is_elsewhere(posting)).collect();
        jobs += shown.len();
        candidates += shown.iter().filter(|posting| posting.standing == Standing::Candidate).count();
        if shown.is_empty() {
            let what = match page.kind {
                PageKind::Listing => format!("(listing of {})", page.postings.len()),
                PageKind::Hub => format!("(hub) {}", page.reason),
                PageKind::Posting | PageKind::None => format!("(none) {}", page.reason),
            };
            rows.push(row(report, what, None, true));
        }
        for (index, posting) in shown.iter().enumerate() {
            let title = posting.title.clone().unwrap_or_else(|| "(no title)".to_owned());
            rows.push(row(report, title, Some(posting), index == 0));
        }
    }
    let mut text = lay_out(&rows, width);
    let sum = |route| reports.iter().filter(|report| report.page.route == route).count();
    text.push_str(&format!(
        "{jobs} jobs from {} pages: {} zero-token, {} local, {} cloud, {} none; {} prompt and {} answer tokens, {:.4} USD\n",
        reports.len(),
        sum(Route::ZeroToken),
        sum(Route::Local),
        sum(Route::Cloud),
        sum(Route::None),
        reports.iter().map(|r| u64::from(r.page.tokens.prompt)).sum::<u64>(),
        reports.iter().map(|r| u64::from(r.page.tokens.completion)).sum::<u64>(),
        reports.iter().map(|r| r.page.cost_usd).sum::<f64>(),
    ));
    if candidates > 0 {
        text.push_str(&format!(
            "{candidates} of the jobs are candidates: listed, their own pages not read\n"
        ));
    }
    if reports.iter().any(|report| report.page.tokens.is_estimate) {
        text.push_str("~ tokens are estimates: no tokenizer was asked (--server names one)\n");
    }
    text
}

fn row(report: &PageReport, title: String, posting: Option<&Posting>, is_first: bool) -> Row {
    let page = &report.page;
    let of = |text: Option<String>| text.unwrap_or_default();
    let first = |text: String| if is_first { text } else { String::new() };
    [
        title,
        of(posting.and_then(|p| p.company.clone())),
        of(posting.map(place)),
        of(posting.and_then(|p| p.employment_type).map(|t| employment(t).to_owned())),
        of(posting.and_then(|p| p.salary.as_ref()).map(salary)),
        of(posting.and_then(|p| p.date_posted.clone())),
        of(posting.map(|p| standing(p.standing).to_owned())),
        first(route(page.route).to_owned()),
        first(tokens(page.tokens)),
        first(format!("{:.1}", page.seconds)),
        first(short_source(&page.source)),
    ]
}

fn lay_out(rows: &[Row], width: usize) -> String {
    let mut widths: Vec<usize> = (0..HEADS.len())
        .map(|column| {
            rows.iter()
                .map(|row| one_line(&row[column]).width())
                .chain([HEADS[column].width()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    while widths.iter().sum::<usize>() + GAP.len() * (HEADS.len() - 1) > width {
        let Some(widest) = widths.iter_mut().max() else { break };
        if *widest <= WIDTH_MIN {
            break;
        }
        *widest -= 1;
    }
    let mut text = String::new();
    let heads: Row = HEADS.map(|head| head.to_uppercase());
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<String> =
            (0..HEADS.len()).map(|column| cell(&row[column], widths[column], column)).collect();
        text.push_str(cells.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

fn cell(text: &str, width: usize, column: usize) -> String {
    let cut = cut(&one_line(text), width);
    let pad = " ".repeat(width.saturating_sub(cut.width()));
    if matches!(column, TOKENS | SECONDS) { format!("{pad}{cut}") } else { format!("{cut}{pad}") }
}

/// A page's text must not move the cursor.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let mut kept = String::new();
    for c in text.chars() {
        let next = c.width().unwrap_or(0);
        if used + next + 1 > width {
            break;
        }
        used += next;
        kept.push(c);
    }
    kept.push('…');
    kept
}

fn place(posting: &Posting) -> String {
    let mut parts: Vec<&str> = posting.locations.iter().take(2).map(String::as_str).collect();
    let more = posting.locations.len().saturating_sub(2);
    let extra = if more > 0 { format!("+{more}") } else { String::new() };
    if more > 0 {
        parts.push(&extra);
    }
    let workplace = match (posting.workplace, posting.remote) {
        (Some(Workplace::Hybrid), _) => Some("hybrid"),
        (Some(Workplace::Remote), _) | (None, Some(true)) => Some("remote"),
        _ => None,
    };
    let places = parts.join("; ");
    match workplace {
        Some(word) if places.is_empty() => word.to_owned(),
        Some(word) if !places.to_lowercase().contains(word) => format!("{places} ({word})"),
        _ => places,
    }
}

fn salary(salary: &Salary) -> String {
    let number = |value: f64| {
        let whole = format!("{value:.0}");
        if (value - value.round()).abs() > 0.005 { format!("{value:.2}") } else { thousands(&whole) }
    };
    let range = match (salary.min, salary.max) {
        (Some(min), Some(max)) if min == max => number(min),
        (Some(min), Some(max)) => format!("{}–{}", number(min), number(max)),
        (Some(min), None) => format!("from {}", number(min)),
        (None, Some(max)) => format!("to {}", number(max)),
        (None, None) => return salary.text.clone().unwrap_or_default(),
    };
    let currency = salary.currency.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
    let period = match salary.period {
        Some(SalaryPeriod::Hour) => "/h",
        Some(SalaryPeriod::Day) => "/day",
        Some(SalaryPeriod::Week) => "/week",
        Some(SalaryPeriod::Month) => "/month",
        Some(SalaryPeriod::Year) => "/year",
        None => "",
    };
    format!("{range}{currency}{period}")
}

fn thousands(digits: &str) -> String {
    let mut text = String::new();
    for (index, c) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && c.is_ascii_digit() && !text.ends_with('-')
        {
            text.push(',');
        }
        text.push(c);
    }
    text
}

fn employment(kind: EmploymentType) -> &'static str {
    match kind {
        EmploymentType::FullTime => "full time",
        EmploymentType::PartTime => "part time",
        EmploymentType::Contract => "contract",
        EmploymentType::Temporary => "temporary",
        EmploymentType::Internship => "internship",
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Confirmed => "confirmed",
        Standing::Candidate => "candidate",
    }
}

/// Prompt and answer; `~` where nobody counted them.
fn tokens(tokens: Tokens) -> String {
    let about = if tokens.is_estimate { "~" } else { "" };
    format!("{about}{}+{}", tokens.prompt, tokens.completion)
}

/// As in the JSON output.
pub(super) fn route(route: Route) -> &'static str {
    match route {
        Route::ZeroToken => "zero-token",
        Route::Local => "local",
        Route::Cloud => "cloud",
        Route::None => "none",
    }
}

/// A path's file, an address without scheme.
fn short_source(source: &str) -> String {
    match source.split_once("://") {
        Some((_, rest)) => rest.to_owned(),
        None => source.rsplit('/').next().unwrap_or(source).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::sample;

    #[test]
    fn lines_fit_and_columns_align_in_wide_letters() {
        let reports = sample();
        for width in [100, 140, 200] {
            let text = table(&reports, width);
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[..lines.len() - 1].iter().all(|line| line.width() <= width), "{text}");
            let head = lines[0].find("COMPANY").unwrap();
            let before = lines[1].find("Acme").unwrap();
            assert_eq!(lines[0][..head].width(), lines[1][..before].width(), "{text}");
        }
        assert!(table(&reports, 200).contains("from 400,000 JPY"));
        assert!(table(&reports, 200).contains("1 jobs from 2 pages: 1 zero-token"));
    }

    #[test]
    fn candidates_and_estimates_are_told_from_the_rest() {
        let mut reports = sample();
        assert!(table(&reports, 200).contains("confirmed") && !table(&reports, 200).contains('~'));
        reports[0].page.postings[0].standing = Standing::Candidate;
        reports[0].page.tokens = Tokens { prompt: 812, completion: 0, is_estimate: true };
        let text = table(&reports, 200);
        for part in ["  candidate  ", "1 of the jobs are candidates", " ~812+0 ", "~ tokens are estimates"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_page_cannot_move_the_cursor() {
        let mut reports = sample();
        reports[0].page.postings[0].title = Some("A\u{1b}[2J\nB".into());
        assert!(!table(&reports, 200).contains('\u{1b}'));
        assert_eq!(table(&reports, 200).lines().count(), 4);
    }
}
