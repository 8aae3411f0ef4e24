//! Counting what was right.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attempt::{AttemptResult, PageReport};
use crate::eval::ablate::Variation;
use crate::eval::compare::{title_agrees, title_words};
use crate::eval::corpus::{CorpusPage, ExpectedKind, TruthPage};
use crate::eval::fields::{FIELDS, rows};
use crate::eval::invented::PageContent;
use crate::posting::{PageKind, Posting, Route, Standing};

/// One field over pages whose truth has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FieldScore {
    /// Agrees with the truth.
    pub right: u32,
    /// Differs.
    pub wrong: u32,
    /// Nothing was found.
    pub missing: u32,
    /// A value where the truth is silent; neither right nor wrong.
    pub beyond_truth: u32,
}

impl FieldScore {
    /// Pages whose truth has the field.
    pub fn total(&self) -> u32 {
        self.right + self.wrong + self.missing
    }
}

/// Kinds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateScore {
    /// Right of total, by expected kind.
    pub by_kind: BTreeMap<String, [u32; 2]>,
    /// Right.
    pub right: u32,
    /// Pages.
    pub total: u32,
}

/// Listings with labelled jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListingScore {
    /// Pages.
    pub pages: u32,
    /// Jobs in the truth.
    pub jobs: u32,
    /// Jobs found.
    pub found: u32,
    /// Found jobs whose title is in the truth, each once.
    pub matched: u32,
    /// Of `found` and `matched`, those that are confirmed.
    #[serde(default)]
    pub confirmed: [u32; 2],
    /// Of `found` and `matched`, candidates.
    #[serde(default)]
    pub candidates: [u32; 2],
    /// Mean over pages.
    pub page_recall: f64,
    /// Mean over pages that found any.
    pub page_precision: f64,
}

/// Jobs by how sure they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// Declared, or read from their own page.
    pub confirmed: u32,
    /// Records that nobody has followed.
    pub candidates: u32,
}

impl JobCounts {
    fn of(postings: &[Posting]) -> Self {
        let candidates = postings.iter().filter(|posting| posting.standing == Standing::Candidate).count();
        Self { confirmed: (postings.len() - candidates) as u32, candidates: candidates as u32 }
    }

    /// Both.
    pub fn total(self) -> u32 {
        self.confirmed + self.candidates
    }
}

impl std::ops::AddAssign for JobCounts {
    fn add_assign(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.candidates += other.candidates;
    }
}

/// The same pages, changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ablation {
    /// What was taken away or put around them.
    pub variation: Variation,
    /// What was measured.
    pub report: EvalReport,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageScore {
    /// Path in the corpus.
    pub file: String,
    /// Its site.
    pub site: String,
    /// What it is.
    pub expected: String,
    /// What the gate said.
    pub kind: PageKind,
    /// Which way it went.
    pub route: Route,
    /// Why.
    pub reason: String,
    /// Fields: `right`, `wrong: …` or `missing`.
    pub fields: BTreeMap<String, String>,
    /// Jobs in truth, found and matched, for labelled listings.
    pub listing: Option<[u32; 3]>,
    /// Field and value that are nowhere on the page.
    pub invented: Vec<(String, String)>,
    /// From cleaning to result.
    pub seconds: f64,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Answer tokens.
    pub completion_tokens: u32,
}

/// The whole measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Pages measured.
    pub pages: u32,
    /// Single postings, per page.
    pub fields: BTreeMap<String, FieldScore>,
    /// Single postings: mean over sites of each site's share of right values.
    pub fields_per_site: BTreeMap<String, f64>,
    /// Kinds.
    pub gate: GateScore,
    /// Right of total kinds, by the index's language.
    #[serde(default)]
    pub gate_by_language: BTreeMap<String, [u32; 2]>,
    /// Right of total kinds, by the index's family of applicant tracking systems.
    #[serde(default)]
    pub gate_by_ats_family: BTreeMap<String, [u32; 2]>,
    /// Listings.
    pub listings: ListingScore,
    /// Jobs of all pages.
    #[serde(default)]
    pub jobs: JobCounts,
    /// Jobs told of pages that hold none (hubs and pages that are no posting). Each is a failure.
    #[serde(default)]
    pub jobs_on_pages_without: u32,
    /// Of these, candidates.
    #[serde(default)]
    pub candidates_on_pages_without: u32,
    /// Values nowhere on their page.
    pub invented: u32,
    /// Values checked for that.
    pub values: u32,
    /// Pages by route.
    pub routes: BTreeMap<String, u32>,
    /// Pages by route, those with a posting or listing only.
    pub routes_of_jobs: BTreeMap<String, u32>,
    /// Sum over pages.
    pub seconds: f64,
    /// Over pages that asked a model.
    pub model_pages: u32,
    /// Their seconds.
    pub model_seconds: f64,
    /// Sum.
    pub prompt_tokens: u64,
    /// Sum.
    pub completion_tokens: u64,
    /// Sum.
    pub cost_usd: f64,
    /// Tries that the verifier refused.
    pub refused_tries: u32,
    /// What went wrong, one line each.
    pub failures: Vec<String>,
    /// Every page.
    pub page_scores: Vec<PageScore>,
    /// The same with the pages changed, where that was asked for.
    #[serde(default)]
    pub ablations: Vec<Ablation>,
}

