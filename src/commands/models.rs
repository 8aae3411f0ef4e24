//! `quarry models list|pull|verify|rm`

use std::process::ExitCode;

use quarry_models::{Against, Registry, State};

use crate::cli::ModelsCommand;
use crate::config::Environment;
use crate::progress::PullProgress;

/// Runs one of them.
pub fn run(command: ModelsCommand, environment: &Environment) -> anyhow::Result<ExitCode> {
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
