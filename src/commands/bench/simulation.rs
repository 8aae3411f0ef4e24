//! `quarry bench simulation`

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread::available_parallelism;

use quarry_bench::simulation::{self, SimulationPlan};

use super::write_json;
use crate::cli::BenchSimulationArgs;
use crate::progress::SeedProgress;

/// Runs the seeds, prints the table; a non-zero status where one fails.
pub fn run(args: BenchSimulationArgs) -> anyhow::Result<ExitCode> {
    let threads = args.threads.or_else(|| available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let plan = SimulationPlan { first: args.first, seeds: args.seeds, threads };
    let progress = SeedProgress::new(args.seeds);
    let report = simulation::run(plan, &|done| progress.done(done));
    progress.finish();
    print!("{}", simulation::table(&report));
    write_json(args.out.as_deref(), &report)?;
    Ok(if report.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
