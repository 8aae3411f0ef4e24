//! Seeded mutations of valid files: reading ends with a file whose tensors lie inside it or with an error; it never
//! panics, and never allocates more than a small multiple of the file.

mod counting;

use counting::{HELD, PEAK, Random};
use quarry_formats::gguf::{GgufFile, Value, Writer};
use quarry_formats::quant::{self, TensorType};

/// Mutated files; some seconds in a debug build.
const FILES: u64 = 200_000;
/// Memory allowed: an array of bytes widened to `u64`, in a `Vec` that doubles while the old one lives, is 24 times
/// its file; hash maps add a constant.
const MEMORY_PER_FILE_BYTE: usize = 32;
const MEMORY_CONSTANT: usize = 64 << 10;

/// A small valid file; returns where its tensor data starts too.
fn valid(random: &mut Random) -> (Vec<u8>, usize) {
    let mut writer = Writer::new();
    let values = [
        Value::U64(random.next() >> 33),
        Value::I64(-5),
        Value::F64(1e-6),
        Value::Bool(true),
        Value::String("llama".into()),
        Value::U64Array((0..random.below(40) as u64).collect()),
        Value::I64Array(vec![1; random.below(40)]),
        Value::F64Array(vec![0.25; random.below(40)]),
        Value::BoolArray(vec![false; random.below(40)]),
        Value::StringArray(vec!["token".into(); random.below(40)]),
    ];
    for (i, value) in values.iter().enumerate() {
        if random.below(4) != 0 {
            writer.metadata(&format!("general.key{i}"), value);
        }
    }
    if random.below(2) == 0 {
        writer.metadata("general.alignment", &Value::U64(32));
    }
    let mut data = 0;
    for i in 0..random.below(5) {
        let kind = TensorType::ALL[random.below(TensorType::ALL.len())];
        let rows = 1 + random.below(2);
        let bytes = quant::encode(kind, &vec![0.5; rows * 256]);
        data += bytes.len().next_multiple_of(32);
        writer.tensor(&format!("blk.{i}.weight"), kind, &[rows, 256], &bytes);
    }
    let bytes = writer.finish();
    let data_start = bytes.len() - data;
    (bytes, data_start)
}

/// Numbers that break careless arithmetic.
fn hostile(random: &mut Random, length: usize) -> u64 {
    let numbers = [
        0,
        1,
        u64::MAX,
        u64::MAX - 31,
        1 << 63,
        1 << 61,
        1 << 32,
        (1 << 32) - 1,
        1 << 22,
        65_536,
        length as u64,
        length as u64 + 1,
        9,
        12,
    ];
    numbers[random.below(numbers.len())].wrapping_add(random.below(3) as u64).wrapping_sub(1)
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, header: usize) {
    match random.below(6) {
        0 => bytes.truncate(random.below(bytes.len() + 1)),
        1 => {
            let at = random.below(header);
            bytes[at] ^= 1 << random.below(8);
        }
        2 | 3 => {
            // Half of the numbers of a header are 8 bytes, half 4.
            let number = hostile(random, bytes.len()).to_le_bytes();
            let width = 4 + 4 * random.below(2);
            let at = random.below(header.saturating_sub(width).max(1));
            let width = width.min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        4 => {
            let (from, to) = (random.below(header), random.below(header));
            let length = random.below(24).min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + length, to);
        }
        _ => {
            let at = random.below(header);
            let extra: Vec<u8> = (0..random.below(16)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, extra);
        }
    }
}

fn check(file: &GgufFile, length: usize) {
    let mut end_before = 0;
    let mut tensors: Vec<_> = file.tensors().iter().collect();
    tensors.sort_by_key(|t| t.offset);
    for info in tensors {
        assert!(info.offset >= end_before && info.offset + info.bytes <= length, "{info:?} of {length}");
        end_before = info.offset + info.bytes;
        let (found, data) = file.tensor(&info.name).expect("every listed tensor is found");
        assert_eq!(found, info);
        let mut out = vec![0.0; info.shape.iter().product()];
        quant::decode(info.kind, data, &mut out);
    }
}

#[test]
fn mutated_files_give_a_sound_file_or_an_error_in_bounded_memory() {
    let (mut read, mut refused) = (0, 0);
    for seed in 0..FILES {
        let mut random = Random(seed);
        let (mut bytes, data_start) = valid(&mut random);
        for _ in 0..1 + random.below(3) {
            let header = data_start.min(bytes.len());
            if header > 0 {
                mutate(&mut random, &mut bytes, header);
            }
        }
        let length = bytes.len();
        let before = HELD.get();
        PEAK.set(before);
        let result = GgufFile::from_bytes(bytes);
        let used = PEAK.get() - before;
        assert!(
            used <= MEMORY_PER_FILE_BYTE * length + MEMORY_CONSTANT,
            "seed {seed}: {used} bytes of memory for a file of {length}"
        );
        match result {
            Ok(file) => {
                read += 1;
                check(&file, length);
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    // Mutations that are all refused, or all harmless, would test nothing.
    assert!(read > FILES / 20 && refused > FILES / 4, "{read} read, {refused} refused");
}
