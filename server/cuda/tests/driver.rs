//! What a step asks of the driver, and what happens when the driver says no.

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quarry_model::backend::{Backend as _, BackendError};
use quarry_model::executor::{ExecError, Row, StepResult, SwapDone};
use quarry_model::ids::{BlockId, HostBlockId, SwapId};
use quarry_model::kv::HostPool;
use quarry_model::plan::{BlockMove, Direction};
use quarry_tiny::{TensorType, TinyModel};
use support::{BLOCK_TOKENS, FakeDriver, Rig};

/// The driver's settings are the process's, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn table(first: u32, count: u32) -> Vec<BlockId> {
    (first..first + count).map(BlockId).collect()
}

#[test]
fn a_decode_step_launches_no_more_than_its_budget() {
    let _alone = alone();
    let model = TinyModel::qwen3();
    let mut rig = Rig::new(model, TensorType::Q4K, 8).unwrap();
    let driver = FakeDriver::get();
    let blocks = table(0, 2);
    rig.step(&[1, 2, 3, 4, 5], 0, &blocks).unwrap();
    let before = driver.counters();
    let mut out = StepResult::default();
    rig.run(&[6], 5, &blocks, &mut out).unwrap();
    let after = driver.counters();
    // A layer: norm, three products, rope, attention and its merge, rounding, product, norm, two products, silu, product.
    // Before and behind: embedding, the wanted row, norm, head, the draw.
    let launches = after.launches - before.launches;
    println!("{launches} launches of a decode step of {} layers", model.layers);
    assert_eq!(launches, 14 * model.layers as u64 + 5);
    let sent = after.bytes_host_to_device - before.bytes_host_to_device;
    assert!(sent <= 176, "{sent} bytes for one token and its draw");
    assert_eq!(after.bytes_device_to_host - before.bytes_device_to_host, 4, "the drawn token");
    assert_eq!((out.sampled.len(), out.logits.len()), (1, 0));
    assert_eq!(after.bytes_device_to_device, before.bytes_device_to_device);
}

/// Rows of few tokens go through other kernels than rows of many, in an order that is not the batch's: nobody sees it.
#[test]
fn long_and_short_rows_in_one_batch_get_the_bits_they_get_alone() {
    let _alone = alone();
    let model = TinyModel::qwen3();
    let layers = model.layers as u64;
    let mut rig = Rig::new(model, TensorType::Q8_0, 8).unwrap();
    let tokens: Vec<u32> = (20..53).collect();
    let [first, second, third] = [table(0, 3), table(3, 1), table(4, 1)];
    let all: Vec<usize> = (0..tokens.len()).collect();
    // The first row a few tokens at a time, the others whole.
    let mut expected = Vec::new();
    for (n, part) in tokens.chunks(7).enumerate() {
        let wanted = &all[..part.len()];
        let row = Row { tokens: part, first_position: 7 * n, blocks: &first, wanted };
        expected.extend(rig.batch(&[row]).unwrap());
    }
    expected.extend(rig.step(&[5, 6, 7], 0, &second).unwrap());
    expected.extend(rig.step(&tokens[..12], 0, &third).unwrap());
    let rows = [
        Row { tokens: &tokens, first_position: 0, blocks: &first, wanted: &all },
        Row { tokens: &[5, 6, 7], first_position: 0, blocks: &second, wanted: &[2] },
        Row { tokens: &tokens[..12], first_position: 0, blocks: &third, wanted: &[11] },
    ];
    let before = FakeDriver::get().counters().launches;
    assert_eq!(rig.batch(&rows).unwrap(), expected);
    // One launch a layer more than a decode step's.
    assert_eq!(FakeDriver::get().counters().launches - before, 15 * layers + 5);
    assert_eq!(rig.batch(&rows[..1]).unwrap(), expected[..tokens.len() * rig.vocab]);
    assert_eq!(FakeDriver::get().counters().launches - before, 15 * layers + 5 + 13 * layers + 5);
}

