//! Tokenizer, detokenizer, chat templates and output constraints.
