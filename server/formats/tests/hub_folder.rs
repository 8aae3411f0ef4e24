//! Model folders: what is read from where, and folders that lie.

use std::fs;
use std::path::Path;

use quarry_formats::hub::{HubFolder, limits};
use quarry_formats::safetensors::{Piece, StoredType, write};
use serde_json::{Value, json};
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";

fn weights(folder: &Path, file: &str, names: &[&str]) {
    let piece = |name: &&str| Piece {
        name: (*name).into(),
        kind: StoredType::F16,
        shape: vec![2],
        data: vec![1, 2, 3, name.len() as u8],
    };
    let mut bytes = Vec::new();
    write(&mut bytes, &names.iter().map(piece).collect::<Vec<_>>()).expect("written");
    fs::write(folder.join(file), bytes).expect("written");
}

fn save(folder: &Path, name: &str, value: &Value) {
    fs::write(folder.join(name), value.to_string()).expect("written");
}

/// A folder of one weight file.
fn single() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    save(dir.path(), "config.json", &json!({"model_type": "qwen3"}));
    save(dir.path(), "tokenizer.json", &json!({}));
    weights(dir.path(), "model.safetensors", &["a", "bb"]);
    dir
}

/// A folder of two.
fn sharded() -> TempDir {
    let dir = single();
    fs::remove_file(dir.path().join("model.safetensors")).expect("removed");
    weights(dir.path(), "model-1.safetensors", &["a"]);
    weights(dir.path(), "model-2.safetensors", &["bb"]);
    save(
        dir.path(),
        INDEX,
        &json!({"weight_map": {"a": "model-1.safetensors", "bb": "model-2.safetensors"}}),
    );
    dir
}

#[track_caller]
fn refused(dir: &TempDir, parts: &[&str]) {
    let message = HubFolder::open(dir.path()).expect_err("refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert!(message.len() < 1000, "{message}");
}

#[test]
fn tensors_are_found_in_whatever_file_they_are() {
    for dir in [single(), sharded()] {
        let folder = HubFolder::open(dir.path()).expect("a model folder");
        assert_eq!(folder.tensors().count(), 2);
        assert_eq!(folder.tensor("bb").expect("is there").1, [1, 2, 3, 2]);
        assert!(folder.tensor("c").is_none());
        assert_eq!(folder.config()["model_type"], "qwen3");
        assert_eq!((folder.chat_template(), folder.tokenizer_config()), (None, &Value::Null));
    }
}

#[test]
fn the_chat_template_is_its_own_file_or_in_the_tokenizers() {
    let dir = single();
    let template = || HubFolder::open(dir.path()).expect("opens").chat_template().map(str::to_owned);
    save(
        dir.path(),
        "tokenizer_config.json",
        &json!({"chat_template": [
        {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "named"}]}),
    );
    assert_eq!(template().as_deref(), Some("named"));
    save(dir.path(), "tokenizer_config.json", &json!({"chat_template": "inside"}));
    assert_eq!(template().as_deref(), Some("inside"));
    fs::write(dir.path().join("chat_template.jinja"), "own").expect("written");
    assert_eq!(template().as_deref(), Some("own"));
    fs::write(dir.path().join("chat_template.jinja"), [0xff]).expect("written");
    refused(&dir, &["chat_template.jinja", "UTF-8"]);
}

#[test]
fn what_is_missing_is_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let dir = single();
        fs::remove_file(dir.path().join(name)).expect("removed");
        refused(&dir, &[name]);
    }
    let dir = sharded();
    fs::remove_file(dir.path().join("model-2.safetensors")).expect("removed");
    refused(&dir, &["model-2.safetensors", "cannot open"]);
    fs::write(dir.path().join("model-2.safetensors"), [1, 2, 3]).expect("written");
    refused(&dir, &["model-2.safetensors", "truncated"]);
}

#[test]
fn json_is_an_object_within_bounds() {
    for name in ["config.json", "tokenizer_config.json", "generation_config.json", INDEX] {
        let dir = single();
        fs::write(dir.path().join(name), "{").expect("written");
        refused(&dir, &[name, "EOF"]);
        fs::write(dir.path().join(name), "[1]").expect("written");
        refused(&dir, &[name, "is not an object"]);
        fs::write(dir.path().join(name), "[".repeat(100_000)).expect("written");
        refused(&dir, &[name, "recursion limit"]);
    }
    let dir = single();
    fs::write(dir.path().join("config.json"), vec![b' '; limits::CONFIG_BYTES_MAX as usize + 1])
        .expect("written");
    refused(&dir, &["config.json", "over the limit"]);
    let dir = single();
    fs::remove_file(dir.path().join("config.json")).expect("removed");
    fs::create_dir(dir.path().join("config.json")).expect("made");
    refused(&dir, &["config.json", "not a regular file"]);
}

#[test]
fn an_index_that_lies_is_refused() {
    let index = |value: Value| {
        let dir = sharded();
        save(dir.path(), INDEX, &value);
        dir
    };
    refused(&index(json!({})), &[INDEX, "weight_map is missing"]);
    refused(&index(json!({"weight_map": []})), &["weight_map is missing"]);
    refused(&index(json!({"weight_map": {}})), &["weight_map is empty"]);
    for file in [
        "../model-1.safetensors",
        "/etc/passwd",
        "sub/a.safetensors",
        ".safetensors",
        "a.bin",
        "a\\b.safetensors",
    ] {
        refused(&index(json!({"weight_map": {"a": file}})), &["no name of a weight file"]);
    }
    refused(&index(json!({"weight_map": {"a": 7}})), &["a is in 7"]);
    let swapped = json!({"weight_map": {"a": "model-2.safetensors", "bb": "model-1.safetensors"}});
    refused(&index(swapped), &["has tensor", "does not place there"]);
    let only = json!({"weight_map": {"a": "model-1.safetensors", "bb": "model-2.safetensors", "c": "model-2.safetensors"}});
    refused(&index(only), &["tensor c", "where it is not"]);
    let many: serde_json::Map<String, Value> =
        (0..=limits::SHARDS_MAX).map(|i| (format!("t{i}"), format!("m{i}.safetensors").into())).collect();
    refused(&index(json!({"weight_map": many})), &["SHARDS_MAX"]);
}
