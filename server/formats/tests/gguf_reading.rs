//! Files made by the writer are read back; typed reading and opening say what is wrong.

use std::path::Path;

use quarry_formats::FormatError;
use quarry_formats::gguf::{GgufFile, Value, Writer};
use quarry_formats::quant::{self, TensorType};

fn values() -> Vec<(&'static str, Value)> {
    vec![
        ("small", Value::U64(7)),
        ("large", Value::U64(u64::MAX)),
        ("negative", Value::I64(-3)),
        ("very.negative", Value::I64(i64::MIN)),
        ("half", Value::F64(0.5)),
        ("fine", Value::F64(0.1)),
        ("yes", Value::Bool(true)),
        ("text", Value::String("щось „тут“ 🙂".into())),
        ("empty", Value::String(String::new())),
        ("numbers", Value::U64Array(vec![1, 2, 1 << 40])),
        ("types", Value::I64Array(vec![1, -1, 3])),
        ("far", Value::I64Array(vec![i64::MAX])),
        ("scores", Value::F64Array(vec![0.5, -2.0])),
        ("fine.scores", Value::F64Array(vec![0.1])),
        ("flags", Value::BoolArray(vec![true, false])),
        ("tokens", Value::StringArray(vec!["a".into(), String::new(), "ß".into()])),
        ("none", Value::StringArray(vec![])),
    ]
}

fn file(values: &[(&str, Value)]) -> GgufFile {
    let mut writer = Writer::new();
    for (key, value) in values {
        writer.metadata(key, value);
    }
    GgufFile::from_bytes(writer.finish()).expect("the writer makes valid files")
}

#[test]
fn metadata_comes_back_as_written() {
    let file = file(&values());
    assert_eq!(file.metadata().len(), values().len());
    for (key, value) in values() {
        assert_eq!(file.metadata()[key], value, "{key}");
    }
}

#[test]
fn tensors_of_every_type_come_back_as_written() {
    let mut writer = Writer::new();
    let rows: Vec<f32> = (0..3 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
    for kind in TensorType::ALL {
        writer.tensor(kind.name(), kind, &[3, 256], &quant::encode(kind, &rows));
    }
    // An odd size between others: padding must keep the next one aligned.
    writer.tensor("odd", TensorType::F16, &[3], &[1, 2, 3, 4, 5, 6]);
    writer.tensor("last", TensorType::F32, &[2, 1, 1], &[0; 8]);
    let file = GgufFile::from_bytes(writer.finish()).expect("valid");
    for kind in TensorType::ALL {
        let (info, bytes) = file.tensor(kind.name()).expect("as written");
        assert_eq!((info.kind, info.shape.as_slice()), (kind, [3, 256].as_slice()));
        assert_eq!(bytes, quant::encode(kind, &rows), "{}", kind.name());
        assert_eq!(info.offset % 32, 0);
    }
    assert_eq!(file.tensor("odd").expect("odd").1, [1, 2, 3, 4, 5, 6]);
    assert_eq!(file.tensor("last").expect("last").0.shape, [2, 1, 1]);
    assert!(file.tensor("absent").is_none());
}

#[test]
fn version_two_is_read_like_three() {
    let mut writer = Writer::new();
    writer.metadata("key", &Value::U64(1)).tensor("t", TensorType::F32, &[1], &[0; 4]);
    let mut bytes = writer.finish();
    bytes[4] = 2;
    let file = GgufFile::from_bytes(bytes).expect("version 2");
    assert_eq!(file.metadata_u64("key").expect("key"), 1);
    assert!(file.tensor("t").is_some());
}

#[test]
fn typed_reading_names_the_key_and_both_types() {
    let file = file(&values());
    assert_eq!(file.metadata_u64("small").expect("small"), 7);
    assert_eq!(file.metadata_usize("small").expect("small"), 7);
    assert_eq!(file.metadata_as::<i64>("negative").expect("negative"), -3);
    assert_eq!(file.metadata_f32("half").expect("half"), 0.5);
    assert!(file.metadata_bool("yes").expect("yes"));
    assert_eq!(file.metadata_str("empty").expect("empty"), "");
    assert_eq!(file.metadata_strings("tokens").expect("tokens").len(), 3);
    assert_eq!(file.metadata_as::<Vec<i64>>("types").expect("types"), [1, -1, 3]);
    assert_eq!(file.metadata_opt::<&str>("absent").expect("absent is no error"), None);

    let message = |error: FormatError| error.to_string();
    let missing = message(file.metadata_u64("absent").expect_err("absent"));
    assert_eq!(missing, "metadata key absent is missing");
    let wrong = message(file.metadata_u64("text").expect_err("text"));
    assert_eq!(wrong, "metadata key text should be an integer ≥ 0 but is a string of 26 bytes");
    let negative = message(file.metadata_u64("negative").expect_err("negative"));
    assert_eq!(negative, "metadata key negative should be an integer ≥ 0 but is the integer -3");
    assert!(file.metadata_opt::<&str>("small").is_err(), "a wrong type is not absence");
}

#[test]
fn opening_names_the_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("model.gguf");
    let message = |path: &Path| GgufFile::open(path).expect_err("bad file").to_string();

    assert!(message(&path).contains("model.gguf"), "{}", message(&path));
    assert!(message(folder.path()).ends_with("not a regular file"));
    std::fs::write(&path, []).expect("write");
    assert!(message(&path).contains("model.gguf: truncated: magic at byte 0"), "{}", message(&path));
    std::fs::write(&path, b"<!doctype html>").expect("write");
    assert!(message(&path).contains("not a GGUF file"), "{}", message(&path));
    std::fs::write(&path, Writer::new().metadata("a", &Value::Bool(true)).finish()).expect("write");
    assert!(GgufFile::open(&path).expect("valid").metadata_bool("a").expect("a"));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    let error = GgufFile::open(&path).expect_err("a pipe");
    assert!(error.to_string().ends_with("not a regular file"), "{error}");
}
