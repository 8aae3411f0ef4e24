//! `quarry bench clean`

use std::process::ExitCode;

use quarry_bench::clean;

use crate::cli::BenchCleanArgs;

/// Cleans a folder's pages on this thread, prints the table.
pub fn run(args: &BenchCleanArgs) -> anyhow::Result<ExitCode> {
    let job = clean::Job::read(&args.corpus)?;
    let mut measured = vec![job.measure(args.repeats)];
    for (name, file) in &args.beside {
        measured.push(job.beside(name, file)?);
    }
    print!("{}", clean::table(&measured));
    super::write_json(args.out.as_deref(), &measured)?;
    Ok(ExitCode::SUCCESS)
}
