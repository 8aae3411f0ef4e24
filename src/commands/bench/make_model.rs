//! `quarry bench make-model`

use std::process::ExitCode;

use quarry_bench::make_hub;
use quarry_bench::make_model::{self, Mix, Shape};
use quarry_formats::ModelFile;

use crate::cli::BenchMakeModelArgs;
use crate::config::{Config, Environment};
use crate::host::open_model;

/// Writes the file.
pub fn run(args: BenchMakeModelArgs, config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let mut shape = Shape::named(&args.shape)?;
    shape.layers = args.layers.unwrap_or(shape.layers).min(shape.layers);
    if args.quant.eq_ignore_ascii_case("awq") {
        let bytes = make_hub::write(&shape, &args.out)?;
        eprintln!("written: {} ({:.0} MB)", args.out.display(), bytes as f64 / 1e6);
        return Ok(ExitCode::SUCCESS);
    }
    let mix = Mix::named(&args.quant)?;
    let tokenizer = open_model(args.tokenizer.as_deref(), config, environment)?;
    let ModelFile::Gguf(tokenizer) = tokenizer.weights.file() else {
        anyhow::bail!("the tokenizer is copied from a GGUF file; {} is a folder", tokenizer.path.display());
    };
    let bytes = make_model::write(&shape, mix, tokenizer, &args.out)?;
    eprintln!("written: {} ({:.0} MB)", args.out.display(), bytes as f64 / 1e6);
    Ok(ExitCode::SUCCESS)
}
