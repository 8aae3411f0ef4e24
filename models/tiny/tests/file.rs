//! The generator against the script that made the golden files, and its files against the reader.

use quarry_formats::gguf::GgufFile;
use quarry_formats::quant::decode;
use quarry_tiny::{TensorType, TinyModel, VOCAB, random};

#[test]
fn prompts_are_those_of_the_golden_files() {
    for model in TinyModel::all() {
        let golden = model.golden();
        assert_eq!(golden.model, model.name);
        for prompt in golden.prompts {
            assert_eq!(prompt.tokens, random::prompt(model.seed, VOCAB, prompt.tokens.len()));
            assert_eq!(prompt.positions.last(), Some(&(prompt.tokens.len() - 1)));
            assert_eq!(prompt.positions.len(), prompt.logits.len());
            assert!(prompt.logits.iter().all(|logits| logits.len() == VOCAB));
        }
    }
}

#[test]
fn files_open_in_every_type() {
    let dir = tempfile::tempdir().expect("a folder");
    for kind in TensorType::ALL {
        let path = dir.path().join("tiny.gguf");
        TinyModel::qwen3().write(&path, kind).expect("writes");
        let file = GgufFile::open(&path).expect("opens");
        let (info, _) = file.tensor("blk.1.ffn_down.weight").expect("is there");
        assert_eq!((info.kind, &info.shape[..]), (kind, &[256, 512][..]));
        assert_eq!(file.metadata_strings("tokenizer.ggml.tokens").expect("is there").len(), VOCAB);
    }
}

#[test]
fn llama_rows_are_permuted_within_heads() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tiny.gguf");
    let model = TinyModel::llama();
    model.write(&path, TensorType::F32).expect("writes");
    let file = GgufFile::open(&path).expect("opens");
    let (info, bytes) = file.tensor("blk.0.attn_q.weight").expect("is there");
    let mut weights = vec![0.0; info.shape.iter().product()];
    decode(info.kind, bytes, &mut weights);
    let half = model.head_dim / 2;
    // Row 1 of the file is the first row of the second half of head 0; head 1 begins where it did.
    for (row, original) in [(0, 0), (1, half), (2, 1), (model.head_dim, model.head_dim)] {
        let expected =
            random::value(model.seed, "blk.0.attn_q.weight", (original * model.hidden) as u64) * 0.125;
        assert_eq!(weights[row * model.hidden], expected, "row {row}");
    }
}
