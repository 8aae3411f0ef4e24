//! `quarry bench serve`

use std::process::ExitCode;

use anyhow::bail;
use indicatif::ProgressBar;
use quarry_bench::serve::{self, Load};
use serde_json::json;

use super::{Servers, write_json};
use crate::cli::BenchServeArgs;
use crate::config::{Config, Environment};

/// Drives every server, prints the table.
pub async fn run(
    args: BenchServeArgs,
    config: Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let servers = Servers::open(&args.urls, args.model, &config, environment).await?;
    let load = Load {
        clients: args.clients,
        requests: args.requests,
        prompt_tokens: args.prompt_tokens,
        output_tokens: args.output_tokens,
        rate: args.rate,
        turns: if servers.urls().len() > 1 { args.turns } else { 1 },
        seed: args.seed,
        may_stop: args.may_stop,
    };
    let bar = ProgressBar::new(0);
    let reports = serve::run(&load, servers.urls(), &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })
    .await;
    bar.finish_and_clear();
    servers.close().await?;
    let reports = reports?;
    print!("{}", serve::table(&reports));
    write_json(args.out.as_deref(), &json!({ "load": load, "servers": reports }))?;
    if reports.iter().any(|report| report.answered == 0) {
        bail!("a server answered no request");
    }
    Ok(ExitCode::SUCCESS)
}
