//! Seeds of the engine's simulation by the ten thousands: what they saw, how fast, and the first that fails.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::time::Instant;

use quarry_simulation::{Progress, run_seeds};
use serde::Serialize;

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct SimulationPlan {
    /// The first.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Seeds that run at a time.
    pub threads: NonZeroUsize,
}

/// What came of them.
#[derive(Clone, Debug, Serialize)]
pub struct SimulationReport {
    /// The first seed.
    pub first: u64,
    /// Seeds that were asked for.
    pub seeds: u64,
    /// Seeds that ran at a time.
    pub threads: usize,
    /// Wall time.
    pub seconds: f64,
    /// What was seen and how often; empty where a seed failed.
    pub counts: Vec<Count>,
    /// Steps of the scheduler a second; `None` where a seed failed.
    pub steps_per_second: Option<f64>,
    /// The first seed that failed.
    pub failure: Option<FailedSeed>,
}

/// How often something was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Count {
    /// What.
    pub name: &'static str,
    /// How often.
    pub count: u64,
}

/// A seed that failed.
#[derive(Clone, Debug, Serialize)]
pub struct FailedSeed {
    /// Which.
    pub seed: u64,
    /// What its assertion says.
    pub what: String,
    /// The command that runs it alone.
    pub command: String,
}

/// Runs them. A seed that fails ends the run and is in the report.
pub fn run(plan: SimulationPlan, progress: Progress<'_>) -> SimulationReport {
    let began = Instant::now();
    let result = run_seeds(plan.first, plan.seeds, plan.threads, progress);
    let seconds = began.elapsed().as_secs_f64();
    let mut report = SimulationReport {
        first: plan.first,
        seeds: plan.seeds,
        threads: plan.threads.get(),
        seconds,
        counts: Vec::new(),
        steps_per_second: None,
        failure: None,
    };
    match result {
        Ok(seen) => {
            let counts = seen.counts().into_iter();
            report.counts = counts.map(|(name, count)| Count { name, count }).collect();
            report.steps_per_second = Some(seen.plans as f64 / seconds.max(1e-9));
        }
        Err(failure) => {
            let command = format!("quarry bench simulation --first {} --seeds 1", failure.seed);
            report.failure = Some(FailedSeed { seed: failure.seed, what: failure.what, command });
        }
    }
    report
}

/// For people.
pub fn table(report: &SimulationReport) -> String {
    let mut text = String::new();
    let width = report.counts.iter().map(|count| count.name.len()).max().unwrap_or_default();
    for Count { name, count } in &report.counts {
        let _ = writeln!(text, "{name:width$} {count:>13}");
    }
    let SimulationReport { first, seeds, threads, seconds, .. } = report;
    let _ = write!(text, "{seeds} seeds from {first} on, {threads} threads, {seconds:.1} s");
    if let Some(rate) = report.steps_per_second {
        let _ = write!(text, ", {rate:.0} steps/s");
    }
    text.push('\n');
    if let Some(FailedSeed { seed, what, command }) = &report.failure {
        let _ = write!(text, "seed {seed} fails: {what}\nalone: {command}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_was_seen_and_what_failed() {
        let plan = SimulationPlan { first: 7, seeds: 20, threads: NonZeroUsize::new(2).unwrap() };
        let mut report = run(plan, &|_| {});
        let seen = table(&report);
        assert!(report.failure.is_none() && seen.contains("steps/s"), "{seen}");
        assert!(seen.lines().any(|line| line.starts_with("restarts ")), "{seen}");
        report.failure = Some(FailedSeed { seed: 9, what: "a block".into(), command: "again 9".into() });
        let failed = table(&report);
        assert!(failed.contains("seed 9 fails: a block\nalone: again 9"), "{failed}");
    }
}
