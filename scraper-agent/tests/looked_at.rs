//! The ledger of pages that were looked at (LOOKED_AT.md) against records that call pages unseen.

use std::path::{Path, PathBuf};

/// Pages of a set on a day: a row of the ledger, or what a record claims.
#[derive(Clone, Debug, PartialEq)]
struct Pages {
    /// ISO, so that text compares as days do.
    date: String,
    set: String,
    /// Empty for all.
    names: Vec<String>,
}

impl Pages {
    fn parse(cells: &[&str]) -> Result<Self, String> {
        let [date, set, pages, ..] = cells else { return Err(format!("{cells:?} has too few columns")) };
        // A day, or a minute of it: what is looked at on one day is scored before or after.
        let (day, minute) = date.split_once('T').map_or((*date, None), |(day, minute)| (day, Some(minute)));
        let is_minute =
            minute.is_none_or(|minute| chrono::NaiveTime::parse_from_str(minute, "%H:%MZ").is_ok());
        let is_day = day.len() == 10 && day.parse::<chrono::NaiveDate>().is_ok() && is_minute;
        if !is_day || set.is_empty() || pages.is_empty() {
            return Err(format!("{cells:?} is no day, set and pages"));
        }
        let names =
            if *pages == "all" { Vec::new() } else { pages.split_whitespace().map(str::to_owned).collect() };
        Ok(Self { date: (*date).to_owned(), set: (*set).to_owned(), names })
    }

    /// Whether a look took away what a claim says.
    fn spoils(&self, claim: &Self) -> bool {
        let shares = self.names.is_empty()
            || claim.names.is_empty()
            || claim.names.iter().any(|name| self.names.contains(name));
        self.set == claim.set && self.date <= claim.date && shares
    }
}

fn ledger(text: &str) -> Vec<Pages> {
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| Pages::parse(&cells).unwrap()).collect()
}

fn claims(text: &str) -> Vec<Pages> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| Pages::parse(&line.split('\t').collect::<Vec<_>>()).unwrap()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn own_ledger() -> Vec<Pages> {
    ledger(include_str!("../LOOKED_AT.md"))
}

#[test]
fn no_record_calls_a_page_unseen_that_was_looked_at() {
    let looked = own_ledger();
    let folders = std::fs::read_dir(root().join("bench/record")).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty());
    let mut broken = Vec::new();
    for folder in folders {
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default().to_lowercase();
        let Ok(text) = std::fs::read_to_string(folder.join("unseen.tsv")) else {
            if readme.contains("unseen") {
                broken.push(format!("{} says \"unseen\" and has no unseen.tsv", folder.display()));
            }
            continue;
        };
        for claim in claims(&text) {
            let spoilt = looked.iter().filter(|look| look.spoils(&claim));
            broken.extend(spoilt.map(|look| format!("{}: {claim:?} but {look:?}", folder.display())));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_look_spoils_what_is_claimed_from_its_day_on() {
    let looked = own_ledger();
    assert!(!looked.is_empty());
    let spoilt = |claim: &str| claims(claim).iter().any(|claim| looked.iter().any(|look| look.spoils(claim)));
    assert!(spoilt("2026-12-01\topen-corpus\tall\n"));
    assert!(spoilt("2026-11-30\topen-corpus\thtml/001-x.html html/2.html\n"));
    assert!(!spoilt("2026-12-01\tanother-set\tall\n"));
    let rows =
        "| date | set | pages | for |\n|---|---|---|---|\n| 2026-12-05 | x | a.html b.html | titles |\n";
    let spoils = |claim: &str| ledger(rows)[0].spoils(&claims(claim)[0]);
    assert!(spoils("2026-12-06\tx\tb.html c.html") && spoils("2026-12-05\tx\tall"));
    assert!(!spoils("2026-12-06\tx\tc.html") && !spoils("2026-12-04\tx\tall"));
    let rows = "| date | set | pages | for |\n|---|---|---|---|\n| 2026-12-05T12:30Z | x | all | titles |\n";
    let spoils = |claim: &str| ledger(rows)[0].spoils(&claims(claim)[0]);
    assert!(!spoils("2026-12-05T12:29Z\tx\tall") && spoils("2026-12-05T12:30Z\tx\tall"));
}

#[test]
fn a_row_that_is_none_is_told() {
    for cells in [
        &["2026-13-01", "x", "all"][..],
        &["2026-12-01T25:00Z", "x", "all"],
        &["2026-12-01", "x"],
        &["2026-12-01", "", "all"],
    ] {
        assert!(Pages::parse(cells).is_err(), "{cells:?}");
    }
}
