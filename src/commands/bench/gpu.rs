//! `quarry bench gpu`

use std::process::ExitCode;

use crate::cli::BenchGpuArgs;
use crate::config::{Config, Environment};

/// Runs the parts, writes `gpu.json` and pictures, prints a table.
#[cfg(feature = "cuda")]
pub fn run(args: &BenchGpuArgs, config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    use anyhow::Context as _;
    use quarry_bench::gpu::{self, GpuPlan, Parts, ProbePlan};

    use crate::cli::GpuPart;
    use crate::host::open_model;

    let models: anyhow::Result<Vec<_>> =
        args.models.iter().map(|name| open_model(Some(name), config, environment)).collect();
    let runs = |part| args.parts.is_empty() || args.parts.contains(&part);
    let plan = GpuPlan {
        batches: args.batches.clone(),
        contexts: args.contexts.clone(),
        prompts: args.prompts.clone(),
        steps: args.steps,
        repeats: args.repeats,
        probe: ProbePlan {
            device_bytes: args.probe_mib << 20,
            host_bytes: args.probe_mib << 20,
            rounds: 8 * args.probe_mib,
        },
        parts: Parts {
            decode: runs(GpuPart::Decode),
            prefill: runs(GpuPart::Prefill),
            switch: runs(GpuPart::Switch),
            swap: runs(GpuPart::Swap),
        },
    };
    let report = gpu::run(&models?, &plan, &mut |what| eprintln!("{what}"))?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    super::write_json(Some(&args.out.join("gpu.json")), &report)?;
    for (name, picture) in gpu::charts(&report) {
        let path = args.out.join(name);
        std::fs::write(&path, picture).with_context(|| path.display().to_string())?;
    }
    print!("{}", gpu::table(&report));
    Ok(ExitCode::SUCCESS)
}

/// Says that it is not built in.
#[cfg(not(feature = "cuda"))]
pub fn run(_: &BenchGpuArgs, _: &Config, _: &Environment) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this program was built without the CUDA back end: cargo build --release --features cuda")
}
