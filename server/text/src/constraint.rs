//! Output constraints by llguidance: which tokens may come next, and which must.
//!
//! The token environment splits forced bytes with the model's own tokenizer, so that forced tokens are exactly
//! those the model would have produced, and forcing changes only how many steps an answer takes. A compiled
//! constraint is cached by its source; whitespace between JSON tokens is fixed, so it cannot run away.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use quarry_core::ids::TokenId;
use serde_json::{Value, json};

use crate::TextError;
use crate::tokenizer::{Specials, Tokenizer};

/// Compiled constraints kept, least recently used out first. Each takes some hundred kilobytes.
pub const CACHE_MAX: usize = 64;
/// Bytes of a schema at most.
pub const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Levels of objects and lists in a schema at most. The compiler walks them by recursion, on stacks of 2 MiB.
pub const SCHEMA_DEPTH_MAX: usize = 96;

/// What an answer must satisfy.
#[derive(Clone, Debug, PartialEq)]
pub enum ConstraintSpec {
    /// Any JSON object.
    JsonObject,
    /// JSON that validates.
    JsonSchema(Value),
    /// Text that matches a regular expression.
    Regex(String),
}

/// A constraint that cannot be enforced, or broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The schema or pattern cannot be enforced; the text names the keyword.
    #[error("the schema cannot be enforced: {0}")]
    Unsupported(String),
    /// Too long.
    #[error("the schema has {bytes} bytes, at most {SCHEMA_BYTES_MAX} are accepted")]
    TooLong {
        /// As sent.
        bytes: usize,
    },
    /// Nested too deeply.
    #[error("the schema is nested more than {SCHEMA_DEPTH_MAX} levels deep")]
    TooDeep,
    /// A token the mask did not allow, or a limit of the engine.
    #[error("the constraint broke: {0}")]
    Broken(String),
}

struct Environment {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let literal = |text: &str| {
            let tokens = self.tokenizer.encode(text, Specials::Literal);
            let written = tokens.iter().flat_map(|&token| self.tokenizer.token_bytes(token));
            // Tokenizers that compose characters write something else than was asked for; the schema's spelling counts.
            if written.eq(text.as_bytes()) { tokens } else { self.trie.greedy_tokenize(text.as_bytes()) }
        };
        self.trie.tokenize_with_greedy_fallback(bytes, literal)
    }

    fn tokenize_is_canonical(&self) -> bool {
        true
    }
}

/// Compiles constraints for one vocabulary.
pub struct ConstraintFactory {
    factory: ParserFactory,
    cache: Mutex<Vec<(String, Matcher)>>,
    words: usize,
}

/// A compiled constraint, ready to start.
pub struct CompiledConstraint {
    matcher: Matcher,
    words: usize,
}

/// One answer's constraint.
pub struct Constraint {
    matcher: Matcher,
    words: usize,
}

impl ConstraintFactory {
    /// Builds the trie of the vocabulary.
    ///
    /// # Errors
    /// [`TextError::Constraint`] where the vocabulary has no end token.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, TextError> {
        let vocab = tokenizer.vocab_size();
        let eos = tokenizer.eos_tokens().to_vec();
        let first = *eos.first().ok_or_else(|| TextError::Constraint("no end token".into()))?;
        let words: Vec<Vec<u8>> = (0..vocab as TokenId)
            .map(|id| {
                if tokenizer.is_special(id) {
                    // A marked token is never text: the grammar cannot produce it but by name.
                    let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
                    word.extend_from_slice(tokenizer.token_bytes(id));
                    word
                } else {
                    tokenizer.token_bytes(id).to_vec()
                }
            })
            .collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocab as u32, first), &words).with_eos_tokens(&eos);
        let environment: TokEnv = Arc::new(Environment { tokenizer, trie });
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)
            .map_err(|error| TextError::Constraint(error.to_string()))?;
        factory.quiet();
        Ok(Self { factory, cache: Mutex::default(), words: vocab.div_ceil(32) })
    }

    /// Compiles, or takes from the cache.
    ///
    /// # Errors
    /// [`ConstraintError::Unsupported`] names the keyword that cannot be enforced.
    pub fn compile(&self, spec: &ConstraintSpec) -> Result<CompiledConstraint, ConstraintError> {
        if let ConstraintSpec::JsonSchema(schema) = spec
            && is_deeper(schema, SCHEMA_DEPTH_MAX)
        {
            return Err(ConstraintError::TooDeep);
        }
        let key = match spec {
            ConstraintSpec::JsonObject => "object".to_owned(),
            ConstraintSpec::JsonSchema(schema) => format!("schema {schema}"),
            ConstraintSpec::Regex(pattern) => format!("regex {pattern}"),
        };
        if key.len() > SCHEMA_BYTES_MAX {
            return Err(ConstraintError::TooLong { bytes: key.len() });
        }
        let words = self.words;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = cache.iter().position(|(known, _)| *known == key) {
            let entry = cache.remove(at);
            let matcher = entry.1.deep_clone();
            cache.push(entry);
            return Ok(CompiledConstraint { matcher, words });
        }
        drop(cache);
        let grammar = match spec {
            ConstraintSpec::JsonObject => {
                TopLevelGrammar::from_json_schema(fixed_whitespace(json!({"type": "object"})))
            }
            ConstraintSpec::JsonSchema(schema) => {
                TopLevelGrammar::from_json_schema(fixed_whitespace(schema.clone()))
            }
            ConstraintSpec::Regex(pattern) => TopLevelGrammar::from_regex(pattern),
        };
        let parser = self.factory.create_parser(grammar);
        let unsupported = |error| ConstraintError::Unsupported(words_of(&error));
        let matcher = Matcher::new(Ok(parser.map_err(unsupported)?));
        // What nothing satisfies (a schema that is only itself), and what takes more than the engine's limits, shows
        // at the beginning.
        let mut probe = Constraint { matcher: matcher.deep_clone(), words };
        let mut mask = Vec::new();
        let tried = probe.mask(&mut mask).and_then(|()| probe.forced());
        match tried {
            Ok(_) if mask.iter().any(|&word| word != 0) => {}
            Ok(_) => return Err(ConstraintError::Unsupported("nothing satisfies it".into())),
            Err(ConstraintError::Broken(why)) => return Err(ConstraintError::Unsupported(why)),
            Err(error) => return Err(error),
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_MAX {
            cache.remove(0);
        }
        cache.push((key, matcher.deep_clone()));
        Ok(CompiledConstraint { matcher, words })
    }
}

