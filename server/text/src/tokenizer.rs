//! Byte-level BPE, from GGUF metadata here or a `tokenizer.json` (`tokenizer_json.rs`).
//!
//! Special tokens are found here, before the BPE sees the text, so that a caller chooses whether their spelling in
//! the text means the token ([`Specials::Parse`]) or its letters ([`Specials::Literal`]).

use std::collections::HashMap;

use quarry_core::ids::TokenId;
use quarry_formats::ModelFile;
use quarry_formats::gguf::{GgufFile, Value};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::{TextError, byte_level};

/// Whether the spelling of a special token in the text is the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// It is: for rendered templates.
    Parse,
    /// It is not: for text of others.
    Literal,
}

/// Split pattern of Qwen2, Qwen2.5 and Qwen3 (source: their tokenizer.json).
pub(crate) const QWEN2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Pre-tokenizers by their GGUF names.
pub(crate) const SUPPORTED_PRE: &str = "qwen2, smollm, gpt-2, default";
/// Texts that mark an end token in the families we run.
const END_TEXTS: [&str; 5] = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<|end|>"];
/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text of the model's own.
    Text,
    /// Steers the conversation (`<|im_end|>`) and is never shown.
    Control,
    /// Spelled in one token and shown as it is spelled (`<think>`, `<tool_call>`).
    Marked,
    /// Fills the table up; means nothing.
    Unused,
}

impl Kind {
    /// By the token types of GGUF files.
    fn of_gguf(kind: i64) -> Self {
        match kind {
            3 => Self::Control,
            4 => Self::Marked,
            5 => Self::Unused,
            _ => Self::Text,
        }
    }
}

/// A model's vocabulary.
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    /// Bytes of each token; a special token's are its spelling.
    bytes: Vec<Vec<u8>>,
    kinds: Vec<Kind>,
    /// Special spellings by first byte, longest first.
    by_first: HashMap<u8, Vec<(String, TokenId)>>,
    eos: Vec<TokenId>,
    bos: Option<TokenId>,
    eos_first: Option<TokenId>,
    add_bos: bool,
}

/// What both sources give.
pub(crate) struct Parts {
    pub tokens: Vec<String>,
    pub merges: Vec<(String, String)>,
    pub kinds: Vec<Kind>,
    pub pre: Pre,
    pub eos: Option<TokenId>,
    /// Further tokens that end an answer.
    pub ends: Vec<TokenId>,
    pub bos: Option<TokenId>,
    pub add_bos: bool,
}

pub(crate) enum Pre {
    Qwen2,
    Gpt2 { digits: bool },
}

impl Tokenizer {
    /// From a model's file or folder.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_gguf`] and [`Tokenizer::from_hub`].
    pub fn open(file: &ModelFile) -> Result<Self, TextError> {
        match file {
            ModelFile::Gguf(file) => Self::from_gguf(file),
            ModelFile::Hub(folder) => Self::from_hub(folder),
        }
    }

