//! A tokenizer from the hub's files: `tokenizer.json` for vocabulary and merges, the folder's configurations for which
//! tokens begin a text and end an answer.

use quarry_core::ids::TokenId;
use quarry_formats::hub::HubFolder;
use serde_json::Value;

use crate::TextError;
use crate::tokenizer::{Kind, Parts, Pre, QWEN2_SPLIT, SUPPORTED_PRE, Tokenizer};

/// Ids that no list names, at most: more is no vocabulary but a way to fill memory.
const GAPS_MAX: usize = 4096;
/// The embedding, whose rows are the ids that the model knows; the second in models without a head.
const EMBEDDINGS: [&str; 2] = ["model.embed_tokens.weight", "embed_tokens.weight"];

fn broken(what: impl std::fmt::Display) -> TextError {
    TextError::Tokenizer(format!("tokenizer.json: {what}"))
}

impl Tokenizer {
    /// From a `tokenizer.json` of the hub's `tokenizers` format, byte-level BPE only.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`] says what is missing, [`TextError::UnknownTokenizer`] which splitting is not supported.
    pub fn from_json_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        Self::build(parts(bytes)?)
    }

    /// From a hub folder. Ids up to the embedding's rows that have no token mean nothing.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_json_bytes`], and a vocabulary larger than the embedding.
    pub fn from_hub(folder: &HubFolder) -> Result<Self, TextError> {
        let mut parts = parts(folder.tokenizer())?;
        if let Some((embedding, _)) = EMBEDDINGS.into_iter().find_map(|name| folder.tensor(name)) {
            let rows = embedding.shape.first().copied().unwrap_or(0);
            if parts.tokens.len() > rows {
                return Err(broken(format!(
                    "{} tokens, but the embedding has {rows} rows",
                    parts.tokens.len()
                )));
            }
            parts.tokens.resize(rows, String::new());
            parts.kinds.resize(rows, Kind::Unused);
        }
        let config = folder.tokenizer_config();
        parts.eos = spelled(&config["eos_token"], &parts.tokens);
        parts.bos = spelled(&config["bos_token"], &parts.tokens);
        parts.add_bos = config["add_bos_token"] == true;
        let known = |id: &TokenId| (*id as usize) < parts.tokens.len();
        let ends = [folder.generation_config(), folder.config()].map(|config| ids(&config["eos_token_id"]));
        parts.ends = ends.into_iter().flatten().filter(known).collect();
        Self::build(parts)
    }
}

/// A token by its spelling, which is text or an object's `content`.
fn spelled(value: &Value, tokens: &[String]) -> Option<TokenId> {
    let text = value.as_str().or_else(|| value["content"].as_str())?;
    // Special tokens are the last ones.
    tokens.iter().rposition(|token| token == text).map(|id| id as TokenId)
}

/// An id, or a list of ids.
fn ids(value: &Value) -> Vec<TokenId> {
    let id = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

fn parts(bytes: &[u8]) -> Result<Parts, TextError> {
    let json: Value = serde_json::from_slice(bytes).map_err(broken)?;
    let model = &json["model"];
    let vocab = model["vocab"].as_object().ok_or_else(|| broken("model.vocab is missing"))?;
    let id_of = |value: &Value| {
        let id = value.as_u64().and_then(|id| usize::try_from(id).ok());
        // So that one more is a number too.
        id.filter(|&id| id < usize::MAX).ok_or_else(|| broken("a token id is no number"))
    };
    let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let mut size = 0;
    for value in vocab.values().chain(added.iter().map(|token| &token["id"])) {
        size = size.max(id_of(value)? + 1);
    }
    if size > vocab.len() + added.len() + GAPS_MAX {
        return Err(broken("token ids are not dense"));
    }
    let mut tokens = vec![String::new(); size];
    // Ids that neither list names mean nothing.
    let mut kinds = vec![Kind::Unused; size];
    for (text, id) in vocab {
        let id = id_of(id)?;
        tokens[id].clone_from(text);
        kinds[id] = Kind::Text;
    }
    for token in added {
        let id = id_of(&token["id"])?;
        let text = token["content"].as_str().ok_or_else(|| broken("an added token has no content"))?;
        tokens[id] = text.to_owned();
        kinds[id] = if token["special"] == true { Kind::Control } else { Kind::Marked };
    }
    let merge = |m: &Value| match m {
        Value::String(m) => m.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        m => Some((m[0].as_str()?.to_owned(), m[1].as_str()?.to_owned())),
    };
    let merges = model["merges"].as_array().ok_or_else(|| broken("model.merges is missing"))?;
    let merges: Option<Vec<_>> = merges.iter().map(merge).collect();
    let merges = merges.ok_or_else(|| broken("a merge is not two parts"))?;
    let pre =
        pre(&json["pre_tokenizer"], &json["normalizer"]).ok_or_else(|| TextError::UnknownTokenizer {
            model: model["type"].as_str().unwrap_or("?").to_owned(),
            pre: format!("{}, then {}", json["normalizer"], json["pre_tokenizer"])
                .chars()
                .take(300)
                .collect(),
            supported: SUPPORTED_PRE,
        })?;
    Ok(Parts { tokens, merges, kinds, pre, eos: None, ends: Vec::new(), bos: None, add_bos: false })
}

/// How text is normalized and split before merging; `None` where it is not one of the ways that are known to the letter.
fn pre(value: &Value, normalizer: &Value) -> Option<Pre> {
    let steps = match value["type"].as_str()? {
        "Sequence" => value["pretokenizers"].as_array()?.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let kinds: Option<Vec<&str>> = steps.iter().map(|step| step["type"].as_str()).collect();
    match kinds?.as_slice() {
        ["Split", "ByteLevel"] => {
            let is_qwen2 = steps[0]["pattern"]["Regex"] == QWEN2_SPLIT;
            (is_qwen2 && normalizer["type"] == "NFC").then_some(Pre::Qwen2)
        }
        _ if !normalizer.is_null() => None,
        ["ByteLevel"] => Some(Pre::Gpt2 { digits: false }),
        ["Digits", "ByteLevel"] => Some(Pre::Gpt2 { digits: true }),
        _ => None,
    }
}
