//! The measurement as text: counts beside shares, failures in full.

use std::fmt::Write as _;

use crate::eval::score::{EvalReport, FIELDS};

/// All tables.
pub fn text_tables(report: &EvalReport) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_tables(report, &mut text);
    text
}

fn write_tables(report: &EvalReport, text: &mut String) -> std::fmt::Result {
    writeln!(text, "{} pages, {:.1} s in all", report.pages, report.seconds)?;
    if !report.fields.is_empty() {
        writeln!(text, "\nsingle postings  right of total   wrong  missing  beyond truth  mean over sites")?;
        for name in FIELDS {
            let field = report.fields.get(name).cloned().unwrap_or_default();
            let site =
                report.fields_per_site.get(name).map_or("-".to_owned(), |v| format!("{:.0} %", v * 100.0));
            let of = format!("{} of {}", field.right, field.total());
            writeln!(
                text,
                "{name:<16} {of:>9} {:>5}  {:>6}  {:>7}  {:>12}  {site:>15}",
                percent(field.right, field.total()),
                field.wrong,
                field.missing,
                field.beyond_truth
            )?;
        }
    }
    writeln!(text, "\ngate             right of total")?;
    for (kind, [right, total]) in &report.gate.by_kind {
        writeln!(text, "{kind:<16} {:>9} {:>5}", format!("{right} of {total}"), percent(*right, *total))?;
    }
    let gate = &report.gate;
    writeln!(
        text,
        "{:<16} {:>9} {:>5}",
        "all",
        format!("{} of {}", gate.right, gate.total),
        percent(gate.right, gate.total)
    )?;
    let listing = &report.listings;
    if listing.pages > 0 {
        writeln!(
            text,
            "\nlistings: {} pages, {} jobs, {} found, {} matched",
            listing.pages, listing.jobs, listing.found, listing.matched
        )?;
        writeln!(
            text,
            "  titles: recall {} (mean over pages {:.0} %), precision {} (mean over pages {:.0} %)",
            percent(listing.matched, listing.jobs),
            listing.page_recall * 100.0,
            percent(listing.matched, listing.found),
            listing.page_precision * 100.0
        )?;
    }
    writeln!(text, "\ninvented: {} of {} values", report.invented, report.values)?;
    let routes = |routes: &std::collections::BTreeMap<String, u32>| {
        let total = routes.values().sum::<u32>();
        routes
            .iter()
            .map(|(name, count)| format!("{name} {count} ({})", percent(*count, total)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    writeln!(text, "routes, all pages: {}", routes(&report.routes))?;
    writeln!(text, "routes, postings and listings: {}", routes(&report.routes_of_jobs))?;
    if report.model_pages > 0 {
        writeln!(
            text,
            "pages that asked a model: {}, {:.2} s each; {} prompt and {} answer tokens, {:.4} USD, {} tries refused",
            report.model_pages,
            report.model_seconds / f64::from(report.model_pages),
            report.prompt_tokens,
            report.completion_tokens,
            report.cost_usd,
            report.refused_tries
        )?;
    }
    if !report.failures.is_empty() {
        writeln!(text, "\nfailures: {}", report.failures.len())?;
        for failure in &report.failures {
            writeln!(text, "  {failure}")?;
        }
    }
    Ok(())
}

fn percent(part: u32, whole: u32) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.0} %", f64::from(part) * 100.0 / f64::from(whole)) }
}
