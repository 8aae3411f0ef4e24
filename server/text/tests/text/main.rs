//! The text side against its references, and by its invariants.

mod constraint;
mod golden;
mod hub;
mod prompt;
mod streaming;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use quarry_formats::gguf::GgufFile;
use quarry_text::TextModel;
use quarry_text::chat::ChatTemplate;
use quarry_text::constraint::ConstraintFactory;
use quarry_text::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// A model beside its golden file.
pub struct Known {
    pub name: &'static str,
    pub text: TextModel,
    pub golden: Value,
}

pub static QWEN25: LazyLock<Known> = LazyLock::new(|| known("qwen2.5", "qwen2.5-coder-0.5b-instruct-q4_k_m"));
pub static SMOLLM2: LazyLock<Known> = LazyLock::new(|| known("smollm2", "smollm2-135m-instruct-q4_1"));
pub static QWEN3: LazyLock<Known> = LazyLock::new(qwen3);

pub fn all() -> [&'static Known; 3] {
    [&QWEN25, &QWEN3, &SMOLLM2]
}

pub fn golden_file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn open(model: &str) -> GgufFile {
    GgufFile::open(&quarry_models::testing::model_path(model)).unwrap()
}

fn known(name: &'static str, model: &str) -> Known {
    Known {
        name,
        text: TextModel::from_gguf(&open(model)).unwrap(),
        golden: golden_file(&format!("{name}.json")),
    }
}

/// No Qwen3 file ships in a package. Its vocabulary and merges are those of Qwen2.5, its added tokens are in the
/// golden file: together they are its `tokenizer.json`.
fn qwen3() -> Known {
    let file = open("qwen2.5-coder-0.5b-instruct-q4_k_m");
    let golden = golden_file("qwen3.json");
    let added: Vec<Value> = golden["added"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| json!({"id": t[0], "content": t[1], "special": t[2]}))
        .collect();
    let first_added = added[0]["id"].as_u64().unwrap() as usize;
    let tokens = &file.metadata_strings("tokenizer.ggml.tokens").unwrap()[..first_added];
    let vocab: Value = tokens.iter().enumerate().map(|(id, text)| (text.clone(), json!(id))).collect();
    let merges = file.metadata_strings("tokenizer.ggml.merges").unwrap();
    // As its tokenizer.json has it; another pattern is refused.
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let split = json!({"type": "Split", "pattern": {"Regex": pattern}});
    let definition = json!({
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel"}]},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    });
    let tokenizer = Arc::new(Tokenizer::from_json_bytes(definition.to_string().as_bytes()).unwrap());
    let source = golden["template"].as_str().unwrap();
    let template = ChatTemplate::new(source, String::new(), "<|im_end|>".into()).unwrap();
    let constraints = ConstraintFactory::new(tokenizer.clone()).unwrap();
    Known { name: "qwen3", text: TextModel { tokenizer, template: Some(template), constraints }, golden }
}

/// A small seeded generator, the same on every machine.
pub struct Draws(pub u64);

impl Draws {
    pub fn below(&mut self, bound: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
