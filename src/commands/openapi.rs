//! `quarry openapi`

use std::process::ExitCode;

/// Prints the document.
pub fn run() -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(&quarry_openapi::openapi())?);
    Ok(ExitCode::SUCCESS)
}
