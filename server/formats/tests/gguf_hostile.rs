//! Files that lie: each gives its own error, which names what and where.

use quarry_formats::FormatError;
use quarry_formats::gguf::{GgufFile, limits};

/// Raw file pieces, little-endian.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn header(tensors: u64, entries: u64) -> Self {
        Raw(b"GGUF".to_vec()).u32(3).u64(tensors).u64(entries)
    }
    fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }
    fn u32(mut self, n: u32) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    fn u64(mut self, n: u64) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    fn text(self, s: &[u8]) -> Self {
        let mut raw = self.u64(s.len() as u64);
        raw.0.extend(s);
        raw
    }
    fn tensor(self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        let raw = self.text(name.as_bytes()).u32(dimensions.len() as u32);
        dimensions.iter().fold(raw, |raw, &n| raw.u64(n)).u32(kind).u64(offset)
    }
    /// Pads to the default alignment and adds `data` zero bytes.
    fn data(mut self, data: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + data, 0);
        self
    }
    /// Zeros, so that counts are not refused for the file's shortness.
    fn room(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len() + bytes, 0);
        self
    }
    fn error(self) -> FormatError {
        GgufFile::from_bytes(self.0).expect_err("a hostile file")
    }
    fn message(self) -> String {
        self.error().to_string()
    }
}

const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 0;
const Q4_K: u32 = 12;

#[track_caller]
fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn headers() {
    has(&Raw(b"PK\x03\x04rest of it".to_vec()).message(), &["not a GGUF file", "50, 4b"]);
    has(&Raw(b"GGUF".to_vec()).u32(1).message(), &["version 1"]);
    has(&Raw(b"GGUF".to_vec()).u32(3_u32.swap_bytes()).message(), &["big-endian"]);
    has(&Raw(b"GGUF".to_vec()).u32(3).message(), &["tensor count at byte 8"]);
    has(&Raw::header(u64::MAX, 0).message(), &["tensor count", "TENSORS_MAX"]);
    has(&Raw::header(0, u64::MAX).message(), &["metadata count", "METADATA_ENTRIES_MAX"]);
    // Within the limit, but the file is far too short for them.
    has(&Raw::header(60_000, 0).message(), &["truncated: tensor count"]);
    has(&Raw::header(0, 4000).message(), &["truncated: metadata count"]);
}

#[test]
fn metadata() {
    let one = || Raw::header(0, 1);
    has(&one().u64(u64::MAX).room(64).message(), &["metadata key at byte 24", "KEY_BYTES_MAX"]);
    has(&one().text(b"").room(64).message(), &["metadata key", "name"]);
    has(&one().text(b"a\nb").room(64).message(), &["metadata key", "control"]);
    has(&one().text(b"\xff\xfe").room(64).message(), &["metadata key", "UTF-8"]);
    has(&one().text(b"key").u32(77).room(64).message(), &["key at byte", "unknown value type", "77"]);
    has(&one().text(b"key").u32(BOOL).u8(2).room(64).message(), &["key", "bool", "2"]);
    has(&one().text(b"key").u32(STRING).text(b"\xc3\x28").message(), &["key", "UTF-8"]);
    has(&one().text(b"key").u32(STRING).u64(1 << 62).message(), &["key", "STRING_BYTES_MAX"]);
    has(&one().text(b"key").u32(STRING).u64(1 << 20).message(), &["truncated: key"]);
    let twice = Raw::header(0, 2).text(b"key").u32(U32).u32(1).text(b"key").u32(U32).u32(1);
    has(&twice.message(), &["metadata key \"key\" occurs twice"]);
}

#[test]
fn arrays() {
    let array = |kind: u32| Raw::header(0, 1).text(b"key").u32(ARRAY).u32(kind);
    has(&array(ARRAY).u64(1).room(64).message(), &["key", "arrays of arrays"]);
    has(&array(99).u64(1).room(64).message(), &["key", "unknown array element type", "99"]);
    has(&array(U32).u64(u64::MAX).message(), &["array key", "ARRAY_ELEMENTS_MAX"]);
    has(&array(STRING).u64(1 << 20).message(), &["truncated: array key"]);
    // 2^61 × 8 bytes would wrap to zero.
    has(&array(STRING).u64(1 << 61).message(), &["ARRAY_ELEMENTS_MAX"]);

    // Two arrays that are allowed alone but not together.
    let half = limits::ARRAY_ELEMENTS_MAX / 2 + 1;
    let one = |raw: Raw, key: &[u8]| raw.text(key).u32(ARRAY).u32(BOOL).u64(half as u64).room(half);
    let both = one(one(Raw::header(0, 2), b"first"), b"second");
    has(&both.message(), &["array second", "ARRAY_ELEMENTS_MAX"]);
}