impl EvalReport {
    /// Counts one page.
    pub fn add(&mut self, page: &CorpusPage, report: &PageReport, content: &PageContent) {
        let result = &report.page;
        let checked = content.check(&result.postings, result.kind);
        let mut score = PageScore {
            file: page.file.clone(),
            site: page.site.clone(),
            expected: page.expected.name().to_owned(),
            kind: result.kind,
            route: result.route,
            reason: result.reason.clone(),
            fields: BTreeMap::new(),
            listing: None,
            invented: checked.invented,
            seconds: result.seconds,
            prompt_tokens: result.tokens.prompt,
            completion_tokens: result.tokens.completion,
        };
        self.add_gate(page, report, &score);
        match (page.expected, &page.truth) {
            (ExpectedKind::Is(PageKind::Posting), Some(truth)) => {
                let nothing = Posting::default();
                // What is confirmed comes first; a candidate counts where nothing is.
                let confirmed = result.postings.iter().find(|p| p.standing == Standing::Confirmed);
                let posting = confirmed.or(result.postings.first()).unwrap_or(&nothing);
                self.add_fields(truth, posting, &mut score);
            }
            (ExpectedKind::Is(PageKind::Listing), Some(truth)) => self.add_listing(truth, report, &mut score),
            _ => {}
        }
        for (field, value) in &score.invented {
            self.failures.push(format!("{}: invented {field} {value:?}", page.file));
        }
        let jobs = JobCounts::of(&result.postings);
        self.jobs += jobs;
        if page.expected.holds_no_job() && jobs.total() > 0 {
            self.jobs_on_pages_without += jobs.total();
            self.candidates_on_pages_without += jobs.candidates;
            let (kind, total) = (&score.expected, jobs.total());
            self.failures.push(format!("{}: {total} jobs on a page without one ({kind})", page.file));
        }
        self.pages += 1;
        self.invented += score.invented.len() as u32;
        self.values += checked.values;
        let route = serde_json::to_string(&result.route).unwrap_or_default().trim_matches('"').to_owned();
        if matches!(result.kind, PageKind::Posting | PageKind::Listing) {
            *self.routes_of_jobs.entry(route.clone()).or_default() += 1;
        }
        *self.routes.entry(route).or_default() += 1;
        self.seconds += result.seconds;
        if result.tokens.completion > 0 {
            self.model_pages += 1;
            self.model_seconds += result.seconds;
        }
        self.prompt_tokens += u64::from(result.tokens.prompt);
        self.completion_tokens += u64::from(result.tokens.completion);
        self.cost_usd += result.cost_usd;
        let refused =
            report.attempts.iter().filter(|a| matches!(a.result, AttemptResult::Refused(_))).count();
        self.refused_tries += refused as u32;
        self.page_scores.push(score);
    }

    fn add_gate(&mut self, page: &CorpusPage, report: &PageReport, score: &PageScore) {
        let right = page.expected.accepts(report.page.kind);
        let count = self.gate.by_kind.entry(score.expected.clone()).or_default();
        count[0] += u32::from(right);
        count[1] += 1;
        for (table, key) in
            [(&mut self.gate_by_language, &page.language), (&mut self.gate_by_ats_family, &page.ats_family)]
        {
            if let Some(key) = key {
                let count = table.entry(key.clone()).or_default();
                count[0] += u32::from(right);
                count[1] += 1;
            }
        }
        self.gate.right += u32::from(right);
        self.gate.total += 1;
        if !right {
            self.failures.push(format!(
                "{}: {} taken for {:?}: {}",
                page.file, score.expected, report.page.kind, report.gate_reason
            ));
        }
    }

