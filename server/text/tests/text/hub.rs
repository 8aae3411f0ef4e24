//! Text from a hub folder's files: the same as from the GGUF file of the same model; files that lie are refused.

use std::fs;

use quarry_formats::ModelFile;
use quarry_text::chat::ChatInput;
use quarry_text::tokenizer::{Specials, Tokenizer};
use quarry_text::{TextError, TextModel};
use quarry_tiny::{HubWeights, IM_END, StoredType, TensorType, TinyModel, VOCAB};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{Draws, golden_file};

/// Mutated files; about a second.
const MUTATIONS: u64 = 4_000;

fn folder(model: TinyModel, shards: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    model.write_hub(dir.path(), HubWeights::Plain(StoredType::F16), shards).unwrap();
    dir
}

fn open(dir: &TempDir) -> Result<TextModel, TextError> {
    TextModel::open(&ModelFile::open(dir.path()).unwrap())
}

/// Changes one of the folder's JSON files.
fn change(dir: &TempDir, file: &str, by: impl FnOnce(&mut Value)) {
    let path = dir.path().join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    by(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_folder_s_text_is_that_of_the_gguf_file() {
    let cases = golden_file("cases.json");
    for model in [TinyModel::qwen3(), TinyModel::llama()] {
        for shards in [1, 2] {
            let dir = folder(model, shards);
            let file = dir.path().join("tiny.gguf");
            model.write(&file, TensorType::F16).unwrap();
            let (expected, found) =
                (TextModel::open(&ModelFile::open(&file).unwrap()).unwrap(), open(&dir).unwrap());
            assert_eq!(found.tokenizer.vocab_size(), VOCAB);
            assert_eq!(found.tokenizer.eos_tokens(), expected.tokenizer.eos_tokens());
            assert_eq!(found.tokenizer.eos_text(), "<|im_end|>");
            assert_eq!(found.tokenizer.bos_to_add(), None);
            for text in cases["strings"].as_array().unwrap() {
                let text = text.as_str().unwrap();
                for specials in [Specials::Parse, Specials::Literal] {
                    let encode = |tokenizer: &Tokenizer| tokenizer.encode(text, specials);
                    assert_eq!(
                        encode(&found.tokenizer),
                        encode(&expected.tokenizer),
                        "{} {text:?}",
                        model.name
                    );
                }
            }
            let messages = [json!({"role": "user", "content": "Hello"})];
            let kwargs = Map::new();
            let input =
                ChatInput { messages: &messages, tools: None, add_generation_prompt: true, kwargs: &kwargs };
            let rendered = found.template.as_ref().unwrap().render(&input).unwrap();
            assert_eq!(rendered, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
            assert_eq!(rendered, expected.template.as_ref().unwrap().render(&input).unwrap());
        }
    }
}

#[test]
fn what_begins_and_ends_is_what_the_configurations_say() {
    let dir = folder(TinyModel::qwen3(), 1);
    change(&dir, "generation_config.json", |c| c["eos_token_id"] = json!(7));
    change(&dir, "config.json", |c| c["eos_token_id"] = json!([8, 1_000_000]));
    change(&dir, "tokenizer_config.json", |c| {
        c["eos_token"] = json!({"content": "</think>"});
        c["bos_token"] = json!("<|im_start|>");
        c["add_bos_token"] = json!(true);
    });
    let text = open(&dir).unwrap();
    let ends = text.tokenizer.eos_tokens();
    assert!([7, 8, IM_END].iter().all(|end| ends.contains(end)) && !ends.contains(&1_000_000), "{ends:?}");
    assert_eq!(
        (text.tokenizer.eos_text(), text.tokenizer.bos_text()),
        ("</think>".into(), "<|im_start|>".into())
    );
    assert!(text.tokenizer.bos_to_add().is_some());
}

#[test]
fn rows_without_a_token_mean_nothing() {
    // A folder whose tokenizer knows fewer tokens than the embedding has rows, as Qwen3's.
    let dir = folder(TinyModel::qwen3(), 1);
    change(&dir, "tokenizer.json", |t| {
        t["added_tokens"].as_array_mut().unwrap().truncate(3);
    });
    let tokenizer = open(&dir).unwrap().tokenizer;
    assert_eq!(tokenizer.vocab_size(), VOCAB);
    let last = VOCAB as u32 - 1;
    assert!(tokenizer.is_hidden(last) && tokenizer.token_bytes(last).is_empty());
}

#[test]
fn tokenizers_that_are_not_known_to_the_letter_are_refused() {
    // llama 3 splits numbers otherwise; all else is the same, so the tokens would be wrong without a word.
    let dir = folder(TinyModel::qwen3(), 1);
    change(&dir, "tokenizer.json", |t| {
        let pattern = &mut t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
        *pattern = pattern.as_str().unwrap().replace(r"\p{N}|", r"\p{N}{1,3}|").into();
    });
    let error = open(&dir).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("not supported") && error.contains("{1,3}"), "{error}");
    let dir = folder(TinyModel::qwen3(), 1);
    change(&dir, "tokenizer.json", |t| t["normalizer"] = json!({"type": "NFKC"}));
    assert!(open(&dir).map(|_| ()).unwrap_err().to_string().contains("NFKC"));
    change(&dir, "tokenizer.json", |t| t["pre_tokenizer"] = Value::Null);
    assert!(matches!(open(&dir), Err(TextError::UnknownTokenizer { .. })));
}

#[test]
fn hostile_tokenizers_are_refused() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 9] = [
        (|t| t["model"]["vocab"]["a"] = json!(u64::MAX), "no number"),
        (|t| t["model"]["vocab"]["a"] = json!(-1), "no number"),
        (|t| t["model"]["vocab"]["a"] = json!(1_u64 << 40), "not dense"),
        (|t| t["model"]["vocab"] = json!([]), "model.vocab is missing"),
        (|t| t["model"]["merges"] = json!(["alone"]), "a merge is not two parts"),
        (|t| t["model"]["merges"] = json!([["one", "two"]]), "tokenizer:"),
        (|t| t["added_tokens"][0] = json!({"content": "x"}), "no number"),
        (|t| t["added_tokens"][0]["content"] = Value::Null, "no content"),
        (|t| t["added_tokens"][0]["id"] = json!(VOCAB), "331 tokens, but the embedding has 330 rows"),
    ];
    for (by, expected) in cases {
        let dir = folder(TinyModel::qwen3(), 1);
        change(&dir, "tokenizer.json", by);
        let error = open(&dir).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
    for bytes in [&b""[..], b"[", b"null", b"[1]", &[b'['; 100_000]] {
        assert!(Tokenizer::from_json_bytes(bytes).is_err());
    }
}

#[test]
fn mutated_tokenizers_are_read_or_refused() {
    let dir = folder(TinyModel::qwen3(), 1);
    let good: Value = serde_json::from_slice(&fs::read(dir.path().join("tokenizer.json")).unwrap()).unwrap();
    // Without line breaks, so that a mutation meets something.
    let good = good.to_string().into_bytes();
    let pieces: [&[u8]; 12] =
        [b"0", b"9", b"-", b"\"", b"[", b"]", b"{", b"}", b",", b"null", b"18446744073709551615", b"\\ud800"];
    let (mut read, mut refused) = (0, 0);
    for seed in 0..MUTATIONS {
        let mut draws = Draws(seed);
        let mut bytes = good.clone();
        for _ in 0..1 + draws.below(3) {
            let at = draws.below(bytes.len());
            match draws.below(4) {
                0 => bytes[at] ^= 1 << draws.below(7),
                1 => drop(bytes.splice(at..at, pieces[draws.below(pieces.len())].iter().copied())),
                2 => {
                    let end = (at + draws.below(40)).min(bytes.len());
                    drop(bytes.splice(at..end, []));
                }
                _ => {
                    let digits = |b: &mut u8| {
                        if b.is_ascii_digit() {
                            *b = b'0' + draws.below(10) as u8
                        }
                    };
                    let end = (at + 30).min(bytes.len());
                    bytes[at..end].iter_mut().for_each(digits);
                }
            }
        }
        match Tokenizer::from_json_bytes(&bytes) {
            Ok(tokenizer) => {
                read += 1;
                let ids = tokenizer.encode("Hello wörld <think> 12", Specials::Parse);
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "seed {seed}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(read > MUTATIONS / 50 && refused > MUTATIONS / 4, "{read} read, {refused} refused");
}
