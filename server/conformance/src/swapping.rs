//! Blocks to the host and back.

use std::thread;
use std::time::Duration;

use quarry_model::executor::SwapDone;
use quarry_model::ids::{BlockId, SwapId};
use quarry_model::kv::HostPool;
use quarry_model::plan::{BlockMove, Direction};

use crate::Outcome;
use crate::rig::{BLOCKS, Bench, Rig, TestRow, at, table};

/// Polls of a swap, a millisecond apart.
const POLLS_MAX: usize = 10_000;

/// Moves of `blocks` to or from the host blocks from the one with the number `first` on.
pub fn moves(bench: &Bench<'_>, blocks: &[BlockId], first: usize, direction: Direction) -> Vec<BlockMove> {
    let host = (first..).map(|number| bench.host_block(number));
    blocks.iter().zip(host).map(|(&device, host)| BlockMove { device, host, direction }).collect()
}

fn order(rig: &mut Rig, id: u64, host: &HostPool, moves: &[BlockMove]) -> Outcome {
    rig.kv.swap(SwapId(id), host, moves).map_err(|error| error.to_string())
}

/// Polls until every one of `orders` (id, blocks) has ended, once and well.
fn wait(rig: &mut Rig, orders: &[(u64, usize)]) -> Outcome {
    let mut done: Vec<SwapDone> = Vec::new();
    for _ in 0..POLLS_MAX {
        rig.kv.poll(&mut done);
        if done.len() >= orders.len() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    rig.kv.poll(&mut done);
    if done.len() != orders.len() {
        return Err(format!("{} swaps ended, {} were ordered", done.len(), orders.len()));
    }
    let block_bytes = rig.executor.caps().block_bytes;
    for &(id, blocks) in orders {
        let found = done.iter().find(|swap| swap.id == SwapId(id));
        let found = found.ok_or_else(|| format!("swap {id} never ended"))?;
        if let Err(error) = &found.result {
            return Err(format!("swap {id}: {error}"));
        }
        if found.bytes != blocks * block_bytes {
            return Err(format!("swap {id} says {} bytes, {blocks} blocks were moved", found.bytes));
        }
    }
    Ok(())
}

/// Out, the device blocks overwritten, in elsewhere, on.
pub fn round_trip(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 45);
    let expected = bench.whole(&tokens)?;
    let count = 45_usize.div_ceil(bench.options.block_tokens);
    let (before, after) = (table(2, count), table(30, count));
    let host = bench.host(count + 5)?;
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    rig.logits(&[TestRow::part(&tokens, 0..40, &before)])?;
    order(&mut rig, 1, &host, &moves(bench, &before, 5, Direction::Out))?;
    wait(&mut rig, &[(1, count)])?;
    rig.fill(&bench.prompt(9, 50), &table(0, BLOCKS))?;
    order(&mut rig, 2, &host, &moves(bench, &after, 5, Direction::In))?;
    wait(&mut rig, &[(2, count)])?;
    rig.expect("swapped in", TestRow::part(&tokens, 40..45, &after), at(&expected, vocab, 40..45))
}

/// Two orders under way while a third sequence runs; nobody polls before the end.
pub fn late_polls(bench: &mut Bench<'_>) -> Outcome {
    let tokens: Vec<_> = (0..3).map(|salt| bench.prompt(salt, 40)).collect();
    let mut whole = Vec::new();
    for tokens in &tokens {
        whole.push(bench.whole(tokens)?);
    }
    let count = 40_usize.div_ceil(bench.options.block_tokens);
    let host = bench.host(50 + count)?;
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    let at_block = |i: usize| table(i * count, count);
    for (i, tokens) in tokens.iter().enumerate() {
        rig.logits(&[TestRow::part(tokens, 0..30, &at_block(i))])?;
    }
    order(&mut rig, 10, &host, &moves(bench, &at_block(0), 0, Direction::Out))?;
    order(&mut rig, 11, &host, &moves(bench, &at_block(1), 50, Direction::Out))?;
    rig.expect(
        "beside swaps",
        TestRow::part(&tokens[2], 30..40, &at_block(2)),
        at(&whole[2], vocab, 30..40),
    )?;
    wait(&mut rig, &[(11, count), (10, count)])?;
    // They come back into each other's places.
    order(&mut rig, 12, &host, &moves(bench, &at_block(1), 0, Direction::In))?;
    order(&mut rig, 13, &host, &moves(bench, &at_block(0), 50, Direction::In))?;
    wait(&mut rig, &[(12, count), (13, count)])?;
    rig.expect_all(
        "exchanged",
        &[
            (TestRow::part(&tokens[0], 30..40, &at_block(1)), at(&whole[0], vocab, 30..40)),
            (TestRow::part(&tokens[1], 30..40, &at_block(0)), at(&whole[1], vocab, 30..40)),
        ],
    )
}

/// A suspended sequence goes on in a new executor.
pub fn outlives(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 45);
    let expected = bench.whole(&tokens)?;
    let count = 45_usize.div_ceil(bench.options.block_tokens);
    let host = bench.host(count)?;
    let arena = bench.arena()?;
    let mut rig = bench.rig_in(&arena)?;
    rig.logits(&[TestRow::part(&tokens, 0..40, &table(0, count))])?;
    order(&mut rig, 1, &host, &moves(bench, &table(0, count), 0, Direction::Out))?;
    wait(&mut rig, &[(1, count)])?;
    drop(rig);
    let mut rig = bench.rig_in(&arena)?;
    let vocab = rig.vocab;
    rig.fill(&bench.prompt(9, 50), &table(0, BLOCKS))?;
    order(&mut rig, 1, &host, &moves(bench, &table(20, count), 0, Direction::In))?;
    wait(&mut rig, &[(1, count)])?;
    rig.expect("resumed", TestRow::part(&tokens, 40..45, &table(20, count)), at(&expected, vocab, 40..45))
}