    fn add_fields(&mut self, truth: &TruthPage, found: &Posting, score: &mut PageScore) {
        for row in rows(truth, found) {
            let field = self.fields.entry(row.field.to_owned()).or_default();
            let verdict = match (row.truth, row.found) {
                (None, None) => continue,
                (None, Some(found)) => {
                    field.beyond_truth += 1;
                    format!("beyond truth: {found}")
                }
                (Some(_), Some(_)) if row.agrees => {
                    field.right += 1;
                    "right".to_owned()
                }
                (Some(truth), Some(found)) => {
                    field.wrong += 1;
                    format!("wrong: {found} for {truth}")
                }
                (Some(truth), None) => {
                    field.missing += 1;
                    format!("missing: {truth}")
                }
            };
            if verdict.starts_with("wrong") || verdict.starts_with("missing") {
                self.failures.push(format!("{}: {} {verdict}", score.file, row.field));
            }
            score.fields.insert(row.field.to_owned(), verdict);
        }
    }

    fn add_listing(&mut self, truth: &TruthPage, report: &PageReport, score: &mut PageScore) {
        let jobs = truth.jobs.as_deref().unwrap_or_default();
        let mut left: Vec<Vec<String>> =
            jobs.iter().filter_map(|job| job.title.as_deref()).map(title_words).collect();
        let total = left.len() as u32;
        let titled = |posting: &'_ Posting| posting.title.clone().map(|title| (title, posting.standing));
        let found: Vec<(String, Standing)> = report.page.postings.iter().filter_map(titled).collect();
        let mut matched = Vec::new();
        // Equal titles first, so that a looser pair does not take an exact one's place.
        let mut rest = Vec::new();
        for (title, standing) in &found {
            match left.iter().position(|truth| *truth == title_words(title)) {
                Some(at) => {
                    left.swap_remove(at);
                    matched.push(*standing);
                }
                None => rest.push((title, *standing)),
            }
        }
        for (title, standing) in rest {
            if let Some(at) = left.iter().position(|truth| title_agrees(&truth.join(" "), title)) {
                left.swap_remove(at);
                matched.push(standing);
            }
        }
        let count = |wanted| {
            let found = found.iter().filter(|(_, standing)| *standing == wanted).count();
            let matched = matched.iter().filter(|standing| **standing == wanted).count();
            [found as u32, matched as u32]
        };
        let (confirmed, candidates) = (count(Standing::Confirmed), count(Standing::Candidate));
        let matched = matched.len() as u32;
        let listing = &mut self.listings;
        listing.pages += 1;
        listing.jobs += total;
        listing.found += found.len() as u32;
        listing.matched += matched;
        for at in 0..2 {
            listing.confirmed[at] += confirmed[at];
            listing.candidates[at] += candidates[at];
        }
        if matched < total || (found.len() as u32) > matched {
            self.failures.push(format!("{}: {matched} of {total} titles, {} found", score.file, found.len()));
        }
        score.listing = Some([total, found.len() as u32, matched]);
    }

    /// Means that need all pages.
    pub fn finish(&mut self) {
        let listings: Vec<[u32; 3]> = self.page_scores.iter().filter_map(|page| page.listing).collect();
        let mean = |values: Vec<f64>| {
            if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
        };
        let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole);
        self.listings.page_recall =
            mean(listings.iter().filter(|l| l[0] > 0).map(|l| share(l[2], l[0])).collect());
        self.listings.page_precision =
            mean(listings.iter().filter(|l| l[1] > 0).map(|l| share(l[2], l[1])).collect());
        for name in FIELDS {
            let mut sites: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
            for page in &self.page_scores {
                let Some(verdict) = page.fields.get(name).filter(|v| !v.starts_with("beyond")) else {
                    continue;
                };
                let site = sites.entry(&page.site).or_default();
                site[0] += u32::from(verdict == "right");
                site[1] += 1;
            }
            if !sites.is_empty() {
                let value = mean(sites.values().map(|[right, total]| share(*right, *total)).collect());
                self.fields_per_site.insert(name.to_owned(), value);
            }
        }
        self.failures.sort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::corpus::TruthJob;
    use crate::fetch::FetchedPage;

