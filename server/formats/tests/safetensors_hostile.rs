//! safetensors files that lie: each gives its own error, which names what and where.

use quarry_formats::FormatError;
use quarry_formats::safetensors::{Piece, SafetensorsFile, StoredType, limits, write};

/// A file of this header, padded by nothing, and so many bytes of data.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[track_caller]
fn refused(bytes: Vec<u8>, parts: &[&str]) {
    let message = SafetensorsFile::from_bytes(bytes).expect_err("a hostile file").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

fn one(entry: &str, data: usize) -> Vec<u8> {
    raw(&format!(r#"{{"t":{entry}}}"#), data)
}

#[test]
fn the_header_is_bounded_and_json() {
    refused(vec![], &["header length at byte 0 needs 8 bytes, 0 are left"]);
    refused(vec![1; 7], &["header length"]);
    refused(u64::MAX.to_le_bytes().to_vec(), &["header length", "HEADER_BYTES_MAX"]);
    refused((limits::HEADER_BYTES_MAX as u64 + 1).to_le_bytes().to_vec(), &["HEADER_BYTES_MAX"]);
    refused(100_u64.to_le_bytes().to_vec(), &["truncated: header at byte 8 needs 100 bytes, 0 are left"]);
    for (header, what) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "an object of tensors"),
        ("{} {}", "trailing"),
        (r#"{"t":1}"#, "expected struct Entry"),
        (r#"{"t":{}}"#, "missing field `dtype`"),
        (r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}"#, "unknown field `more`"),
        (r#"{"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, "integer `-1`"),
        (r#"{"t":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#, "floating point"),
        (r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, "length 1"),
        (r#"{"t":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}"#, "header"),
    ] {
        refused(raw(header, 4), &["header: ", what]);
    }
    let deep = |key: &str| raw(&format!(r#"{{"{key}":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)), 0);
    refused(deep("t"), &["header: ", "expected"]);
    // What describes the file is skipped, however deep.
    assert!(SafetensorsFile::from_bytes(deep("__metadata__")).is_ok());
    refused(raw("\u{0}", 0), &["header"]);
    let many: Vec<String> = (0..=limits::TENSORS_MAX)
        .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#))
        .collect();
    refused(raw(&format!("{{{}}}", many.join(",")), 4), &["TENSORS_MAX"]);
}

#[test]
fn tensors_are_what_they_can_be() {
    let good = r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    assert!(SafetensorsFile::from_bytes(one(good, 8)).is_ok(), "the base case is valid");
    refused(
        one(r#"{"dtype":"F64","shape":[1],"data_offsets":[0,8]}"#, 8),
        &["tensor t", "\"F64\"", "F16, BF16"],
    );
    let long = "x".repeat(5000);
    let message = SafetensorsFile::from_bytes(one(
        &format!(r#"{{"dtype":"{long}","shape":[],"data_offsets":[0,0]}}"#),
        0,
    ));
    assert!(
        message.expect_err("refused").to_string().len() < 200,
        "a hostile name is not repeated at length"
    );
    refused(one(r#"{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#, 0), &["tensor t", "no elements"]);
    let wraps = r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}"#;
    refused(one(wraps, 8), &["tensor t", "counted"]);
    let many = r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#;
    refused(one(many, 4), &["tensor t", "DIMENSIONS_MAX"]);
    refused(one(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#, 8), &["8 bytes of data", "has 12"]);
    for name in ["", "a\\nb", &"n".repeat(257)] {
        refused(raw(&format!(r#"{{"{name}":{good}}}"#), 8), &["tensor name"]);
    }
    let twice = raw(&format!(r#"{{"t":{good},"t":{good}}}"#), 8);
    refused(twice, &["tensor \"t\" occurs twice"]);
}

#[test]
fn places_are_whole_and_apart() {
    let at = |begin: u64, end: u64, data| {
        one(&format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":[{begin},{end}]}}"#), data)
    };
    refused(at(0, 8, 7), &["tensor t", "not within the file's 7 bytes"]);
    refused(at(8, 0, 8), &["tensor t", "not within"]);
    refused(at(u64::MAX - 7, u64::MAX, 8), &["tensor t", "not within"]);
    refused(at(4, 12, 12), &["tensor t", "leaves a gap"]);
    refused(at(0, 8, 9), &["1 bytes after the last tensor"]);
    let two = |b: (u64, u64)| {
        let entry = |(begin, end): (u64, u64)| {
            format!(r#"{{"dtype":"F16","shape":[{}],"data_offsets":[{begin},{end}]}}"#, (end - begin) / 2)
        };
        raw(&format!(r#"{{"a":{},"b":{}}}"#, entry((0, 8)), entry(b)), 16)
    };
    assert!(SafetensorsFile::from_bytes(two((8, 16))).is_ok());
    refused(two((4, 16)), &["tensor b", "overlaps"]);
    refused(two((0, 8)), &["overlaps"]);
    refused(two((10, 16)), &["tensor b", "gap"]);
}

#[test]
fn folders_and_missing_files_have_their_own_errors() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(matches!(SafetensorsFile::open(&dir.path().join("none")), Err(FormatError::Open { .. })));
    assert!(
        SafetensorsFile::open(dir.path()).expect_err("a folder").to_string().contains("not a regular file")
    );
    let empty = dir.path().join("empty");
    std::fs::write(&empty, []).expect("write");
    assert!(SafetensorsFile::open(&empty).expect_err("empty").to_string().contains("header length"));
}

#[test]
fn a_piece_that_does_not_fit_its_shape_is_not_written() {
    let piece = Piece { name: "t".into(), kind: StoredType::F16, shape: vec![3], data: vec![0; 5] };
    assert!(write(&mut Vec::new(), &[piece]).is_err());
}
