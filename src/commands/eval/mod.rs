//! `quarry eval`: the pipeline on labelled pages, and (`perplexity`) the back end on a text.

mod perplexity;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use quarry_agent::agent::{Agent, Progress as _};
use quarry_agent::attempt::PageReport;
use quarry_agent::eval::{self, EvalOptions, Subset};

use crate::cli::{EvalArgs, EvalCommand};
use crate::config::{Config, Environment};
use crate::inference::Inference;
use crate::progress::PageProgress;

/// Runs what was asked for.
pub async fn run(args: EvalArgs, config: Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    match args.command {
        // Long and without a pause: not on a thread that others wait for.
        Some(EvalCommand::Perplexity(args)) => {
            tokio::task::block_in_place(|| perplexity::run(args, &config, environment))
        }
        None => pages(args, config, environment).await,
    }
}

/// Runs the pipeline over labelled pages, prints the tables, writes the JSON.
async fn pages(args: EvalArgs, config: Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let corpus = args.corpus.context("no folder was named")?;
    let inference = match args.subset {
        Subset::Gate => Inference::named(&args.inference)?,
        _ => Some(Inference::open(&args.inference, &config, environment).await?),
    };
    // Measured alone: no page that a cache kept, no budget that another run spent.
    let data = tempfile::tempdir()?;
    let mut agent_config = config.agent();
    agent_config.storage.data_dir = data.path().to_owned();
    let server = inference.as_ref().map(Inference::base_url);
    let agent = Arc::new(Agent::connect(agent_config, server.as_deref()).await?);
    let options = EvalOptions {
        subset: args.subset,
        pages_file: Some(pages_file(&args.out)),
        resume: args.resume,
        ablate: args.ablate,
    };
    let progress = PageProgress::new("pages");
    let on_page = |done: usize, total: usize, report: &PageReport| progress.finished(report, done, total);
    let measured = eval::run(&corpus, &agent, &options, &on_page).await;
    progress.finish();
    agent.close().await;
    if let Some(inference) = inference {
        inference.close().await?;
    }
    let report = measured?;
    print!("{}", eval::text_tables(&report));
    let json = serde_json::to_vec_pretty(&report)?;
    std::fs::write(&args.out, json).with_context(|| args.out.display().to_string())?;
    eprintln!("written: {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// Finished pages, beside the report, so that `--resume` finds them.
fn pages_file(out: &std::path::Path) -> PathBuf {
    out.with_extension("pages.jsonl")
}
