//! The configuration's JSON schema, made from the structs, and what is made from it: the commented example and the
//! reference page. A key's meaning is its doc comment and its default is the code's, so neither can go stale.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::config::Config;

/// Columns of a comment line.
const WIDTH: usize = 110;

/// The JSON schema (draft 2020-12), without references.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// A key and what stands below it.
struct Key<'a> {
    name: &'a str,
    description: String,
    schema: &'a Value,
    default: Option<&'a Value>,
}

/// The keys of an object's schema in the code's order; defaults come from `defaults`, the whole configuration's part.
fn keys<'a>(schema: &'a Value, defaults: Option<&'a Value>) -> Vec<Key<'a>> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let one = |(name, schema): (&'a String, &'a Value)| Key {
        name,
        description: description(schema),
        schema,
        default: defaults.and_then(|defaults| defaults.get(name)),
    };
    properties.into_iter().flatten().map(one).collect()
}

fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_section(key: &Key<'_>) -> bool {
    key.schema.get("properties").is_some() && key.default.is_some_and(Value::is_object)
}

/// A file with all defaults; keys that have none are there as comments, so that it can be edited rather than looked
/// up.
pub fn example() -> String {
    let schema = document();
    let defaults = defaults();
    let mut out = String::from(
        "# quarry.yaml: every key with its default. Unknown keys are errors. Sizes take units (4GiB, 512MB).\n\
         # QUARRY__SERVER__PORT=9000 in the environment overrides server.port.\n",
    );
    write_example(&keys(&schema, Some(&defaults)), 0, &mut out);
    out
}

fn defaults() -> Value {
    serde_json::to_value(Config::default()).unwrap_or_else(|_| Value::Object(Map::new()))
}

fn write_example(keys: &[Key<'_>], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for key in keys {
        if depth == 0 {
            out.push('\n');
        }
        for line in wrap(&key.description, WIDTH - indent.len()) {
            out.push_str(&format!("{indent}# {line}\n"));
        }
        match key.default {
            Some(default) if is_section(key) => {
                out.push_str(&format!("{indent}{}:\n", key.name));
                write_example(&self::keys(key.schema, Some(default)), depth + 1, out);
            }
            // JSON is YAML.
            Some(default) if !default.is_null() => {
                out.push_str(&format!("{indent}{}: {default}\n", key.name))
            }
            _ => out.push_str(&format!("{indent}# {}:\n", key.name)),
        }
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The page of every key, in Markdown.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         Made by `quarry config reference`; a test compares it with the code.\n\n\
         One file, `quarry.yaml` in the working folder or the one that `--config` names. Every key may be left out. Unknown\n\
         keys are errors that name the line, the column and the nearest valid key. A variable such as\n\
         `QUARRY__SERVER__PORT=9000` overrides `server.port`. Sizes take units (`4GiB`, `512MB`). `quarry config example`\n\
         prints a commented file, `quarry config show` every value in force and where it comes from, `quarry config schema`\n\
         the JSON schema for editors. `OPENAI_API_KEY` fills `cloud.api_key`; `QUARRY_CACHE` moves the models' folder,\n\
         `HF_ENDPOINT` names another model hub.\n",
    );
    let schema = document();
    let defaults = defaults();
    for section in keys(&schema, Some(&defaults)) {
        out.push_str(&format!("\n## {}\n\n{}\n\n", section.name, section.description));
        out.push_str("| key | default | meaning |\n|---|---|---|\n");
        write_rows(&keys(section.schema, section.default), section.name, &mut out);
    }
    out
}

fn write_rows(keys: &[Key<'_>], path: &str, out: &mut String) {
    for key in keys {
        let path = format!("{path}.{}", key.name);
        if is_section(key) {
            write_rows(&self::keys(key.schema, key.default), &path, out);
            continue;
        }
        let default = match key.default {
            None | Some(Value::Null) => "none".to_owned(),
            Some(value) => format!("`{}`", value.to_string().replace("},", "}, ")),
        };
        out.push_str(&format!("| `{path}` | {default} | {} |\n", key.description.replace('|', "\\|")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_says_what_it_means() {
        fn check(keys: &[Key<'_>]) {
            for key in keys {
                assert!(!key.description.is_empty(), "{} has no doc comment", key.name);
                if is_section(key) {
                    check(&self::keys(key.schema, key.default));
                }
            }
        }
        let (schema, defaults) = (document(), defaults());
        check(&keys(&schema, Some(&defaults)));
    }

    #[test]
    fn the_committed_page_is_what_the_code_says() {
        let committed = include_str!("../../docs/CONFIG.md");
        assert!(committed == reference(), "stale; run: quarry config reference > docs/CONFIG.md");
    }

    #[test]
    fn defaults_validate_against_types() {
        let schema = document();
        let port = &schema["properties"]["server"]["properties"]["port"];
        assert_eq!(port["maximum"], 65535);
        assert_eq!(schema["additionalProperties"], false);
    }
}
