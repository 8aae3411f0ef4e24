//! `quarry scrape`

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use quarry_agent::agent::{Agent, ScrapeOptions};
use quarry_agent::output;
use quarry_agent::seed::Seed;

use crate::cli::ScrapeArgs;
use crate::config::{Config, Environment};
use crate::inference::Inference;
use crate::progress::{PageProgress, line_width};

/// Reads the seeds and prints the results; a non-zero status where not one page could be got.
pub async fn run(args: ScrapeArgs, config: Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let seeds = args.seeds.iter().map(|text| Seed::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let inference = match args.dry_run {
        true => Inference::named(&args.inference)?,
        false => Some(Inference::open(&args.inference, &config, environment).await?),
    };
    let server = inference.as_ref().map(Inference::base_url);
    let agent = Agent::connect(config.agent(), server.as_deref()).await?;
    let progress = PageProgress::new("pages");
    let scraped = agent.scrape(&seeds, ScrapeOptions { dry_run: args.dry_run }, &progress).await;
    progress.finish();
    agent.close().await;
    if let Some(inference) = inference {
        inference.close().await?;
    }
    let reports = scraped?;
    if reports.is_empty() {
        bail!("no pages: {} hold no .html, .htm, .xhtml, .mhtml or .json files", args.seeds.join(", "));
    }
    if args.explain {
        reports.iter().for_each(|report| eprint!("{}", output::explain(report)));
    }
    output::write(args.format, &reports, line_width(), &mut std::io::stdout().lock()).context("stdout")?;
    // A page that was got has passed the gate.
    let all_failed = reports.iter().all(|report| report.gate_reason.is_empty());
    Ok(if all_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