/// The engine's words in one line, without the dump of its state that may follow them.
fn words_of(error: &impl Display) -> String {
    /// Characters at most.
    const CHARS_MAX: usize = 600;
    let text = format!("{error:#}");
    let words = text.split("<state>").next().unwrap_or_default();
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(CHARS_MAX).collect()
}

/// Whether objects and lists are nested more than so many levels deep. Ends there.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return false,
    };
    levels == 0 || inner.any(|item| is_deeper(item, levels - 1))
}

/// The engine's own options travel in the schema: separators as most models write them, no free whitespace.
fn fixed_whitespace(mut schema: Value) -> Value {
    let options = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    match &mut schema {
        Value::Object(fields) => {
            fields.insert("x-guidance".into(), options);
            schema
        }
        _ => json!({"allOf": [schema], "x-guidance": options}),
    }
}

impl CompiledConstraint {
    /// At the start of an answer.
    pub fn start(self) -> Constraint {
        Constraint { matcher: self.matcher, words: self.words }
    }
}

impl Constraint {
    /// The tokens allowed next, as a bit set of one bit per vocabulary entry; end tokens where the answer may end.
    ///
    /// # Errors
    /// [`ConstraintError::Broken`] when a limit of the constraint engine is met.
    pub fn mask(&mut self, out: &mut Vec<u32>) -> Result<(), ConstraintError> {
        let broken = |error| ConstraintError::Broken(words_of(&error));
        let mask = self.matcher.compute_mask_or_eos().map_err(broken)?;
        self.check()?;
        out.clear();
        out.extend_from_slice(mask.as_slice());
        out.resize(self.words, 0);
        Ok(())
    }

    /// Takes a token that the mask allowed.
    ///
    /// # Errors
    /// [`ConstraintError::Broken`] for another one.
    pub fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        let broken = |error| ConstraintError::Broken(words_of(&error));
        self.matcher.consume_token(token).map_err(broken)
    }

    /// Tokens that must come now, already committed; empty where there is a choice.
    ///
    /// # Errors
    /// [`ConstraintError::Broken`] when a limit of the constraint engine is met.
    pub fn forced(&mut self) -> Result<Vec<TokenId>, ConstraintError> {
        if self.is_complete() {
            return Ok(Vec::new());
        }
        let tokens = self.matcher.consume_ff_tokens();
        self.check()?;
        Ok(tokens)
    }

    /// Whether the token may come next.
    ///
    /// # Errors
    /// [`ConstraintError::Broken`] when a limit of the constraint engine is met.
    pub fn allows(&mut self, token: TokenId) -> Result<bool, ConstraintError> {
        let broken = |error| ConstraintError::Broken(words_of(&error));
        Ok(self.matcher.validate_tokens(&[token]).map_err(broken)? == 1)
    }

    /// Takes back the last `count` tokens that were committed or forced.
    ///
    /// # Errors
    /// [`ConstraintError::Broken`] where there are fewer.
    pub fn roll_back(&mut self, count: usize) -> Result<(), ConstraintError> {
        self.matcher.rollback(count).map_err(|error| ConstraintError::Broken(words_of(&error)))
    }

    /// The mask that allows this token alone.
    pub fn only(&self, token: TokenId, out: &mut Vec<u32>) {
        out.clear();
        out.resize(self.words, 0);
        if let Some(word) = out.get_mut(token as usize / 32) {
            *word = 1 << (token % 32);
        }
    }

    /// Whether the answer is complete and nothing may follow.
    pub fn is_complete(&self) -> bool {
        use StopReason::{EndOfSentence, NoExtension, NoExtensionBias};
        matches!(self.matcher.stop_reason(), NoExtension | NoExtensionBias | EndOfSentence)
    }

    /// That the constraint engine has not given up, which it may do silently: it then says that it has stopped.
    fn check(&self) -> Result<(), ConstraintError> {
        if let Some(error) = self.matcher.get_error() {
            return Err(ConstraintError::Broken(words_of(&error)));
        }
        match self.matcher.stop_reason() {
            StopReason::NotStopped => Ok(()),
            _ if self.is_complete() => Ok(()),
            reason => Err(ConstraintError::Broken(reason.to_string())),
        }
    }
}
