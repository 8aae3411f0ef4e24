//! A folder as the model hub has them: `config.json`, weights as safetensors in one or several files, the tokenizer.
//!
//! ```text
//! config.json                    the architecture                              needed
//! model.safetensors              all weights; or
//! model.safetensors.index.json   weight_map: tensor → file, and those files
//! tokenizer.json                 vocabulary, merges, special tokens            needed
//! tokenizer_config.json          chat template, which token ends a turn
//! chat_template.jinja            the chat template, where it is a file of its own
//! generation_config.json         further tokens that end an answer
//! ```
//! Files are read within bounds ([`limits`]); weights are mapped. Nothing outside the folder's own list is opened.

mod folder;
pub mod limits;
mod shards;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::FormatError;
use crate::safetensors::{SafetensorsFile, StoredTensor};

/// A checked model folder.
pub struct HubFolder {
    /// `config.json`, an object.
    config: Value,
    tokenizer: Vec<u8>,
    tokenizer_config: Value,
    generation_config: Value,
    chat_template: Option<String>,
    shards: Vec<SafetensorsFile>,
    /// Which shard a tensor is in.
    by_name: HashMap<String, usize>,
}

impl HubFolder {
    /// Reads and checks a folder; its weight files are mapped, with what [`crate::gguf::GgufFile::open`] says of files
    /// that change meanwhile.
    ///
    /// # Errors
    /// [`FormatError::Folder`] for a file that is missing or does not fit the others, [`FormatError::Content`] for one
    /// that is bad in itself.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let config = folder::json(path, "config.json")?
            .ok_or_else(|| folder::problem(path, "config.json is missing".to_owned()))?;
        let (shards, by_name) = shards::open(path)?;
        let tokenizer = folder::bytes(path, "tokenizer.json", limits::TOKENIZER_BYTES_MAX)?
            .ok_or_else(|| folder::problem(path, "tokenizer.json is missing".to_owned()))?;
        Ok(Self {
            config,
            tokenizer,
            tokenizer_config: folder::json(path, "tokenizer_config.json")?.unwrap_or_default(),
            generation_config: folder::json(path, "generation_config.json")?.unwrap_or_default(),
            chat_template: folder::text(path, "chat_template.jinja", limits::TEMPLATE_BYTES_MAX)?,
            shards,
            by_name,
        })
    }

    /// `config.json`: an object.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The bytes of `tokenizer.json`.
    pub fn tokenizer(&self) -> &[u8] {
        &self.tokenizer
    }

    /// `tokenizer_config.json`; null where there is none.
    pub fn tokenizer_config(&self) -> &Value {
        &self.tokenizer_config
    }

    /// `generation_config.json`; null where there is none.
    pub fn generation_config(&self) -> &Value {
        &self.generation_config
    }

    /// The chat template: its own file, else the tokenizer's configuration; `None` where neither has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref().or_else(|| match self.tokenizer_config.get("chat_template")? {
            Value::String(one) => Some(one),
            // Several by name: the one called `default`.
            Value::Array(named) => {
                named.iter().find(|entry| entry["name"] == "default")?.get("template")?.as_str()
            }
            _ => None,
        })
    }

    /// All tensors of all weight files.
    pub fn tensors(&self) -> impl Iterator<Item = &StoredTensor> {
        self.shards.iter().flat_map(SafetensorsFile::tensors)
    }

    /// A tensor's description and bytes.
    pub fn tensor(&self, name: &str) -> Option<(&StoredTensor, &[u8])> {
        self.shards[*self.by_name.get(name)?].tensor(name)
    }

    /// Lets a tensor's memory go until it is read again.
    pub fn release(&self, name: &str) {
        if let Some(&shard) = self.by_name.get(name) {
            self.shards[shard].release(name);
        }
    }
}

impl std::fmt::Debug for HubFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubFolder")
            .field("shards", &self.shards.len())
            .field("tensors", &self.by_name.len())
            .finish_non_exhaustive()
    }
}
