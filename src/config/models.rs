//! Which models are served: by name, file or folder.

use quarry_runtime::Yarn;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which models play which part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    /// Answers where a request names no other.
    pub primary: ModelChoice,
    /// Served as well, if set; requests may name it `thinking`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<ModelChoice>,
    /// Served as well, if set; requests may name it `maximum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<ModelChoice>,
    /// Served as well, if set; requests may name it `fast`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast: Option<ModelChoice>,
}

/// A model by name, a GGUF file, or a folder of the model hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelChoice {
    /// A name that `quarry models list` shows (with or without its quantization), a repository of the model hub such as
    /// `Qwen/Qwen3-8B`, or a path: a GGUF file, or a folder with `config.json` and safetensors.
    pub name: String,
    /// Chooses among a name's quantizations: `q4_k_m`, `awq-4bit`, `bf16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Extends the context of a model that its own files do not extend: `type` is `yarn`, `factor` how many times
    /// `original_context` (the model's own bound where it is absent) the context becomes. What the KV cache cannot hold is
    /// cut off, and the log says so at start. Qwen3: `{type: yarn, factor: 4, original_context: 32768}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScalingChoice>,
}

/// How a model's context is extended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RopeScalingChoice {
    /// `yarn`.
    #[serde(rename = "type")]
    pub kind: RopeScalingKind,
    /// The context becomes so many times the original one. Qwen3: 4 times 32768. It costs a little on short texts.
    pub factor: f32,
    /// Positions before extension; absent takes the model's own bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_context: Option<usize>,
}

/// A method of context extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RopeScalingKind {
    /// YaRN (arXiv:2309.00071).
    Yarn,
}

impl RopeScalingChoice {
    /// For the engine.
    pub fn yarn(self) -> Yarn {
        let RopeScalingKind::Yarn = self.kind;
        Yarn { factor: self.factor, original_context: self.original_context }
    }
}

impl Default for ModelsConfig {
    fn default() -> Self {
        let primary = ModelChoice::named("qwen2.5-coder-0.5b-instruct", Some("q4_k_m"));
        Self { primary, thinking: None, maximum: None, fast: None }
    }
}

impl ModelChoice {
    /// A model without further wishes.
    pub fn named(name: &str, quantization: Option<&str>) -> Self {
        Self { name: name.to_owned(), quantization: quantization.map(str::to_owned), rope_scaling: None }
    }
}
