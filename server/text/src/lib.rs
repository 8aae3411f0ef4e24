//! Text and tokens: tokenizer, incremental detokenizer, stop strings, chat templates, output constraints.
//!
//! One [`TextModel`] per model file holds what belongs to its vocabulary. Everything per request (detokenizer,
//! stop matcher, constraint) is made from it and owned by the request.
#![forbid(unsafe_code)]

pub mod byte_level;
pub mod chat;
pub mod constraint;
pub mod detokenizer;
pub mod prompt;
pub mod stop;
pub mod tokenizer;
mod tokenizer_json;

use std::sync::Arc;

use quarry_formats::gguf::GgufFile;
use quarry_formats::{FormatError, ModelFile};

use crate::chat::ChatTemplate;
use crate::constraint::ConstraintFactory;
use crate::tokenizer::Tokenizer;

/// What is wrong with a model's text side.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TextError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(
        "tokenizer {model:?} with pre-tokenizer {pre:?} is not supported; supported are gpt2 with {supported}"
    )]
    UnknownTokenizer { model: String, pre: String, supported: &'static str },
    #[error("token {id} {text:?} is not byte-level text")]
    NotByteLevel { id: usize, text: String },
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    #[error("chat template: {0}")]
    Template(String),
    #[error("the constraint engine: {0}")]
    Constraint(String),
}

/// A model's text side.
pub struct TextModel {
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Messages to text; `None` where the file holds no template.
    pub template: Option<ChatTemplate>,
    /// Schemas to masks.
    pub constraints: ConstraintFactory,
}

impl TextModel {
    /// From a model's file or folder.
    ///
    /// # Errors
    /// [`TextError`] names the key, token or file.
    pub fn open(file: &ModelFile) -> Result<Self, TextError> {
        let template = match file {
            ModelFile::Gguf(file) => file.metadata_str("tokenizer.chat_template").ok(),
            ModelFile::Hub(folder) => folder.chat_template(),
        };
        Self::new(Tokenizer::open(file)?, template)
    }

    /// From a GGUF file's metadata.
    ///
    /// # Errors
    /// [`TextError`] names the key or token.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TextError> {
        Self::new(Tokenizer::from_gguf(file)?, file.metadata_str("tokenizer.chat_template").ok())
    }

    fn new(tokenizer: Tokenizer, template: Option<&str>) -> Result<Self, TextError> {
        let tokenizer = Arc::new(tokenizer);
        let compiled =
            template.map(|source| ChatTemplate::new(source, tokenizer.bos_text(), tokenizer.eos_text()));
        let constraints = ConstraintFactory::new(tokenizer.clone())?;
        Ok(Self { tokenizer, template: compiled.transpose()?, constraints })
    }
}