#[test]
fn the_whole_header_is_bounded() {
    let mut raw = Raw::header(0, 5);
    for key in [b"a", b"b", b"c", b"d", b"e"] {
        raw = raw.text(key).u32(STRING).u64(limits::STRING_BYTES_MAX as u64).room(limits::STRING_BYTES_MAX);
    }
    has(&raw.message(), &["HEADER_BYTES_MAX"]);
}

#[test]
fn tensors() {
    let one = || Raw::header(1, 0);
    has(&one().tensor("", &[1], F32, 0).data(4).message(), &["tensor name"]);
    has(&one().tensor(&"n".repeat(65), &[1], F32, 0).data(4).message(), &["TENSOR_NAME_BYTES_MAX"]);
    has(&one().tensor("t", &[], F32, 0).data(4).message(), &["tensor t", "0 dimensions"]);
    has(&one().tensor("t", &[1; 5], F32, 0).data(4).message(), &["tensor t", "5 dimensions"]);
    has(&one().tensor("t", &[4, 0], F32, 0).data(4).message(), &["tensor t", "no elements"]);
    has(&one().tensor("t", &[1], 15, 0).data(4).message(), &["tensor t", "Q8_K", "id 15", "Q4_K, Q5_K"]);
    has(
        &one().tensor("t", &[1], 19, 0).data(4).message(),
        &["tensor t", "IQ family", "id 19", "IQ4_NL, IQ4_XS"],
    );
    has(&one().tensor("t", &[1], 4, 0).data(4).message(), &["id 4"]);
    has(&one().tensor("t", &[255, 256], Q4_K, 0).data(4).message(), &["tensor t", "Q4_K blocks of 256"]);
    let wraps = [1 << 32, 1 << 32, 2, 1];
    has(&one().tensor("t", &wraps, F32, 0).data(4).message(), &["tensor t", "counted"]);
    has(&one().tensor("t", &[1 << 62], F32, 0).data(4).message(), &["tensor t", "counted"]);
    let twice = Raw::header(2, 0).tensor("t", &[1], F32, 0).tensor("t", &[1], F32, 32).data(64);
    has(&twice.message(), &["tensor \"t\" occurs twice"]);
}

#[test]
fn places() {
    let one = |offset, data| Raw::header(1, 0).tensor("t", &[8], F32, offset).data(data);
    assert!(GgufFile::from_bytes(one(0, 32).0).is_ok(), "the base case is valid");
    has(&one(0, 31).message(), &["tensor t", "32 bytes at offset 0", "past the end"]);
    has(&one(32, 32).message(), &["tensor t", "past the end"]);
    has(&one(u64::MAX - 31, 32).message(), &["tensor t", "past the end"]);
    has(&one(4, 64).message(), &["tensor t", "offset 4 is not a multiple of 32"]);
    let overlap = Raw::header(2, 0).tensor("a", &[16], F32, 0).tensor("b", &[8], F32, 32).data(96);
    has(&overlap.message(), &["tensor b", "overlaps a (64 bytes"]);
    let same = Raw::header(2, 0).tensor("a", &[8], F32, 0).tensor("b", &[8], F32, 0).data(96);
    has(&same.message(), &["overlaps"]);
}

#[test]
fn alignments() {
    let aligned = |n: u32| Raw::header(0, 1).text(b"general.alignment").u32(U32).u32(n);
    for n in [8, 32, 65_536] {
        assert!(GgufFile::from_bytes(aligned(n).0).is_ok(), "{n}");
    }
    for n in [0, 1, 4, 24, 131_072, u32::MAX] {
        has(&aligned(n).message(), &["general.alignment", &n.to_string()]);
    }
    let text = Raw::header(0, 1).text(b"general.alignment").u32(STRING).text(b"32");
    has(&text.message(), &["general.alignment", "a string"]);
}
