//! `quarry bench extract`

use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::ProgressBar;
use quarry_bench::extract::{self, Job};

use crate::cli::{BenchCommand, BenchExtractArgs, InferenceArgs};
use crate::config::{Config, Environment};
use crate::inference::{Inference, base_url};

/// Runs one of them.
pub async fn run(
    command: BenchCommand,
    config: Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Extract(args) => extract(args, config, environment).await,
    }
}

async fn extract(
    args: BenchExtractArgs,
    config: Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let mut job = Job::read(&args.job)?;
    if let Some(pages) = args.pages {
        job.truncate(pages);
    }
    let own = match args.urls.is_empty() {
        true => Some(
            Inference::open(&InferenceArgs { server: None, model: args.model }, &config, environment).await?,
        ),
        false => None,
    };
    let mut urls = args.urls.iter().map(|url| base_url(url)).collect::<Result<Vec<_>, _>>()?;
    urls.extend(own.iter().map(Inference::base_url));
    let bar = ProgressBar::new(0);
    let measured = extract::run(&job, &urls, args.concurrency, &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })
    .await;
    bar.finish_and_clear();
    if let Some(own) = own {
        own.close().await?;
    }
    let measured = measured?;
    print!("{}", extract::table(&measured));
    if let Some(out) = &args.out {
        std::fs::write(out, serde_json::to_vec_pretty(&measured)?)
            .with_context(|| out.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
