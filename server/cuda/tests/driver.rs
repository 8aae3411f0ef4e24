//! What a step asks of the driver, and what happens when the driver says no.

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quarry_cuda::{Holding, KvKind};
use quarry_model::backend::{Backend as _, BackendError, ModelFiles};
use quarry_model::executor::{AheadRow, Batch, ExecError, Row, StepResult, SwapDone};
use quarry_model::ids::{BlockId, HostBlockId, SwapId};
use quarry_model::kv::HostPool;
use quarry_model::plan::{BlockMove, Direction};
use quarry_model::request::SamplingParams;
use quarry_model::sampler::SampleRow;
use quarry_tiny::{HubWeights, TensorType, TinyModel};
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

/// A shape of decode steps runs by itself once, is recorded the second time and launched whole from then on, whatever the
/// sequences' lengths; the numbers stay the same. A driver that does not record is asked once.
#[test]
fn decode_steps_of_one_shape_are_one_launch() {
    let _alone = alone();
    let driver = FakeDriver::get();
    let blocks = table(0, 4);
    let mut expected = Vec::new();
    for refuses in [false, true] {
        let mut rig = Rig::new(TinyModel::qwen3(), TensorType::Q4K, 8).unwrap();
        rig.step(&[1, 2, 3, 4, 5], 0, &blocks).unwrap();
        for (step, position) in (5..40).enumerate() {
            if refuses && step == 1 {
                driver.fail_launch(7);
            }
            let before = driver.counters();
            let logits = rig.step(&[position as u32], position, &blocks).unwrap();
            let after = driver.counters();
            let recorded = u64::from(step > 0 && !refuses);
            assert_eq!(after.graph_launches - before.graph_launches, recorded, "step {step}");
            match refuses {
                false => expected.push(logits),
                true => assert_eq!(logits, expected[step], "step {step}"),
            }
        }
    }
}

/// Five drafts of two rows fill a bucket of 16 tokens, of which five are nobody's: the cache stays as it is.
#[test]
fn a_bucket_is_filled_with_tokens_that_leave_nothing_behind() {
    let _alone = alone();
    let mut rig = Rig::new(TinyModel::qwen3(), TensorType::Q8_0, 8).unwrap();
    let tokens: Vec<u32> = (30..60).collect();
    let expected = rig.step(&tokens, 0, &table(0, 2)).unwrap();
    rig.step(&tokens[..29], 0, &table(0, 2)).unwrap();
    let draft = [9, 8, 7, 6, 5];
    let tables = [table(0, 2), table(2, 1), table(3, 1), table(4, 1)];
    let [own, second, third, fourth] = &tables;
    for _ in 0..3 {
        let row = |blocks| Row { tokens: &draft, first_position: 0, blocks, wanted: &[0, 4] };
        rig.batch(&[row(second), row(third)]).unwrap();
        let one = Row { tokens: &draft[..1], first_position: 0, blocks: fourth, wanted: &[] };
        let last = Row { tokens: &tokens[29..], first_position: 29, blocks: own, wanted: &[0] };
        assert_eq!(rig.batch(&[one, row(second), last]).unwrap()[2 * rig.vocab..], expected);
    }
}

/// The first step begins while weights are on their way, in whatever order the driver carries streams out.
#[test]
fn the_first_step_waits_for_each_layer() {
    let _alone = alone();
    let tokens: Vec<u32> = (10..40).collect();
    let mut expected: Vec<f32> = Vec::new();
    for seed in 0..20 {
        FakeDriver::get().set_seed(seed);
        let mut rig = Rig::new(TinyModel::qwen3(), TensorType::Q8_0, 8).unwrap();
        let first = rig.step(&tokens, 0, &table(0, 3)).unwrap();
        assert_eq!(rig.step(&tokens, 0, &table(0, 3)).unwrap(), first, "seed {seed}");
        match expected.is_empty() {
            true => expected = first,
            false => assert_eq!(first, expected, "seed {seed}"),
        }
        // One that is dropped before its weights have come leaves nothing in the way.
        drop(Rig::new(TinyModel::qwen3(), TensorType::Q8_0, 8).unwrap());
    }
}

