//! Block tables of every kind.

use quarry_model::executor::BlockCopy;
use quarry_model::ids::BlockId;
use quarry_tiny::random;

use crate::Outcome;
use crate::rig::{BLOCKS, Bench, TestRow, at, table};

/// Blocks in random order among blocks full of other sequences.
pub fn shuffled(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 100);
    let noise = bench.prompt(9, 150);
    let expected = bench.whole(&tokens)?;
    let count = 100_usize.div_ceil(bench.options.block_tokens);
    for seed in 0..3 {
        let mut order = table(0, BLOCKS);
        order.sort_by_key(|block| random::value(seed, "order", u64::from(block.0)).to_bits());
        let mut rig = bench.rig()?;
        rig.fill(&noise, &table(0, BLOCKS))?;
        let vocab = rig.vocab;
        let first = TestRow::part(&tokens, 0..61, &order[..count]);
        rig.expect("shuffled", first, at(&expected, vocab, 0..61))?;
        // The table may be longer than the row needs.
        let second = TestRow::part(&tokens, 61..100, &order[..count + 4]);
        rig.expect("shuffled", second, at(&expected, vocab, 61..100))?;
    }
    Ok(())
}

/// Two rows of one batch read the same full blocks.
pub fn shared_prefix(bench: &mut Bench<'_>) -> Outcome {
    let block_tokens = bench.options.block_tokens;
    let prefix = 2 * block_tokens;
    let mut first = bench.prompt(0, prefix + 9);
    let mut second = bench.prompt(1, prefix + 5);
    second[..prefix].copy_from_slice(&first[..prefix]);
    let (whole_first, whole_second) = (bench.whole(&first)?, bench.whole(&second)?);
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    let shared = [BlockId(7), BlockId(2)];
    rig.logits(&[TestRow::part(&first, 0..prefix, &shared)])?;
    let with = |own: u32| [shared[0], shared[1], BlockId(own)];
    rig.expect_all(
        "shared prefix",
        &[
            (
                TestRow::part(&first, prefix..prefix + 9, &with(3)),
                at(&whole_first, vocab, prefix..prefix + 9),
            ),
            (
                TestRow::part(&second, prefix..prefix + 5, &with(9)),
                at(&whole_second, vocab, prefix..prefix + 5),
            ),
        ],
    )?;
    // And the first goes on as if nobody had shared.
    first.push(1);
    let end = first.len();
    let expected = bench.whole(&first)?;
    rig.expect(
        "after sharing",
        TestRow::part(&first, end - 1..end, &with(3)),
        at(&expected, vocab, end - 1..end),
    )
}

/// A sequence forks within a block: both continue in blocks of their own.
pub fn copied(bench: &mut Bench<'_>) -> Outcome {
    let block_tokens = bench.options.block_tokens;
    let prefix = block_tokens + block_tokens / 2;
    let first = bench.prompt(0, prefix + 4);
    let mut second = bench.prompt(1, prefix + 4);
    second[..prefix].copy_from_slice(&first[..prefix]);
    let (whole_first, whole_second) = (bench.whole(&first)?, bench.whole(&second)?);
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    rig.fill(&bench.prompt(9, 50), &table(0, BLOCKS))?;
    rig.logits(&[TestRow::part(&first, 0..prefix, &table(0, 2))])?;
    let copies = [BlockCopy { from: BlockId(1), to: BlockId(50) }];
    rig.executor.copy_blocks(&copies).map_err(|error| error.to_string())?;
    let range = prefix..prefix + 4;
    rig.expect_all(
        "forked",
        &[
            (
                TestRow::part(&second, range.clone(), &[BlockId(0), BlockId(50)]),
                at(&whole_second, vocab, range.clone()),
            ),
            (TestRow::part(&first, range.clone(), &table(0, 2)), at(&whole_first, vocab, range.clone())),
        ],
    )
}

/// A later copy reads what an earlier one of the same call wrote.
pub fn copies_in_order(bench: &mut Bench<'_>) -> Outcome {
    let prefix = bench.options.block_tokens;
    let tokens = bench.prompt(0, prefix + 4);
    let expected = bench.whole(&tokens)?;
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    rig.fill(&bench.prompt(9, 50), &table(0, BLOCKS))?;
    rig.logits(&[TestRow::part(&tokens, 0..prefix, &[BlockId(4)])])?;
    let copy = |from, to| BlockCopy { from: BlockId(from), to: BlockId(to) };
    let copies = [copy(4, 11), copy(11, 63), copy(5, 11), copy(5, 4)];
    rig.executor.copy_blocks(&copies).map_err(|error| error.to_string())?;
    let row = TestRow::part(&tokens, prefix..prefix + 4, &[BlockId(63), BlockId(1)]);
    rig.expect("copied twice", row, at(&expected, vocab, prefix..prefix + 4))
}
