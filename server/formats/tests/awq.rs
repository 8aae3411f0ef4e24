//! AWQ matrices against another way of unpacking (`golden/make_awq.py`), and their packing there and back.

use std::path::PathBuf;

use quarry_formats::awq::{GROUP, Matrix, scatter};
use quarry_formats::quant::{self, Block, BlockAWQ4, TensorType};

const INPUTS: usize = 384;
const OUTPUTS: usize = 24;

#[test]
fn weights_are_those_of_the_other_way_bit_for_bit() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/awq.bin");
    let bytes = std::fs::read(path).expect("the fixture");
    let groups = INPUTS / GROUP;
    let (qweight, rest) = bytes.split_at(INPUTS * OUTPUTS / 2);
    let (qzeros, rest) = rest.split_at(groups * OUTPUTS / 2);
    let (scales, weights) = rest.split_at(groups * OUTPUTS * 2);
    let matrix = Matrix::new((INPUTS, OUTPUTS), qweight, qzeros, scales).expect("fits");
    let rows = matrix.rows();
    let mut found = vec![f32::NAN; INPUTS * OUTPUTS];
    quant::decode(TensorType::AWQ4, &rows, &mut found);
    let expected: Vec<f32> = weights.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        // Zero has a sign where a scale is negative; as a weight it is zero.
        assert_eq!((a + 0.0).to_bits(), (b + 0.0).to_bits(), "output {}, input {}", i / INPUTS, i % INPUTS);
    }

    // Packing the rows again gives the checkpoint's bytes.
    let packed = scatter(quant::blocks(&rows), OUTPUTS);
    assert_eq!((&packed.qweight[..], &packed.qzeros[..], &packed.scales[..]), (qweight, qzeros, scales));

    // A part of the rows is that part of the whole.
    let mut some = vec![BlockAWQ4 { d: [0; 2], z: 0, qs: [0; 64] }; 8 * groups];
    matrix.gather(8, &mut some);
    assert_eq!(some, quant::blocks::<BlockAWQ4>(&rows)[8 * groups..16 * groups]);
}

#[test]
fn encoding_is_right_to_half_a_step() {
    for (low, high) in [(-1.0_f32, 1.0_f32), (0.0, 3.0), (-0.5, 0.0), (-1e-3, 7e-3), (0.0, 0.0)] {
        let values: Vec<f32> = (0..128).map(|i| low + (high - low) * i as f32 / 127.0).collect();
        let mut decoded = [0.0; 128];
        BlockAWQ4::encode(&values).decode(&mut decoded);
        let step = (high - low) / 15.0;
        for (a, b) in values.iter().zip(decoded) {
            // The zero point is rounded as well, which moves the ends by up to half a step more.
            assert!((a - b).abs() <= 1.01 * step, "{low} to {high}: {a} became {b}");
        }
    }
}

#[test]
fn tensors_of_other_sizes_are_refused() {
    let sizes = |qweight: usize, qzeros: usize, scales: usize, shape| {
        Matrix::new(shape, &vec![0; qweight], &vec![0; qzeros], &vec![0; scales]).map(|_| ())
    };
    let good = (128, 8);
    sizes(512, 4, 16, good).expect("the base case");
    for (q, z, s, what) in [(508, 4, 16, "qweight"), (512, 8, 16, "qzeros"), (512, 4, 15, "scales")] {
        let error = sizes(q, z, s, good).expect_err("refused");
        assert!(error.contains(what), "{error}");
    }
    for shape in [(0, 8), (64, 8), (128, 0), (128, 7), (usize::MAX, 8), (128, usize::MAX - 7)] {
        assert!(sizes(512, 4, 16, shape).is_err(), "{shape:?}");
    }
}