/// Each step is queued behind the draw of the one before, whatever order the driver carries streams out in, and while
/// blocks of another sequence are swapped.
#[test]
fn steps_ahead_read_what_was_drawn() {
    let _alone = alone();
    let params = SamplingParams { temperature: 0.8, seed: 3, ..SamplingParams::default() };
    let prompt = [1, 2, 3, 4, 5];
    let mut expected: Vec<u32> = Vec::new();
    for seed in 0..20 {
        FakeDriver::get().set_seed(seed);
        let mut rig = Rig::new(TinyModel::qwen3(), TensorType::Q8_0, 8).unwrap();
        let blocks = table(0, 3);
        let host = HostPool::new(4 * rig.block_bytes.next_multiple_of(64)).unwrap();
        let out = [BlockMove { device: BlockId(6), host: HostBlockId(0), direction: Direction::Out }];
        let wanted = [4];
        let row = Row { tokens: &prompt, first_position: 0, blocks: &blocks, wanted: &wanted };
        let mut ticket = rig.executor.submit(&Batch::new(&[row])).unwrap();
        let mut drawn: Vec<u32> = Vec::new();
        while drawn.len() < 30 {
            let sample = SampleRow { prompt: &prompt, output: &drawn, ..SampleRow::new(&params) };
            let ahead = [AheadRow { sample: 0, position: prompt.len() + drawn.len(), blocks: &blocks }];
            let mut result = StepResult::default();
            let next = rig.executor.finish_ahead(ticket, &[sample], &ahead, &mut result).unwrap();
            ticket = next.expect("nothing was left to the host");
            drawn.push(result.sampled[0].token);
            if drawn.len().is_multiple_of(10) {
                swap(&mut rig, &host, &out);
            }
        }
        match expected.is_empty() {
            true => expected = drawn,
            false => assert_eq!(drawn, expected, "seed {seed}"),
        }
    }
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

/// Fewer bytes, nearly the same logits, and not quite: the choice has come where it is meant.
#[test]
fn eight_bits_take_less_and_answer_nearly_the_same() {
    let _alone = alone();
    let tokens: Vec<u32> = (1..50).collect();
    let model = TinyModel::qwen3();
    let run = |holding| {
        let mut rig = Rig::with(holding, model, TensorType::BF16, 8).unwrap();
        let logits = rig.step(&tokens, 0, &table(0, 4)).unwrap();
        (logits, rig.block_bytes, rig.weight_bytes)
    };
    let (expected, block_bytes, weight_bytes) = run(Holding::default());
    let largest = expected.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    model.write(&path, TensorType::BF16).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    let kv = KvKind::Int8;
    let holdings = [Holding { kv, ..Holding::default() }, Holding { int8_head: true, ..Holding::default() }];
    for holding in holdings {
        let (logits, less_block, less_weight) = run(holding);
        let apart = logits.iter().zip(&expected).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        let share = apart / largest;
        assert!(share > 0.0 && share < 0.03, "{holding:?}: {share}");
        let scaled = block_bytes / (2 * model.head_dim) * (model.head_dim + 4);
        assert_eq!(less_block, if holding.kv == kv { scaled } else { block_bytes }, "{holding:?}");
        // 9 bits of 16, in tiles of 16 rows; pieces begin at multiples of 256 bytes.
        let head = model.vocab().next_multiple_of(16) * model.hidden * 7 / 8;
        let saved = if holding.int8_head { head } else { 0 };
        assert!((weight_bytes - less_weight).abs_diff(saved) < 512, "{holding:?}");
        let read = |holding: Holding| holding.decode_bytes(&files.spec, files.weights.tensors(), 2, 100);
        let (most, least) = (read(Holding::default()), read(holding));
        assert_eq!(most.weights - least.weights, saved, "{holding:?}");
        assert_eq!(least.kv * block_bytes, most.kv * less_block, "{holding:?}");
    }
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
    // Too many to be recorded.
    let tokens: Vec<u32> = (1..20).collect();
    let expected = rig.step(&tokens, 0, &blocks).unwrap();
    let driver = FakeDriver::get();
    for n in [1, 7, 20] {
        driver.fail_launch(n);
        let error = rig.step(&tokens, 0, &blocks).unwrap_err();
        assert!(matches!(&error, ExecError::Device(what) if what.contains("OUT_OF_RESOURCES")), "{error}");
    }
    assert_eq!(rig.step(&tokens, 0, &blocks).unwrap(), expected, "the next step is as good as before");
}

/// Whatever order the driver carries streams out in: a block that leaves is read after the step that wrote it, and one
/// that comes is there before the step that reads it.
#[test]
fn swaps_wait_for_steps_and_steps_for_swaps() {
    let _alone = alone();
    let (expected, found) = swapped(30);
    for (seed, found) in found.iter().enumerate() {
        assert_eq!(*found, expected, "seed {seed}");
    }
}

/// A planted mistake: what the test above would say if streams did not wait for each other.
#[test]
fn a_swap_that_waits_for_nothing_is_found() {
    let _alone = alone();
    support::backend(); // the driver has begun
    FakeDriver::get().forget_waits(true);
    let ran = std::panic::catch_unwind(|| swapped(30));
    FakeDriver::get().forget_waits(false);
    let (expected, found) = ran.unwrap();
    assert!(found.iter().any(|found| *found != expected), "no order of streams shows it");
}

/// Logits of a token behind two blocks that never moved; and behind blocks that were swapped out and back to other places,
/// while their own were overwritten, for so many orders of the driver's streams.
fn swapped(seeds: u64) -> (Vec<f32>, Vec<Vec<f32>>) {
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
    // Nothing is wanted of the rows that write, so that nobody waits for them but the swap.
    let write = |rig: &mut Rig, tokens: &[u32]| {
        let blocks = table(0, 2);
        let row = Row { tokens, first_position: 0, blocks: &blocks, wanted: &[] };
        rig.executor.submit(&Batch::new(&[row])).unwrap();
    };
    let mut found = Vec::new();
    for seed in 0..seeds {
        FakeDriver::get().set_seed(seed);
        write(&mut rig, &tokens);
        swap(&mut rig, &host, &out);
        // What was there is overwritten, and what comes back lies elsewhere.
        let other: Vec<u32> = tokens.iter().map(|token| token + 50).collect();
        write(&mut rig, &other);
        swap(&mut rig, &host, &back);
        let blocks = [table(4, 2), table(6, 1)].concat();
        found.push(rig.step(&[7], tokens.len(), &blocks).unwrap());
    }
    (expected, found)
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

/// A planted mistake: zero points read in another order than the file's nibbles have.
#[test]
fn zero_points_in_another_order_are_found() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    TinyModel::qwen3().write_hub(folder.path(), HubWeights::Awq, 1).unwrap();
    let tokens: Vec<u32> = (1..20).collect();
    let logits = |folder: &std::path::Path| {
        let mut rig = Rig::open(Holding::default(), ModelFiles::open(folder).unwrap(), 8).unwrap();
        rig.step(&tokens, 0, &table(0, 2)).unwrap()
    };
    let expected = logits(folder.path());
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..head]).unwrap();
    for (_, tensor) in header.as_object().unwrap().iter().filter(|(name, _)| name.ends_with(".qzeros")) {
        let [begin, end] = [0, 1].map(|at| head + tensor["data_offsets"][at].as_u64().unwrap() as usize);
        for word in bytes[begin..end].as_chunks_mut::<4>().0 {
            // 0 2 4 6 1 3 5 7 becomes 0 1 2 3 4 5 6 7.
            let nibbles = u32::from_le_bytes(*word);
            let nibble = |at: usize| nibbles >> (4 * at) & 15;
            let order = [0, 4, 1, 5, 2, 6, 3, 7];
            let moved = order.iter().enumerate().fold(0, |all, (at, from)| all | nibble(*from) << (4 * at));
            *word = moved.to_le_bytes();
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let found = logits(folder.path());
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    let worst = expected.iter().zip(&found).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    let allowed = Rig::open(Holding::default(), ModelFiles::open(folder.path()).unwrap(), 8)
        .unwrap()
        .executor
        .caps()
        .logits_error_max;
    assert!(worst > 2.0 * allowed * largest, "{worst} of {largest} is within the suite's bound");
}
