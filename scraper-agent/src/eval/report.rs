//! The measurement as text: counts beside shares, failures in full.

use std::collections::BTreeMap;
use std::fmt::{Result, Write as _};

use crate::eval::fields::FIELDS;
use crate::eval::score::EvalReport;

/// All tables.
pub fn text_tables(report: &EvalReport) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_tables(report, &mut text);
    text
}

fn write_tables(report: &EvalReport, text: &mut String) -> Result {
    writeln!(text, "{} pages, {:.1} s in all", report.pages, report.seconds)?;
    let (without, candidates) = (report.jobs_on_pages_without, report.candidates_on_pages_without);
    writeln!(text, "\njobs on pages without one: {without} ({candidates} of them candidates)")?;
    let jobs = report.jobs;
    writeln!(text, "jobs: {} confirmed, {} candidates", jobs.confirmed, jobs.candidates)?;
    writeln!(text, "invented: {} of {} values", report.invented, report.values)?;
    write_fields(report, text)?;
    write_gate(report, text)?;
    write_listings(report, text)?;
    write_cost(report, text)?;
    write_ablations(report, text)?;
    if !report.failures.is_empty() {
        writeln!(text, "\nfailures: {}", report.failures.len())?;
        for failure in &report.failures {
            writeln!(text, "  {failure}")?;
        }
    }
    Ok(())
}

