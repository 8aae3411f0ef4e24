//! `quarry bench model`

use std::process::ExitCode;

use quarry_bench::model::{self, ModelPlan};

use super::write_json;
use crate::cli::BenchModelArgs;
use crate::config::{Config, Environment};
use crate::host::{cpu, open_model};

/// Runs every test, prints the table.
pub fn run(args: BenchModelArgs, config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let files = open_model(args.model.as_deref(), config, environment)?;
    let (mut backend, threads) = cpu(args.backend, config)?;
    let plan = ModelPlan {
        prompt: args.prompt,
        generate: args.generate,
        depth: args.depth,
        streams: args.streams,
        repeats: args.repeats,
        batch: args.batch,
    };
    let report = model::run(&mut backend, threads, &files, &plan, &mut |what| eprintln!("{what}"))?;
    print!("{}", model::table(&report));
    write_json(args.out.as_deref(), &report)?;
    Ok(ExitCode::SUCCESS)
}
