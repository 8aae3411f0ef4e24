//! Properties of valid safetensors files, and seeded mutations of them: reading ends with a file whose tensors lie inside
//! it or with an error; it never panics, and never allocates more than a small multiple of the file.

mod counting;

use counting::{HELD, PEAK, Random};
use proptest::prelude::*;
use quarry_formats::safetensors::{Piece, SafetensorsFile, StoredType, write};

/// Mutated files; some seconds in a debug build.
const FILES: u64 = 60_000;
/// Memory allowed: a number of a shape takes 2 bytes of text and 8 of memory, in a `Vec` that doubles while the old one
/// lives; a tensor's names, entries and hash maps add some hundred bytes to the 60 of its text.
const MEMORY_PER_FILE_BYTE: usize = 32;
const MEMORY_CONSTANT: usize = 64 << 10;

fn bytes(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, pieces).expect("pieces fit their shapes");
    out
}

fn piece(name: String, kind: StoredType, shape: Vec<usize>) -> Piece {
    let bytes = shape.iter().product::<usize>() * kind.bytes();
    Piece { name, kind, shape, data: (0..bytes).map(|i| (i * 31 + 7) as u8).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_was_written_is_read(
        shapes in prop::collection::vec((0..4_usize, prop::collection::vec(1..5_usize, 0..5)), 0..9),
        prefix in "[a-zA-Z0-9_. äß\"\\\\-]{0,20}",
    ) {
        let pieces: Vec<Piece> = shapes
            .into_iter()
            .enumerate()
            .map(|(i, (kind, shape))| piece(format!("{prefix}{i}"), StoredType::ALL[kind], shape))
            .collect();
        let file = SafetensorsFile::from_bytes(bytes(&pieces)).expect("a valid file");
        prop_assert_eq!(file.tensors().len(), pieces.len());
        for piece in &pieces {
            let (info, data) = file.tensor(&piece.name).expect("is there");
            prop_assert_eq!((info.kind, &info.shape, data), (piece.kind, &piece.shape, &piece.data[..]));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), length in 0..400_u64) {
        let _ = SafetensorsFile::from_bytes(bytes.clone());
        // Likelier to come as far as the header.
        let _ = SafetensorsFile::from_bytes([&length.to_le_bytes()[..], &bytes].concat());
    }
}

/// Numbers and pieces of text that break careless readers.
const HOSTILE: [&str; 16] = [
    "0",
    "1",
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "-1",
    "1e9",
    "[",
    "]",
    "{",
    "}",
    "\"",
    ",",
    "null",
    "[0,8]",
    "\"t0\"",
];

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, header: usize) {
    match random.below(6) {
        0 => bytes.truncate(random.below(bytes.len() + 1)),
        1 => {
            let at = random.below(header);
            bytes[at] ^= 1 << random.below(8);
        }
        2 => {
            // A digit, so that the JSON stays whole and only the numbers lie.
            let digits: Vec<usize> = (8..header).filter(|&i| bytes[i].is_ascii_digit()).collect();
            if !digits.is_empty() {
                bytes[digits[random.below(digits.len())]] = b'0' + random.below(10) as u8;
            }
        }
        3 => {
            let number = [0, 1, u64::MAX, 1 << 63, 16 << 20, bytes.len() as u64][random.below(6)];
            if bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&number.to_le_bytes());
            }
        }
        4 => {
            let at = random.below(header);
            let text = HOSTILE[random.below(HOSTILE.len())];
            bytes.splice(at..at, text.bytes());
        }
        _ => {
            let (from, to) = (random.below(header), random.below(header));
            let length = random.below(60).min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + length, to);
        }
    }
}

#[test]
fn mutated_files_give_a_sound_file_or_an_error_in_bounded_memory() {
    let (mut read, mut refused) = (0, 0);
    for seed in 0..FILES {
        let mut random = Random(seed);
        let count = random.below(5);
        let pieces: Vec<Piece> = (0..count)
            .map(|i| {
                let shape = (0..random.below(4)).map(|_| 1 + random.below(4)).collect();
                piece(format!("t{i}"), StoredType::ALL[random.below(4)], shape)
            })
            .collect();
        let mut bytes = bytes(&pieces);
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        for _ in 0..1 + random.below(2) {
            let header = header.min(bytes.len());
            if header > 0 {
                mutate(&mut random, &mut bytes, header);
            }
        }
        let length = bytes.len();
        let before = HELD.get();
        PEAK.set(before);
        let result = SafetensorsFile::from_bytes(bytes);
        let used = PEAK.get().saturating_sub(before);
        let allowed = MEMORY_PER_FILE_BYTE * length + MEMORY_CONSTANT;
        assert!(used <= allowed, "seed {seed}: {used} bytes of memory for a file of {length}");
        match result {
            Ok(file) => {
                read += 1;
                let mut end = 0;
                for info in file.tensors() {
                    assert!(
                        info.offset >= end && info.offset + info.bytes <= length,
                        "seed {seed}: {info:?}"
                    );
                    end = info.offset + info.bytes;
                    let (found, data) = file.tensor(&info.name).expect("every listed tensor is found");
                    assert_eq!((found, data.len()), (info, info.bytes));
                }
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    // Mutations that are all refused, or all harmless, would test nothing.
    assert!(read > FILES / 50 && refused > FILES / 4, "{read} read, {refused} refused");
}
