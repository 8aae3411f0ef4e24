//! Real pages without any model: what each is, which jobs a listing holds, what a page declares, and that nothing is
//! invented. The pages are not part of the project; where they are absent the test says so and passes.

use std::path::Path;
use std::sync::Arc;

use quarry_agent::agent::Agent;
use quarry_agent::config::AgentConfig;
use quarry_agent::eval::{self, EvalOptions, EvalReport, Subset};
use quarry_agent::extract::Models;
use quarry_agent::posting::PageKind;

/// Right kinds at least, in percent.
const GATE_MIN: u32 = 90;
/// Listed titles that are found at least, in percent.
const RECALL_MIN: u32 = 95;
/// Found titles that are listed at least, in percent.
const PRECISION_MIN: u32 = 98;

fn percent(part: u32, whole: u32) -> u32 {
    (part * 100).checked_div(whole).unwrap_or(0)
}

async fn measured(folder: &Path) -> EvalReport {
    let data = tempfile::tempdir().unwrap();
    let mut config = AgentConfig::default();
    config.storage.data_dir = data.path().to_owned();
    let agent = Arc::new(Agent::new(config, Models { local: None, cloud: None }).await.unwrap());
    let options = EvalOptions { subset: Subset::Gate, pages_file: None, resume: false, ablate: false };
    eval::run(folder, &agent, &options, &|_, _, _| {}).await.unwrap()
}

#[tokio::test]
async fn real_pages_are_told_apart_and_read_without_a_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if !folder.join("index.tsv").is_file() {
        println!("corpus absent: {} has no index.tsv; nothing was measured", folder.display());
        return;
    }
    let report = measured(&folder).await;
    println!("{}", eval::text_tables(&report));
    let gate = &report.gate;
    assert!(percent(gate.right, gate.total) >= GATE_MIN, "kinds: {} of {}", gate.right, gate.total);
    let listings = &report.listings;
    let recall = percent(listings.matched, listings.jobs);
    assert!(recall >= RECALL_MIN, "titles: {} of {}", listings.matched, listings.jobs);
    let precision = percent(listings.matched, listings.found);
    assert!(precision >= PRECISION_MIN, "found titles: {} of {}", listings.matched, listings.found);
    assert_eq!(report.invented, 0, "{:#?}", report.failures);
    let with_jobs = |kind| matches!(kind, PageKind::Listing | PageKind::Posting);
    let hubs = report.page_scores.iter().filter(|page| page.expected == "hub");
    let broken: Vec<_> = hubs.filter(|page| with_jobs(page.kind)).map(|page| &page.file).collect();
    assert!(broken.is_empty(), "hubs hold no job: {broken:#?}");
    for field in ["title", "company", "locations"] {
        let score = &report.fields[field];
        assert!(score.right > 0 && score.wrong == 0, "{field} of declared postings: {score:?}");
    }
}
