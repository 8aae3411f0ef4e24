//! `quarry bench extract`

use std::process::ExitCode;

use indicatif::ProgressBar;
use quarry_bench::extract::{self, Job};

use super::Servers;
use crate::cli::BenchExtractArgs;
use crate::config::{Config, Environment};

/// Asks every server for every page, prints the table.
pub async fn run(
    args: BenchExtractArgs,
    config: Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let mut job = Job::read(&args.job)?;
    if let Some(pages) = args.pages {
        job.truncate(pages);
    }
    let servers = Servers::open(&args.urls, args.model, &config, environment).await?;
    let bar = ProgressBar::new(0);
    let measured = extract::run(&job, servers.urls(), args.concurrency, &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })
    .await;
    bar.finish_and_clear();
    servers.close().await?;
    let measured = measured?;
    print!("{}", extract::table(&measured));
    super::write_json(args.out.as_deref(), &measured)?;
    Ok(ExitCode::SUCCESS)
}
