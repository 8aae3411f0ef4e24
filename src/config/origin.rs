//! Where each value comes from.

use serde_json::Value;

/// A value's source, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    Environment,
}

/// Every leaf of `config` as `(dotted key, value, origin)`.
pub fn origins(
    config: &Value,
    file: &Value,
    overrides: &[(Vec<String>, String)],
) -> Vec<(String, Value, Origin)> {
    let mut out = Vec::new();
    let mut stack = vec![(String::new(), config, Some(file))];
    while let Some((path, value, in_file)) = stack.pop() {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (key, value) in fields.iter().rev() {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    stack.push((path, value, in_file.and_then(|f| f.get(key))));
                }
            }
            leaf => {
                let overridden = overrides.iter().any(|(keys, _)| path.starts_with(&keys.join(".")));
                let origin = match (overridden, in_file) {
                    (true, _) => Origin::Environment,
                    (false, Some(_)) => Origin::File,
                    (false, None) => Origin::Default,
                };
                out.push((path, leaf.clone(), origin));
            }
        }
    }
    out
}