    /// From the `tokenizer.ggml.*` keys.
    ///
    /// # Errors
    /// [`TextError::UnknownTokenizer`] for other tokenizer models, [`TextError::Format`] for missing keys.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TextError> {
        let model = file.metadata_str("tokenizer.ggml.model")?;
        let pre_name = file.metadata_str("tokenizer.ggml.pre").unwrap_or("default");
        let pre = match (model, pre_name) {
            ("gpt2", "qwen2") => Pre::Qwen2,
            ("gpt2", "smollm") => Pre::Gpt2 { digits: true },
            ("gpt2", "gpt-2" | "default") => Pre::Gpt2 { digits: false },
            _ => {
                return Err(TextError::UnknownTokenizer {
                    model: model.to_owned(),
                    pre: pre_name.to_owned(),
                    supported: SUPPORTED_PRE,
                });
            }
        };
        let tokens = file.metadata_strings("tokenizer.ggml.tokens")?.to_vec();
        let split = |merge: &String| {
            // A space stands between the parts; the parts themselves hold none (it is spelled otherwise).
            merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()))
        };
        let merges: Option<Vec<_>> =
            file.metadata_strings("tokenizer.ggml.merges")?.iter().map(split).collect();
        let merges = merges.ok_or_else(|| TextError::Tokenizer("a merge is not two parts".into()))?;
        let types = match file.metadata().get("tokenizer.ggml.token_type") {
            Some(Value::I64Array(types)) => types.clone(),
            Some(Value::U64Array(types)) => types.iter().map(|&t| t as i64).collect(),
            _ => Vec::new(),
        };
        let kind = |id: usize| types.get(id).map_or(Kind::Text, |&kind| Kind::of_gguf(kind));
        let id_at = |key: &str| file.metadata_usize(key).ok().map(|id| id as TokenId);
        let kinds = (0..tokens.len()).map(kind).collect();
        Self::build(Parts {
            tokens,
            merges,
            kinds,
            pre,
            eos: id_at("tokenizer.ggml.eos_token_id"),
            ends: Vec::new(),
            bos: id_at("tokenizer.ggml.bos_token_id"),
            add_bos: matches!(file.metadata().get("tokenizer.ggml.add_bos_token"), Some(Value::Bool(true))),
        })
    }

    pub(crate) fn build(parts: Parts) -> Result<Self, TextError> {
        let Parts { tokens, merges, kinds, pre, eos, mut ends, bos, add_bos } = parts;
        let broken = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
        let inverse = byte_level::inverse();
        let mut bytes = Vec::with_capacity(tokens.len());
        for (id, text) in tokens.iter().enumerate() {
            bytes.push(match kinds[id] {
                Kind::Text => byte_level::bytes_of(text, &inverse)
                    .ok_or_else(|| TextError::NotByteLevel { id, text: text.clone() })?,
                Kind::Control | Kind::Marked | Kind::Unused => text.as_bytes().to_vec(),
            });
        }
        let mut by_first: HashMap<u8, Vec<(String, TokenId)>> = HashMap::new();
        let is_spelled = |id: usize| matches!(kinds[id], Kind::Control | Kind::Marked);
        for (id, text) in tokens.iter().enumerate().filter(|(id, text)| is_spelled(*id) && !text.is_empty()) {
            by_first.entry(text.as_bytes()[0]).or_default().push((text.clone(), id as TokenId));
        }
        for spellings in by_first.values_mut() {
            spellings.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        ends.extend(eos);
        for end in END_TEXTS {
            let found = by_first.get(&end.as_bytes()[0]).and_then(|s| s.iter().find(|(text, _)| text == end));
            ends.extend(found.map(|(_, id)| *id));
        }
        ends.sort_unstable();
        ends.dedup();
        let plain = tokens.iter().enumerate().filter(|(id, _)| kinds[*id] == Kind::Text);
        let vocab: tokenizers::models::bpe::Vocab = plain.map(|(id, t)| (t.clone(), id as u32)).collect();
        let model = BPE::builder().vocab_and_merges(vocab, merges).build().map_err(broken)?;
        let mut bpe = tokenizers::Tokenizer::new(model);
        match pre {
            Pre::Qwen2 => {
                let pattern = SplitPattern::Regex(QWEN2_SPLIT.into());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(broken)?;
                let bytes = ByteLevel::new(false, false, false);
                let both: Vec<PreTokenizerWrapper> = vec![split.into(), bytes.into()];
                bpe.with_pre_tokenizer(Some(Sequence::new(both)));
                bpe.with_normalizer(Some(NFC)).map_err(broken)?;
            }
            Pre::Gpt2 { digits } => {
                let mut all: Vec<PreTokenizerWrapper> = Vec::new();
                if digits {
                    all.push(Digits::new(true).into());
                }
                all.push(ByteLevel::new(false, false, true).into());
                bpe.with_pre_tokenizer(Some(Sequence::new(all)));
            }
        }
        let eos_first = eos.or_else(|| ends.first().copied());
        Ok(Self { bpe, bytes, kinds, by_first, eos: ends, bos, eos_first, add_bos })
    }

    /// Text to tokens. Never fails: byte-level BPE knows every byte.
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<TokenId> {
        let mut out = Vec::new();
        match specials {
            Specials::Literal => self.encode_plain(text, &mut out),
            Specials::Parse => self.encode_marked(text, None, &mut out),
        }
        out
    }

    /// Like [`Specials::Parse`], but `mark`, which is no part of the text, says that no special token begins at
    /// the character after it.
    pub(crate) fn encode_marked(&self, text: &str, mark: Option<char>, out: &mut Vec<TokenId>) {
        let mut plain = String::new();
        let mut at = 0;
        while let Some(next) = text[at..].chars().next() {
            let is_literal = Some(next) == mark;
            if is_literal {
                at += next.len_utf8();
            } else if let Some((spelling, id)) = self.special_at(&text[at..]) {
                self.encode_plain(&plain, out);
                plain.clear();
                out.push(id);
                at += spelling.len();
                continue;
            }
            if let Some(next) = text[at..].chars().next() {
                plain.push(next);
                at += next.len_utf8();
            }
        }
        self.encode_plain(&plain, out);
    }

    /// The longest special token that the text begins with.
    fn special_at(&self, text: &str) -> Option<(&str, TokenId)> {
        let spellings = self.by_first.get(text.as_bytes().first()?)?;
        let (spelling, id) = spellings.iter().find(|(spelling, _)| text.starts_with(spelling.as_str()))?;
        Some((spelling, *id))
    }

    /// Whether the text begins with the spelling of a special token; with `control_only`, of one that steers the
    /// conversation.
    pub(crate) fn begins_special(&self, text: &str, control_only: bool) -> bool {
        self.special_at(text).is_some_and(|(_, id)| !control_only || self.kinds[id as usize] == Kind::Control)
    }

    fn encode_plain(&self, text: &str, out: &mut Vec<TokenId>) {
        if text.is_empty() {
            return;
        }
        match self.bpe.encode_fast(text, false) {
            Ok(encoding) => out.extend_from_slice(encoding.get_ids()),
            Err(error) => {
                // Not reachable for byte-level BPE whose alphabet is complete; single bytes still say the same.
                debug_assert!(false, "encode: {error}");
                out.extend(
                    text.bytes()
                        .filter_map(|b| self.bytes.iter().position(|t| t[..] == [b]))
                        .map(|id| id as TokenId),
                );
            }
        }
    }

    /// Tokens to text; bytes that are no UTF-8 become U+FFFD, ids out of range nothing. `skip_special` leaves hidden
    /// tokens out.
    pub fn decode(&self, tokens: &[TokenId], skip_special: bool) -> String {
        let shown = tokens.iter().filter(|&&id| !(skip_special && self.is_hidden(id)));
        let bytes: Vec<u8> = shown.flat_map(|&id| self.token_bytes(id).iter().copied()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A token's bytes; a special token's are its spelling; empty for ids out of range.
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether a token is no text of the model's own.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.kinds.get(id as usize).is_some_and(|&kind| kind != Kind::Text)
    }

    /// Whether a token is never shown to who reads the answer.
    pub fn is_hidden(&self, id: TokenId) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| matches!(kind, Kind::Control | Kind::Unused))
    }

    /// Entries of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }

    /// Every token that ends an answer.
    pub fn eos_tokens(&self) -> &[TokenId] {
        &self.eos
    }

    /// The token that begins a text, where the file asks for one.
    pub fn bos_to_add(&self) -> Option<TokenId> {
        self.bos.filter(|_| self.add_bos)
    }

    /// Spelling of the beginning token, for templates.
    pub fn bos_text(&self) -> String {
        self.bos.map_or_else(String::new, |id| self.decode(&[id], false))
    }

    /// Spelling of the end token, for templates.
    pub fn eos_text(&self) -> String {
        self.eos_first.map_or_else(String::new, |id| self.decode(&[id], false))
    }
}
