//! `quarry config check|show|example|schema|reference`

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::ConfigCommand;
use crate::config::{self, Environment, Origin, origins, schema};

/// Runs one of them.
pub fn run(
    command: &ConfigCommand,
    file: Option<&Path>,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { file: named } => {
            config::load(named.as_deref().or(file), environment)?;
            println!("ok");
        }
        ConfigCommand::Show => show(file, environment)?,
        ConfigCommand::Example => print!("{}", schema::example()),
        ConfigCommand::Schema => println!("{:#}", schema::document()),
        ConfigCommand::Reference => print!("{}", schema::reference()),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(file: Option<&Path>, environment: &Environment) -> anyhow::Result<()> {
    let config = config::load(file, environment)?;
    let in_file = match config::read_file(file)? {
        Some((_, text)) => serde_saphyr::from_str(&text).unwrap_or(Value::Null),
        None => Value::Null,
    };
    for (key, value, origin) in origins(&serde_json::to_value(&config)?, &in_file, &environment.overrides()) {
        let origin = match origin {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Environment => "environment",
        };
        println!("{key} = {value}  # {origin}");
    }
    Ok(())
}
