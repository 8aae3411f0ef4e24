//! `quarry bench`: what its parts share.

mod clean;
mod extract;
mod gpu;
mod kernels;
mod make_model;
mod model;
mod serve;
mod simulation;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::{BenchCommand, InferenceArgs};
use crate::config::{Config, Environment};
use crate::inference::{Inference, base_url};

/// Runs one of them.
pub async fn run(
    command: BenchCommand,
    config: Config,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Extract(args) => extract::run(args, config, environment).await,
        BenchCommand::Serve(args) => serve::run(args, config, environment).await,
        // These compute on this thread for as long as they take.
        BenchCommand::Clean(args) => tokio::task::block_in_place(|| clean::run(&args)),
        BenchCommand::Model(args) => tokio::task::block_in_place(|| model::run(args, &config, environment)),
        BenchCommand::Gpu(args) => tokio::task::block_in_place(|| gpu::run(&args, &config, environment)),
        BenchCommand::Kernels(args) => tokio::task::block_in_place(|| kernels::run(args, &config)),
        BenchCommand::Simulation(args) => tokio::task::block_in_place(|| simulation::run(args)),
        BenchCommand::MakeModel(args) => {
            tokio::task::block_in_place(|| make_model::run(args, &config, environment))
        }
    }
}

/// Writes what was measured where a file was named.
pub fn write_json(out: Option<&Path>, measured: &impl Serialize) -> anyhow::Result<()> {
    let Some(out) = out else { return Ok(()) };
    let json = serde_json::to_vec_pretty(measured)?;
    std::fs::write(out, json).with_context(|| out.display().to_string())
}

/// The servers that were named, or one of our own.
struct Servers {
    urls: Vec<String>,
    own: Option<Inference>,
}

impl Servers {
    async fn open(
        named: &[String],
        model: Option<String>,
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        if !named.is_empty() {
            let urls = named.iter().map(|url| base_url(url)).collect::<Result<_, _>>()?;
            return Ok(Self { urls, own: None });
        }
        let own = Inference::open(&InferenceArgs { server: None, model }, config, environment).await?;
        Ok(Self { urls: vec![own.base_url()], own: Some(own) })
    }

    /// With the version part.
    fn urls(&self) -> &[String] {
        &self.urls
    }

    async fn close(self) -> anyhow::Result<()> {
        match self.own {
            Some(own) => own.close().await,
            None => Ok(()),
        }
    }
}
