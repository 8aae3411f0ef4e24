//! What the kernels of a decode step load, beside the byte model that bounds on speed are made of (`layout/src/step.rs`).
//!
//! The fake driver counts sectors of 32 bytes, each once a launch: what a card moves whose caches keep nothing between
//! launches. Matrices, keys and values are counted; norms and rows of the embedding are plain loads that it does not see,
//! below 1 % of these models and less of real ones.

mod support;

use quarry_cuda_layout::decode_bytes;
use quarry_model::executor::{Row, StepResult};
use quarry_model::ids::BlockId;
use quarry_tiny::{TensorType, TinyModel};
use support::{BLOCK_TOKENS, FakeDriver, Rig};

/// Blocks of the arena.
const BLOCKS: u32 = 80;
/// How far the count may be from the model, either way.
const TOLERANCE: f64 = 0.05;

/// Runs `positions - 1` tokens in each row's blocks, then a decode step of all rows; what that loads of weights and KV.
fn decode(rig: &mut Rig, rows: u32, positions: usize) -> (u64, u64) {
    let blocks = (positions.div_ceil(BLOCK_TOKENS)) as u32;
    let tables: Vec<Vec<BlockId>> =
        (0..rows).map(|row| (row * blocks..(row + 1) * blocks).map(BlockId).collect()).collect();
    let tokens: Vec<u32> = (0..positions as u32 - 1).map(|n| 10 + n * 7 % 180).collect();
    for table in &tables {
        for (n, part) in tokens.chunks(64).enumerate() {
            rig.run(part, 64 * n, table, &mut StepResult::default()).unwrap();
        }
    }
    let last: Vec<Row<'_>> = tables
        .iter()
        .map(|table| Row { tokens: &[5], first_position: positions - 1, blocks: table, wanted: &[0] })
        .collect();
    let driver = FakeDriver::get();
    driver.watch_loads();
    rig.rows(&last, &mut StepResult::default()).unwrap();
    let loads = driver.loads();
    let weight_bytes = rig.weight_bytes as u64;
    let arena_bytes = rig.block_bytes as u64 * u64::from(BLOCKS);
    let of = |size: u64| {
        let slack = size / 100;
        let mut found = loads.iter().filter(|of| of.size.abs_diff(size) <= slack);
        let one = found.next().unwrap_or_else(|| panic!("nothing of {size} bytes in {loads:?}"));
        assert!(found.next().is_none(), "two allocations of about {size} bytes: {loads:?}");
        *one
    };
    // The weights are as large as was said, but for where pieces begin.
    let weights = of(weight_bytes);
    assert!(weights.size.abs_diff(weight_bytes) <= 4096, "{weights:?} is not {weight_bytes}");
    (weights.bytes, of(arena_bytes).bytes)
}

/// One test, for the driver's counts are the process's.
#[test]
fn a_decode_step_loads_what_the_byte_model_says() {
    let (qwen3, tied, llama) = (TinyModel::qwen3(), TinyModel::qwen3_tied(), TinyModel::llama());
    for (model, kind, rows, positions) in [
        (qwen3, TensorType::Q4K, 1, 32),
        (qwen3, TensorType::Q4K, 4, 96),
        (qwen3, TensorType::Q8_0, 1, 288),
        (tied, TensorType::Q6K, 2, 64),
        (tied, TensorType::F16, 8, 32),
        (llama, TensorType::Q4_0, 3, 64),
    ] {
        let mut rig = Rig::new(model, kind, BLOCKS as usize).unwrap();
        let (weights, kv) = decode(&mut rig, rows, positions);
        let said = decode_bytes(&rig.files.spec, rig.files.weights.tensors(), rows as usize, positions);
        let (loaded, model_bytes) = ((weights + kv) as f64, said.sum() as f64);
        let off = loaded / model_bytes - 1.0;
        println!(
            "{:<10} {:<5} {rows} rows of {positions:>3} positions: weights {weights:>8} loaded, {:>8} by the model; \
             KV {kv:>7}, {:>7}; in all {:+.1} %",
            model.name,
            kind.name(),
            said.weights + said.embedding,
            said.kv,
            100.0 * off
        );
        assert!(off.abs() <= TOLERANCE, "{kind:?} {rows} x {positions}: {off}");
        let kv_off = kv as f64 / said.kv as f64 - 1.0;
        assert!(kv_off.abs() <= TOLERANCE, "keys and values alone: {kv_off}");
    }
}
