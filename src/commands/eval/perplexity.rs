//! `quarry eval perplexity`

use std::process::ExitCode;

use anyhow::Context as _;
use quarry_bench::perplexity;
use quarry_model::backend::Backend;
use quarry_text::tokenizer::{Specials, Tokenizer};

use crate::cli::PerplexityArgs;
use crate::commands::bench::write_json;
use crate::config::{Config, Environment};
use crate::host::{cpu, open_model};

/// Bytes of a text at most.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Scores the text, prints the figures.
pub fn run(args: PerplexityArgs, config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let files = open_model(Some(&args.model), config, environment)?;
    let tokenizer = Tokenizer::open(files.weights.file())?;
    let text = match &args.text {
        Some(path) => {
            let name = || path.display().to_string();
            let bytes = std::fs::metadata(path).with_context(name)?.len();
            anyhow::ensure!(bytes <= TEXT_BYTES_MAX, "{}: more than {TEXT_BYTES_MAX} bytes", name());
            std::fs::read_to_string(path).with_context(name)?
        }
        None => perplexity::TEXT.to_owned(),
    };
    let mut tokens = tokenizer.encode(&text, Specials::Literal);
    tokens.truncate(args.tokens);
    let (mut backend, _) = cpu(args.backend, config)?;
    let mut reference = reference();
    let mut tenth = 0;
    let report = perplexity::run(
        &files,
        &mut backend,
        reference.as_mut().map(|backend| &mut **backend as &mut dyn Backend),
        &tokens,
        tokenizer.bos_to_add(),
        args.context.min(files.spec.context_tokens_max),
        &mut |done, total| {
            let now = done * 10 / total.max(1);
            if now > tenth {
                tenth = now;
                eprintln!("{done} of {total} tokens");
            }
        },
    )?;
    print!("{}", perplexity::text(&report));
    if reference.is_none() {
        eprintln!(
            "for the comparison with the reference: cargo run --release --features reference -- eval perplexity …"
        );
    }
    write_json(args.out.as_deref(), &report)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "reference")]
fn reference() -> Option<Box<dyn Backend>> {
    Some(Box::new(quarry_reference::ReferenceBackend))
}

/// Not built in: it is an oracle for developers, and its tensor library takes minutes to build.
#[cfg(not(feature = "reference"))]
fn reference() -> Option<Box<dyn Backend>> {
    None
}