#[test]
fn memory_that_is_not_there_is_asked_for_in_numbers() {
    let _alone = alone();
    let driver = FakeDriver::get();
    support::backend(); // the driver has begun
    driver.set_memory_bytes(8 << 20);
    let refused = Rig::new(TinyModel::qwen3(), TensorType::Q8_0, 4096).err();
    driver.set_memory_bytes(1 << 30);
    let Some(BackendError::Memory { what, needed_bytes, free_bytes }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(what, "the KV cache");
    assert!(needed_bytes > free_bytes && free_bytes <= 8 << 20, "{needed_bytes} {free_bytes}");
    Rig::new(TinyModel::qwen3(), TensorType::Q8_0, 8).unwrap();
}

/// Memory that others hold is not promised again.
#[test]
fn the_budget_is_what_is_free_where_that_is_less() {
    let _alone = alone();
    let mut first = support::backend();
    let before = first.own_memory_bytes().unwrap();
    assert_eq!(before, ((1u64 << 30) as f64 * 0.85) as u64, "its share of 1 GiB");
    let held = first.arena(600 << 20, 1).unwrap();
    let now = support::backend().own_memory_bytes().unwrap();
    assert!(now <= 424 << 20 && now > 400 << 20, "{now}");
    drop(held);
    assert_eq!(support::backend().own_memory_bytes().unwrap(), before);
}

#[test]
fn a_launch_that_fails_is_the_devices_failure() {
    let _alone = alone();
    let mut rig = Rig::new(TinyModel::qwen3(), TensorType::Q8_0, 8).unwrap();
    let blocks = table(0, 2);
    let expected = rig.step(&[1, 2, 3], 0, &blocks).unwrap();
    let driver = FakeDriver::get();
    for n in [1, 7, 20] {
        driver.fail_launch(n);
        let error = rig.step(&[1, 2, 3], 0, &blocks).unwrap_err();
        assert!(matches!(&error, ExecError::Device(what) if what.contains("OUT_OF_RESOURCES")), "{error}");
    }
    assert_eq!(rig.step(&[1, 2, 3], 0, &blocks).unwrap(), expected, "the next step is as good as before");
}

/// Whatever order the driver carries streams out in: a block that leaves is read after the step that wrote it, and one
/// that comes is there before the step that reads it.
#[test]
fn swaps_wait_for_steps_and_steps_for_swaps() {
    let _alone = alone();
    let tokens: Vec<u32> = (10..10 + 2 * BLOCK_TOKENS as u32).collect();
    let mut rig = Rig::new(TinyModel::qwen3(), TensorType::Q8_0, 8).unwrap();
    let expected = {
        rig.step(&tokens, 0, &table(0, 2)).unwrap();
        rig.step(&[7], tokens.len(), &table(0, 3)).unwrap()
    };
    let host = HostPool::new(4 * rig.block_bytes.next_multiple_of(64)).unwrap();
    let place = |n: usize| HostBlockId((n * rig.block_bytes.next_multiple_of(64) / 64) as u32);
    let moves = |blocks: &[BlockId], direction| -> Vec<BlockMove> {
        let all = blocks.iter().enumerate();
        all.map(|(n, &device)| BlockMove { device, host: place(n), direction }).collect()
    };
    let (out, back) = (moves(&table(0, 2), Direction::Out), moves(&table(4, 2), Direction::In));
    for seed in 0..30 {
        FakeDriver::get().set_seed(seed);
        rig.step(&tokens, 0, &table(0, 2)).unwrap();
        swap(&mut rig, &host, &out);
        // What was there is overwritten, and what comes back lies elsewhere.
        let other: Vec<u32> = tokens.iter().map(|token| token + 50).collect();
        rig.step(&other, 0, &table(0, 2)).unwrap();
        swap(&mut rig, &host, &back);
        let blocks = [table(4, 2), table(6, 1)].concat();
        assert_eq!(rig.step(&[7], tokens.len(), &blocks).unwrap(), expected, "seed {seed}");
    }
}

fn swap(rig: &mut Rig, host: &HostPool, moves: &[BlockMove]) {
    rig.kv.swap(SwapId(1), host, moves).unwrap();
    let mut done: Vec<SwapDone> = Vec::new();
    for _ in 0..10_000 {
        rig.kv.poll(&mut done);
        if !done.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    done.pop().expect("the swap ends").result.unwrap();
}