fn write_fields(report: &EvalReport, text: &mut String) -> Result {
    if report.fields.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nsingle postings  right of total   wrong  missing  beyond truth  mean over sites")?;
    for name in FIELDS {
        let field = report.fields.get(name).cloned().unwrap_or_default();
        let site = report.fields_per_site.get(name).map_or("-".to_owned(), |v| format!("{:.0} %", v * 100.0));
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
    Ok(())
}

fn write_gate(report: &EvalReport, text: &mut String) -> Result {
    let gate = &report.gate;
    write_kinds(text, "gate", &gate.by_kind)?;
    write_kinds(text, "", &[("all".to_owned(), [gate.right, gate.total])].into())?;
    write_kinds(text, "gate by language", &report.gate_by_language)?;
    write_kinds(text, "gate by system", &report.gate_by_ats_family)
}

fn write_kinds(text: &mut String, head: &str, rows: &BTreeMap<String, [u32; 2]>) -> Result {
    if !rows.is_empty() && !head.is_empty() {
        writeln!(text, "\n{head:<16} right of total")?;
    }
    for (name, [right, total]) in rows {
        writeln!(text, "{name:<16} {:>9} {:>5}", format!("{right} of {total}"), percent(*right, *total))?;
    }
    Ok(())
}

fn write_listings(report: &EvalReport, text: &mut String) -> Result {
    let listing = &report.listings;
    if listing.pages == 0 {
        return Ok(());
    }
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
    for (name, [found, matched]) in [("confirmed", listing.confirmed), ("candidates", listing.candidates)] {
        writeln!(
            text,
            "  {name}: {found} found, {matched} matched ({} of what was found, {} of the jobs)",
            percent(matched, found),
            percent(matched, listing.jobs)
        )?;
    }
    Ok(())
}

fn write_cost(report: &EvalReport, text: &mut String) -> Result {
    let routes = |routes: &BTreeMap<String, u32>| {
        let total = routes.values().sum::<u32>();
        let shares =
            routes.iter().map(|(name, count)| format!("{name} {count} ({})", percent(*count, total)));
        shares.collect::<Vec<_>>().join(", ")
    };
    writeln!(text, "\nroutes, all pages: {}", routes(&report.routes))?;
    writeln!(text, "routes, postings and listings: {}", routes(&report.routes_of_jobs))?;
    let zero = report.pages - report.model_pages.min(report.pages);
    writeln!(text, "no token: {zero} of {} pages ({})", report.pages, percent(zero, report.pages))?;
    let row = |name: &str, pages: u32, seconds: f64| {
        let each = |value: f64| if pages == 0 { 0.0 } else { value / f64::from(pages) };
        let (prompt, answer) = (each(report.prompt_tokens as f64), each(report.completion_tokens as f64));
        format!("{name:<22} {pages:>5}  {:>8.3}  {prompt:>9.1}  {answer:>9.1}", each(seconds))
    };
    writeln!(text, "per page               pages   seconds  prompt t.  answer t.")?;
    writeln!(text, "{}", row("all", report.pages, report.seconds))?;
    writeln!(text, "{}", row("that asked a model", report.model_pages, report.model_seconds))?;
    writeln!(text, "{:.4} USD, {} tries refused", report.cost_usd, report.refused_tries)
}

/// What each change costs, beside the pages as they are: shares, and differences in points.
fn write_ablations(report: &EvalReport, text: &mut String) -> Result {
    if report.ablations.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nwith something taken away: right in %, and the difference to the pages as they are")?;
    write!(text, "{:<20} {:>9}", "", "as it is")?;
    for ablation in &report.ablations {
        write!(text, " {:>17}", ablation.variation.name())?;
    }
    writeln!(text)?;
    let mut rows: Vec<(String, fn(&EvalReport, &str) -> Option<f64>)> =
        vec![("gate".to_owned(), |r, _| share(r.gate.right, r.gate.total))];
    for kind in report.gate.by_kind.keys() {
        rows.push((kind.clone(), |r, name| r.gate.by_kind.get(name).and_then(|[a, b]| share(*a, *b))));
    }
    for field in FIELDS.iter().filter(|field| report.fields.contains_key(**field)) {
        rows.push(((*field).to_owned(), |r, name| {
            r.fields.get(name).and_then(|f| share(f.right, f.total()))
        }));
    }
    if report.listings.pages > 0 {
        rows.push(("titles: recall".to_owned(), |r, _| share(r.listings.matched, r.listings.jobs)));
        rows.push(("titles: precision".to_owned(), |r, _| share(r.listings.matched, r.listings.found)));
    }
    for (name, value) in rows {
        let Some(as_it_is) = value(report, &name) else { continue };
        write!(text, "{name:<20} {as_it_is:>9.1}")?;
        for ablation in &report.ablations {
            let cell = value(&ablation.report, &name)
                .map_or("-".to_owned(), |changed| format!("{changed:.1} ({:+.1})", changed - as_it_is));
            write!(text, " {cell:>17}")?;
        }
        writeln!(text)?;
    }
    let counts: [(&str, fn(&EvalReport) -> u32); 4] = [
        ("jobs where none is", |r| r.jobs_on_pages_without),
        ("invented values", |r| r.invented),
        ("values", |r| r.values),
        ("pages with a model", |r| r.model_pages),
    ];
    for (name, count) in counts {
        write!(text, "{name:<20} {:>9}", count(report))?;
        for ablation in &report.ablations {
            write!(text, " {:>17}", count(&ablation.report))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn share(part: u32, whole: u32) -> Option<f64> {
    (whole > 0).then(|| f64::from(part) * 100.0 / f64::from(whole))
}

fn percent(part: u32, whole: u32) -> String {
    share(part, whole).map_or("-".to_owned(), |share| format!("{share:.0} %"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::ablate::Variation;
    use crate::eval::score::Ablation;

    #[test]
    fn the_tables_show_what_counts_and_what_a_change_costs() {
        let measured = |right| {
            let mut report = EvalReport { pages: 4, model_pages: 1, seconds: 2.0, ..EvalReport::default() };
            report.gate.by_kind.insert("hub".into(), [right, 4]);
            (report.gate.right, report.gate.total) = (right, 4);
            (report.jobs_on_pages_without, report.candidates_on_pages_without) = (3, 2);
            report.prompt_tokens = 100;
            report
        };
        let mut report = measured(4);
        report.ablations.push(Ablation { variation: Variation::NoClasses, report: measured(3) });
        let text = text_tables(&report);
        for line in [
            "jobs on pages without one: 3 (2 of them candidates)",
            "no token: 3 of 4 pages (75 %)",
            "all                        4     0.500       25.0        0.0",
            "that asked a model         1     0.000      100.0        0.0",
            "gate                     100.0      75.0 (-25.0)",
            "hub                      100.0      75.0 (-25.0)",
        ] {
            assert!(text.contains(line), "{line:?} is not in:\n{text}");
        }
    }
}