    fn page(expected: ExpectedKind, truth: TruthPage) -> CorpusPage {
        CorpusPage {
            file: "html/1.html".into(),
            site: "A".into(),
            url: None,
            fetched: None,
            is_shell: false,
            language: Some("en".into()),
            ats_family: None,
            expected,
            truth: Some(truth),
        }
    }

    fn content(html: &str) -> PageContent {
        PageContent::read(&FetchedPage {
            url: url::Url::parse("https://a.example/").unwrap(),
            bytes: html.as_bytes().to_vec(),
            content_type: None,
            fetched_at: chrono::Utc::now(),
            from_cache: false,
            redirects: 0,
        })
    }

    #[test]
    fn a_job_where_there_is_none_is_a_failure_and_standings_are_told_apart() {
        let mut result = PageReport::failed("x".into(), "corpus".into(), String::new());
        let found = |standing| Posting { title: Some("A cook".into()), standing, ..Posting::default() };
        result.page.kind = PageKind::Listing;
        result.page.postings =
            vec![found(Standing::Confirmed), found(Standing::Candidate), found(Standing::Candidate)];
        let jobs = vec![TruthJob { title: Some("A cook".into()) }, TruthJob { title: Some("A cook".into()) }];
        let truth = TruthPage { jobs: Some(jobs), ..TruthPage::default() };
        let mut report = EvalReport::default();
        report.add(&page(ExpectedKind::Is(PageKind::Listing), truth), &result, &content("<p>A cook"));
        assert_eq!((report.listings.confirmed, report.listings.candidates), ([1, 1], [2, 1]));
        assert_eq!((report.jobs.confirmed, report.jobs.candidates, report.jobs_on_pages_without), (1, 2, 0));
        for expected in [PageKind::Hub, PageKind::None] {
            report.add(
                &page(ExpectedKind::Is(expected), TruthPage::default()),
                &result,
                &content("<p>A cook"),
            );
        }
        assert_eq!((report.jobs_on_pages_without, report.candidates_on_pages_without), (6, 4));
        assert_eq!(report.failures.iter().filter(|line| line.contains("without one")).count(), 2);
        assert_eq!(report.gate_by_language["en"], [1, 3]);
        assert!(report.gate_by_ats_family.is_empty());
    }

    #[test]
    fn fields_are_right_wrong_missing_or_beyond() {
        let truth = TruthPage {
            title: Some("Engineer".into()),
            company: Some("Acme".into()),
            date_posted: Some("2026-01-01".into()),
            ..TruthPage::default()
        };
        let mut result = PageReport::failed("x".into(), "corpus".into(), String::new());
        result.page.kind = PageKind::Posting;
        result.page.postings = vec![Posting {
            title: Some("Engineer".into()),
            company: Some("Other".into()),
            locations: vec!["Berlin".into()],
            ..Posting::default()
        }];
        let mut report = EvalReport::default();
        report.add(
            &page(ExpectedKind::Is(PageKind::Posting), truth),
            &result,
            &content("<h1>Engineer</h1> Other Berlin"),
        );
        report.finish();
        assert_eq!(report.fields["title"].right, 1);
        assert_eq!(report.fields["company"].wrong, 1);
        assert_eq!(report.fields["date_posted"].missing, 1);
        assert_eq!(report.fields["locations"].beyond_truth, 1);
        assert_eq!((report.gate.right, report.invented, report.values), (1, 0, 3));
        assert_eq!(report.fields_per_site["title"], 1.0);
        assert_eq!(report.failures.len(), 2);
    }

    #[test]
    fn a_title_found_twice_counts_once() {
        let job = |title: &str| TruthJob { title: Some(title.into()) };
        let truth = TruthPage {
            jobs: Some(vec![job("A cook"), job("A cook"), job("A baker")]),
            ..TruthPage::default()
        };
        let mut result = PageReport::failed("x".into(), "corpus".into(), String::new());
        result.page.kind = PageKind::Listing;
        let found = |title: &str| Posting { title: Some(title.into()), ..Posting::default() };
        result.page.postings = vec![found("A cook"), found("A baker"), found("A baker"), found("Ghost")];
        let mut report = EvalReport::default();
        report.add(
            &page(ExpectedKind::Is(PageKind::Listing), truth),
            &result,
            &content("<p>A cook, a baker"),
        );
        report.finish();
        assert_eq!((report.listings.jobs, report.listings.found, report.listings.matched), (3, 4, 2));
        assert_eq!(report.invented, 1);
    }
}
