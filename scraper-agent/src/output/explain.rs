//! `--explain`: for each page why it was read, what it is, and every try with reason, tokens, cost and time.

use std::fmt::Write as _;

use crate::attempt::{AttemptResult, PageReport};
use crate::output::table::route;
use crate::posting::PageKind;

/// One page, several lines.
pub fn explain(report: &PageReport) -> String {
    let page = &report.page;
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = explain_into(report, &mut text);
    for why in &report.why {
        let _ = writeln!(text, "  {why}");
    }
    for warning in &page.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    text
}

fn explain_into(report: &PageReport, text: &mut String) -> std::fmt::Result {
    let page = &report.page;
    let kind = match page.kind {
        PageKind::Posting => "posting",
        PageKind::Listing => "listing",
        PageKind::Hub => "hub",
        PageKind::None => "none",
    };
    writeln!(text, "{}", page.source)?;
    writeln!(text, "  read as {}", report.found)?;
    if report.gate_reason.is_empty() {
        writeln!(text, "  {}", page.reason)?;
        return Ok(());
    }
    writeln!(text, "  {kind}: {} ({} bytes of text)", report.gate_reason, report.markdown_bytes)?;
    for (index, attempt) in report.attempts.iter().enumerate() {
        writeln!(
            text,
            "  try {}: {}, because {}: {}{} prompt + {} answer tokens, {:.2} s, {:.4} USD, {}",
            index + 1,
            route(attempt.route),
            attempt.reason,
            if attempt.tokens.is_estimate { "about " } else { "" },
            attempt.tokens.prompt,
            attempt.tokens.completion,
            attempt.seconds,
            attempt.cost_usd,
            result(&attempt.result),
        )?;
    }
    writeln!(
        text,
        "  {}: {}; {} postings, {:.2} s, {:.4} USD",
        route(page.route),
        page.reason,
        page.postings.len(),
        page.seconds,
        page.cost_usd
    )
}

fn result(result: &AttemptResult) -> String {
    match result {
        AttemptResult::Done(postings) => format!("{postings} postings"),
        AttemptResult::Refused(problems) => format!("refused: {}", problems.join("; ")),
        AttemptResult::Failed(why) => format!("failed: {why}"),
        AttemptResult::Planned => "planned only".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_try_is_told_with_its_reason() {
        let mut reports = crate::output::tests::sample();
        reports[0].gate_reason = "one posting declared".into();
        let text = explain(&reports[0]);
        assert!(
            text.contains("try 1: local, because no structured data: 900 prompt + 80 answer tokens"),
            "{text}"
        );
        assert!(text.contains("refused: company is not on the page"), "{text}");
        assert!(explain(&reports[1]).contains("robots.txt says no"));
    }
}
