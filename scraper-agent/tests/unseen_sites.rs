//! Twelve invented sites that were written by somebody who had not read the rules (`unseen-sites/README.md`), without a
//! model: what each page is, that no job comes from a page without one, and that nothing is invented.

use std::path::Path;
use std::sync::Arc;

use quarry_agent::agent::Agent;
use quarry_agent::config::AgentConfig;
use quarry_agent::eval::{self, EvalOptions, Subset};
use quarry_agent::extract::Models;

/// Pages that hold a job, or none, and are taken for what they are at least, in percent.
const GATE_MIN: u32 = 88;
/// Found titles that are listed at least, in percent.
const PRECISION_MIN: u32 = 98;

#[tokio::test]
async fn invented_sites_are_told_apart_and_no_job_comes_from_a_page_without_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("unseen-sites");
    let data = tempfile::tempdir().unwrap();
    let mut config = AgentConfig::default();
    config.storage.data_dir = data.path().to_owned();
    let agent = Arc::new(Agent::new(config, Models { local: None, cloud: None }).await.unwrap());
    let options = EvalOptions { subset: Subset::Gate, pages_file: None, resume: false, ablate: false };
    let report = eval::run(&folder, &agent, &options, &|_, _, _| {}).await.unwrap();
    println!("{}", eval::text_tables(&report));
    assert_eq!(report.pages, 49);
    let gate = &report.gate;
    assert!(gate.right * 100 >= gate.total * GATE_MIN, "kinds: {} of {}", gate.right, gate.total);
    assert_eq!(report.jobs_on_pages_without, 0, "{:#?}", report.failures);
    let listings = &report.listings;
    assert!(listings.matched * 100 >= listings.found * PRECISION_MIN, "{listings:?}");
    assert_eq!(report.invented, 0, "{:#?}", report.failures);
}
