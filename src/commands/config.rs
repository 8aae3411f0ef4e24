//! `quarry config check|show|example`

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::ConfigCommand;
use crate::config::{self, Config, Environment, Origin, origins};

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
        ConfigCommand::Example => print!("{}", example()),
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

/// A file with all defaults; every key is there, so that it can be edited rather than looked up.
pub fn example() -> String {
    let defaults = serde_json::to_value(Config::default()).unwrap_or(Value::Null);
    let mut out = String::from(
        "# quarry.yaml: every key with its default. Unknown keys are errors. Sizes take units (4GiB, 512MB).\n\
         # QUARRY__SERVER__PORT=9000 in the environment overrides server.port. What each key means: docs/CONFIG.md.\n",
    );
    write_yaml(&defaults, 0, &mut out);
    out
}

/// Block style, keys in the order of the code. JSON scalars are YAML scalars.
fn write_yaml(value: &Value, depth: usize, out: &mut String) {
    let Value::Object(fields) = value else { return };
    for (key, value) in fields {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                if depth == 0 {
                    out.push('\n');
                }
                out.push_str(&format!("{indent}{key}:\n"));
                write_yaml(value, depth + 1, out);
            }
            leaf => out.push_str(&format!("{indent}{key}: {leaf}\n")),
        }
    }
}
