//! Decoding and encoding against the `gguf` Python package, bit for bit (fixtures: `golden/make_golden.py`).

use std::path::PathBuf;

use quarry_formats::quant::{self, TensorType};

/// Elements of a fixture.
const ELEMENTS: usize = 2048;

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn every_format_decodes_bit_for_bit_as_the_reference() {
    for kind in TensorType::ALL {
        let name = kind.name();
        let bytes = fixture(&format!("{}.bin", name.to_lowercase()));
        let (encoded, expected) = bytes.split_at(kind.row_bytes(ELEMENTS));
        let expected = floats(expected);
        assert_eq!(expected.len(), ELEMENTS, "{name}");
        let mut decoded = vec![f32::NAN; ELEMENTS];
        quant::decode(kind, encoded, &mut decoded);
        for (i, (got, want)) in decoded.iter().zip(&expected).enumerate() {
            assert_eq!(got.to_bits(), want.to_bits(), "{name} element {i}: {got} is not {want}");
        }
    }
}

#[test]
fn formats_that_the_reference_encodes_are_encoded_bit_for_bit() {
    let bytes = fixture("encode.bin");
    let (values, mut encoded) = bytes.split_at(4 * ELEMENTS);
    let values = floats(values);
    use TensorType::{BF16, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    for kind in [F16, BF16, Q4_0, Q4_1, Q5_0, Q8_0, Q5_1] {
        let (want, rest) = encoded.split_at(kind.row_bytes(ELEMENTS));
        encoded = rest;
        let got = quant::encode(kind, &values);
        let block = kind.block_bytes();
        for (i, (got, want)) in got.chunks_exact(block).zip(want.chunks_exact(block)).enumerate() {
            assert_eq!(got, want, "{} block {i}", kind.name());
        }
    }
    assert!(encoded.is_empty());
}

/// Half a step of the coarsest sub-block, as a share of the block's largest magnitude, with room for the rounding
/// of the scales themselves.
fn error_share_max(kind: TensorType) -> f32 {
    match kind {
        TensorType::F32 => 0.0,
        TensorType::F16 => 1.0 / 2048.0,
        TensorType::BF16 => 1.0 / 256.0,
        TensorType::AWQ4 => unreachable!("no type of GGUF files; see awq.rs"),
        // Signed: the side without the extreme loses up to a whole step.
        TensorType::Q4_0 => 1.1 / 8.0,
        TensorType::Q5_0 => 1.1 / 16.0,
        TensorType::Q8_0 => 0.6 / 127.0,
        TensorType::Q4_1 => 1.1 / 15.0,
        TensorType::Q5_1 => 1.1 / 31.0,
        // Scales and minimums are themselves in 63 steps.
        TensorType::Q4K => 1.1 / 15.0 + 1.0 / 63.0,
        TensorType::Q5K => 1.1 / 31.0 + 1.0 / 63.0,
        // Or in 15: half of one times the three steps of an element, and half of one of the minimum's.
        TensorType::Q2K => 1.1 / 3.0 + 1.5 / 15.0,
        TensorType::Q3K => 1.1 / 4.0 + 1.0 / 32.0,
        TensorType::Q6K => 1.1 / 32.0 + 1.0 / 128.0,
        // The table ends at 113 above and −127 below; its widest gap is 24.
        TensorType::IQ4NL => 14.1 / 127.0,
        TensorType::IQ4XS => 14.1 / 127.0 + 1.0 / 32.0,
    }
}

#[test]
fn encoding_loses_at_most_a_step() {
    let mut state = 7_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    for round in 0..50 {
        // Offsets make all-positive and all-negative blocks.
        let offset = [0.0, 0.5, -2.0][round % 3];
        let values: Vec<f32> = (0..256).map(|_| uniform() + offset).collect();
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for kind in TensorType::ALL {
            let mut decoded = vec![f32::NAN; values.len()];
            quant::decode(kind, &quant::encode(kind, &values), &mut decoded);
            for (value, got) in values.iter().zip(&decoded) {
                let error = (value - got).abs();
                let bound = error_share_max(kind) * largest;
                assert!(error <= bound, "{} round {round}: {value} became {got}", kind.name());
            }
        }
    }
}

#[test]
fn ids_names_and_sizes_agree_with_the_format() {
    // (id, name, elements, bytes) as in ggml's type table.
    let table = [
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, 18),
        (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34),
        (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110),
        (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176),
        (14, "Q6_K", 256, 210),
        (20, "IQ4_NL", 32, 18),
        (23, "IQ4_XS", 256, 136),
        (30, "BF16", 1, 2),
    ];
    assert_eq!(table.len(), TensorType::ALL.len());
    for (id, name, elements, bytes) in table {
        let kind = TensorType::from_id(id).expect(name);
        assert_eq!((kind.name(), kind.block_elements(), kind.block_bytes()), (name, elements, bytes));
    }
    assert_eq!(TensorType::from_id(4), None);
}
