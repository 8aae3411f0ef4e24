//! `quarry models list|pull|fit|verify|rm`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use quarry_models::{Against, Registry, State};

use crate::cli::{FitArgs, ModelsCommand};
use crate::config::{Config, Environment};
use crate::fit::{self, Candidate, Load, Terms};
use crate::progress::PullProgress;

/// Runs one of them.
pub fn run(command: ModelsCommand, config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let registry = environment.registry()?;
    match command {
        ModelsCommand::List => list(&registry),
        ModelsCommand::Pull { name, quantization, from } => {
            // A name of the hub will do too.
            let name = registry.resolve(&name, quantization.as_deref())?.name.clone();
            let mut progress = PullProgress::new(&name);
            let pulled = registry.pull(&name, from.as_deref(), &mut |event| progress.event(&event));
            progress.finish();
            println!("{}", pulled?.path.display());
        }
        ModelsCommand::Fit(args) => fit(&args, config, &registry)?,
        ModelsCommand::Verify { name } => {
            let verified = registry.verify(&name, &mut |_, _| {})?;
            let known = match verified.against {
                Against::Manifest => "as the manifest says",
                Against::Hub => "as it was pulled, by what the hub said",
                Against::Nothing => "neither the manifest nor the hub gave a sum to compare",
            };
            println!("{} {} bytes sha256 {} ({known})", name, verified.bytes, verified.sha256);
        }
        ModelsCommand::Rm { name } => {
            let bytes = registry.remove(&name)?;
            println!("{name}: {} MB freed", bytes / 1_000_000);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(registry: &Registry) {
    println!("{:<40} {:<8} {:>10}  STATE", "NAME", "QUANT", "MB");
    for entry in registry.list() {
        let (bytes, state) = match entry.state {
            State::Absent => (None, "absent"),
            State::Partial { bytes } => (Some(bytes), "partial: pull goes on from here"),
            State::Here { bytes } => (Some(bytes), "here"),
            State::Damaged { bytes } => (Some(bytes), "damaged: pull it again"),
        };
        let size = bytes.map_or_else(|| "-".to_owned(), |bytes| (bytes / 1_000_000).to_string());
        println!("{:<40} {:<8} {:>10}  {}", entry.manifest.name, entry.manifest.quantization, size, state);
    }
}

fn fit(args: &FitArgs, config: &Config, registry: &Registry) -> anyhow::Result<()> {
    if args.page {
        print!("{}", fit::page());
        return Ok(());
    }
    let terms = Terms::of(&config.server);
    let (streams, context) = (args.streams as usize, args.context as usize);
    let load = Load { streams, context, holding: terms.holding };
    let bytes = args.vram.context("--vram says how much memory the device has")?.0;
    let models = match args.models.is_empty() {
        true => registry.manifests().iter().filter_map(Candidate::known).collect(),
        false => args.models.iter().map(|name| candidate(name, registry)).collect::<Result<Vec<_>, _>>()?,
    };
    match args.json {
        true => println!("{:#}", fit::json(&terms, bytes, load, &models)),
        false => print!("{}", fit::text(&terms, bytes, load, &models)),
    }
    Ok(())
}

/// A file or folder, else a known name.
fn candidate(name: &str, registry: &Registry) -> anyhow::Result<Candidate> {
    let path = Path::new(name);
    if path.exists() {
        return Candidate::open(path);
    }
    let manifest = registry.resolve(name, None)?;
    Candidate::known(manifest).with_context(|| {
        format!("the dimensions of {name} are not known; once it is here, name its file: {}", manifest.name)
    })
}
