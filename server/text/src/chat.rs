//! Chat templates as the hub's models carry them: Jinja with the functions transformers gives them.

use std::fmt::Write as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde_json::Map;

use crate::TextError;

/// Bytes of a template at most.
pub const TEMPLATE_BYTES_MAX: usize = 1 << 20;
/// Instructions one rendering may take; the longest real conversations take some thousands.
const FUEL: u64 = 20_000_000;

/// A compiled template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    source: String,
}

/// What is rendered.
#[derive(Clone, Copy, Debug)]
pub struct ChatInput<'a> {
    /// Messages as in the request.
    pub messages: &'a [serde_json::Value],
    /// Tools as in the request.
    pub tools: Option<&'a [serde_json::Value]>,
    /// End with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Further variables (`enable_thinking`, …).
    pub kwargs: &'a Map<String, serde_json::Value>,
}

impl ChatTemplate {
    /// Compiles.
    ///
    /// # Errors
    /// [`TextError::Template`] with the template engine's words.
    pub fn new(source: &str, bos: String, eos: String) -> Result<Self, TextError> {
        if source.len() > TEMPLATE_BYTES_MAX {
            let len = source.len();
            return Err(TextError::Template(format!(
                "{len} bytes, at most {TEMPLATE_BYTES_MAX} are accepted"
            )));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| TextError::Template(format!("{error:#}")))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|error| TextError::Template(format!("{error:#}")))?;
        Ok(Self { environment, bos, eos, source: source.to_owned() })
    }

    /// The prompt's text.
    ///
    /// # Errors
    /// [`TextError::Template`], also where the template itself refuses the messages.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, TextError> {
        let broken = |error: Error| TextError::Template(format!("{error:#}"));
        let mut context = Map::new();
        for (key, value) in input.kwargs {
            context.insert(key.clone(), value.clone());
        }
        context.insert("messages".into(), input.messages.into());
        if let Some(tools) = input.tools {
            context.insert("tools".into(), tools.into());
        }
        context.insert("add_generation_prompt".into(), input.add_generation_prompt.into());
        context.insert("bos_token".into(), self.bos.clone().into());
        context.insert("eos_token".into(), self.eos.clone().into());
        let template = self.environment.get_template("chat").map_err(broken)?;
        template.render(Value::from(Serde(&context))).map_err(broken)
    }

    /// Whether the model may think before it answers.
    pub fn thinks(&self) -> bool {
        self.source.contains("<think>")
    }
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=…)`, which is what transformers gives templates; the
/// template engine's own filter escapes for HTML.
fn to_json(value: Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let _: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let json = serde_json::to_value(&value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut out = String::new();
    dump(&json, indent, 0, &mut out);
    Ok(out)
}

fn dump(value: &serde_json::Value, indent: Option<usize>, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value {
        serde_json::Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(out, depth + 1);
                dump(item, indent, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        serde_json::Value::Object(fields) if !fields.is_empty() => {
            out.push('{');
            for (i, (key, item)) in fields.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(out, depth + 1);
                let _ = write!(out, "{}: ", serde_json::Value::from(key.as_str()));
                dump(item, indent, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        serde_json::Value::Number(number) if number.is_f64() => {
            out.push_str(&python_float(number.as_f64().unwrap_or_default()));
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// Python's `repr` of a float: the shortest digits that read back, in scientific form outside 1e-4 .. 1e16.
fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        if plain.contains('.') { plain } else { plain + ".0" }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}
