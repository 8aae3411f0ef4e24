//! Counting what was right.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attempt::{AttemptResult, PageReport};
use crate::eval::compare::{
    company_agrees, places_agree, remote_of, salary_agrees, title_agrees, title_words,
};
use crate::eval::corpus::{CorpusPage, ExpectedKind, TruthPage};
use crate::eval::invented::{SourceWords, invented};
use crate::posting::{PageKind, Posting, Route};

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
    /// Mean over pages.
    pub page_recall: f64,
    /// Mean over pages that found any.
    pub page_precision: f64,
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
    /// Listings.
    pub listings: ListingScore,
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
}

/// The scored fields, in the tables' order.
pub const FIELDS: [&str; 7] =
    ["title", "company", "locations", "employment_type", "remote", "salary", "date_posted"];

impl EvalReport {
    /// Counts one page.
    pub fn add(&mut self, page: &CorpusPage, report: &PageReport, source: &[u8]) {
        let result = &report.page;
        let source = SourceWords::new(source);
        let invented: Vec<_> =
            result.postings.iter().flat_map(|posting| invented(posting, &source)).collect();
        let mut score = PageScore {
            file: page.file.clone(),
            site: page.site.clone(),
            expected: page.expected.name().to_owned(),
            kind: result.kind,
            route: result.route,
            reason: result.reason.clone(),
            fields: BTreeMap::new(),
            listing: None,
            invented,
            seconds: result.seconds,
            prompt_tokens: result.tokens.prompt,
            completion_tokens: result.tokens.completion,
        };
        self.add_gate(page, report, &score);
        match (page.expected, &page.truth) {
            (ExpectedKind::Is(PageKind::Posting), Some(truth)) => {
                let nothing = Posting::default();
                let posting = result.postings.first().unwrap_or(&nothing);
                self.add_fields(truth, posting, &mut score);
            }
            (ExpectedKind::Is(PageKind::Listing), Some(truth)) => self.add_listing(truth, report, &mut score),
            _ => {}
        }
        for (field, value) in &score.invented {
            self.failures.push(format!("{}: invented {field} {value:?}", page.file));
        }
        self.pages += 1;
        self.invented += score.invented.len() as u32;
        self.values += result.postings.iter().map(count_values).sum::<u32>();
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
        let quoted = |text: &Option<String>| text.as_ref().map(|text| format!("{text:?}"));
        let listed = |list: &[String]| (!list.is_empty()).then(|| format!("{list:?}"));
        let truth_places = truth.locations.clone().unwrap_or_default();
        let pair = |agrees: fn(&str, &str) -> bool, a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if agrees(a, b));
        let pay = salary_agrees(truth, found);
        let (remote, found_remote) = (truth.remote, remote_of(found));
        // Name, truth, found, whether they agree.
        let rows: [(&str, Option<String>, Option<String>, bool); FIELDS.len()] = [
            (
                "title",
                quoted(&truth.title),
                quoted(&found.title),
                pair(title_agrees, &truth.title, &found.title),
            ),
            (
                "company",
                quoted(&truth.company),
                quoted(&found.company),
                pair(company_agrees, &truth.company, &found.company),
            ),
            (
                "locations",
                listed(&truth_places),
                listed(&found.locations),
                places_agree(&truth_places, &found.locations),
            ),
            (
                "employment_type",
                truth.employment_type.map(|t| format!("{t:?}")),
                found.employment_type.map(|t| format!("{t:?}")),
                truth.employment_type == found.employment_type,
            ),
            (
                "remote",
                remote.map(|r| r.to_string()),
                found_remote.map(|r| r.to_string()),
                remote == found_remote,
            ),
            (
                "salary",
                pay.map(|_| {
                    format!(
                        "{:?}–{:?} {:?} {:?}",
                        truth.salary_min, truth.salary_max, truth.salary_currency, truth.salary_period
                    )
                }),
                found
                    .salary
                    .as_ref()
                    .filter(|s| s.min.is_some() || s.max.is_some())
                    .map(|s| format!("{:?}–{:?} {:?} {:?}", s.min, s.max, s.currency, s.period)),
                pay == Some(true),
            ),
            (
                "date_posted",
                truth.date_posted.clone(),
                found.date_posted.clone(),
                truth.date_posted.is_some() && truth.date_posted == found.date_posted,
            ),
        ];
        for (name, truth_text, found_text, agrees) in rows {
            let field = self.fields.entry(name.to_owned()).or_default();
            let verdict = match (truth_text, found_text) {
                (None, None) => continue,
                (None, Some(found)) => {
                    field.beyond_truth += 1;
                    format!("beyond truth: {found}")
                }
                (Some(_), Some(_)) if agrees => {
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
                self.failures.push(format!("{}: {name} {verdict}", score.file));
            }
            score.fields.insert(name.to_owned(), verdict);
        }
    }

    fn add_listing(&mut self, truth: &TruthPage, report: &PageReport, score: &mut PageScore) {
        let jobs = truth.jobs.as_deref().unwrap_or_default();
        let mut left: Vec<Vec<String>> =
            jobs.iter().filter_map(|job| job.title.as_deref()).map(title_words).collect();
        let total = left.len() as u32;
        let found: Vec<&str> =
            report.page.postings.iter().filter_map(|posting| posting.title.as_deref()).collect();
        let mut matched = 0;
        // Equal titles first, so that a looser pair does not take an exact one's place.
        let mut rest = Vec::new();
        for title in &found {
            match left.iter().position(|truth| *truth == title_words(title)) {
                Some(at) => {
                    left.swap_remove(at);
                    matched += 1;
                }
                None => rest.push(*title),
            }
        }
        for title in rest {
            if let Some(at) = left.iter().position(|truth| title_agrees(&truth.join(" "), title)) {
                left.swap_remove(at);
                matched += 1;
            }
        }
        let listing = &mut self.listings;
        listing.pages += 1;
        listing.jobs += total;
        listing.found += found.len() as u32;
        listing.matched += matched;
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

fn count_values(posting: &Posting) -> u32 {
    let one = |present: bool| u32::from(present);
    one(posting.title.is_some())
        + one(posting.company.is_some())
        + one(posting.seniority.is_some())
        + posting.locations.len() as u32
        + posting.skills.len() as u32
        + one(posting.salary.as_ref().is_some_and(|salary| salary.text.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::corpus::TruthJob;

    fn page(expected: ExpectedKind, truth: TruthPage) -> CorpusPage {
        CorpusPage {
            file: "html/1.html".into(),
            site: "A".into(),
            url: None,
            is_shell: false,
            expected,
            truth: Some(truth),
        }
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
            b"<h1>Engineer</h1> Other Berlin",
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
        report.add(&page(ExpectedKind::Is(PageKind::Listing), truth), &result, b"A cook, a baker");
        report.finish();
        assert_eq!((report.listings.jobs, report.listings.found, report.listings.matched), (3, 4, 2));
        assert_eq!(report.invented, 1);
    }
}
