//! `quarry bench kernels`

use std::process::ExitCode;

use quarry_bench::kernels::{self, KernelPlan};
use quarry_cpu::isa::Isa;
use quarry_cpu::topology;

use super::write_json;
use crate::cli::{BenchKernelsArgs, Isas};
use crate::config::Config;

/// Measures every kernel, prints the table.
pub fn run(args: BenchKernelsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let isas = match args.isa {
        None => vec![Isa::detect()],
        Some(Isas::One(isa)) => vec![isa],
        // The portable product is the naive twin: minutes for what others do in a second, so only when it is named.
        Some(Isas::All) if Isa::detect() == Isa::Portable => vec![Isa::Portable],
        Some(Isas::All) => {
            let all = Isa::ALL.into_iter();
            all.filter(|isa| *isa != Isa::Portable && isa.is_available()).collect()
        }
    };
    // 0 in the configuration is one thread a core.
    let threads = match args.threads.unwrap_or(config.server.threads) {
        0 => topology::threads(),
        threads => threads,
    };
    let plan = KernelPlan {
        isas,
        formats: args.formats,
        shapes: args.shapes,
        rows: args.rows,
        depths: args.depth,
        threads,
        repeats: args.repeats,
        cold_bytes: args.cold.saturating_mul(1 << 20),
    };
    let report = kernels::run(&plan, &mut |what| eprintln!("{what}"))?;
    print!("{}", kernels::table(&report));
    write_json(args.out.as_deref(), &report)?;
    Ok(ExitCode::SUCCESS)
}
