//! What an executor must refuse, and still work afterwards.

use quarry_model::executor::{BlockCopy, ExecError, StepResult, StepTicket};
use quarry_model::ids::{BlockId, HostBlockId, SwapId};
use quarry_model::plan::{BlockMove, Direction};
use quarry_model::sampler::SampleRow;

use crate::Outcome;
use crate::rig::{BATCH_ROWS, BATCH_TOKENS, BLOCKS, Bench, TestRow, at, greedy, table};
use crate::swapping::moves as to_moves;

/// Batches that break a bound, each beside a good row, which must not be written either.
pub fn batches(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 40);
    let block_tokens = bench.options.block_tokens;
    let expected = bench.whole(&tokens)?;
    let blocks = table(0, 40_usize.div_ceil(block_tokens));
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    rig.logits(&[TestRow::part(&tokens, 0..30, &blocks)])?;

    let good = TestRow::part(&[9], 0..1, &table(60, 1));
    let row = |tokens: &[u32], first: usize, blocks: &[BlockId], wanted: &[usize]| TestRow {
        tokens: tokens.to_vec(),
        first,
        blocks: blocks.to_vec(),
        wanted: wanted.to_vec(),
    };
    let far = BlockId(rig.kv.blocks() as u32);
    let one = table(61, 1);
    let bad: Vec<(&str, Vec<TestRow>)> = vec![
        ("a token outside the vocabulary", vec![row(&[1, vocab as u32], 0, &one, &[])]),
        ("the largest token", vec![row(&[u32::MAX], 0, &one, &[])]),
        ("a block out of range", vec![row(&[1], 0, &[far], &[0])]),
        ("a block far out of range", vec![row(&[1], 0, &[BlockId(u32::MAX)], &[0])]),
        ("a table too short", vec![row(&vec![1; block_tokens + 1], 0, &one, &[])]),
        ("a table too short for its position", vec![row(&[1], block_tokens, &one, &[0])]),
        ("no table", vec![row(&[1], 0, &[], &[0])]),
        ("a position beyond all", vec![row(&[1], usize::MAX, &one, &[0])]),
        ("an empty row", vec![row(&[], 0, &one, &[])]),
        ("a wanted offset beyond the row", vec![row(&[1, 2], 0, &one, &[2])]),
        ("wanted offsets that descend", vec![row(&[1, 2], 0, &one, &[1, 0])]),
        ("a wanted offset twice", vec![row(&[1, 2], 0, &one, &[1, 1])]),
        ("too many tokens", vec![row(&vec![1; BATCH_TOKENS], 0, &table(40, 20), &[])]),
        ("too many rows", (0..BATCH_ROWS).map(|i| row(&[1], 0, &table(50 + i, 1), &[0])).collect()),
    ];
    for (what, rows) in bad {
        // The good row would overwrite the sequence's first position if it ran.
        let trap = TestRow { blocks: blocks.clone(), ..good.clone() };
        let rows = [vec![trap], rows].concat();
        match rig.submit(&rows) {
            Err(ExecError::BadBatch(_)) => {}
            Err(other) => return Err(format!("{what}: {other}, expected a bad batch")),
            Ok(_) => return Err(format!("{what} was accepted")),
        }
    }
    rig.expect("after bad batches", TestRow::part(&tokens, 30..40, &blocks), at(&expected, vocab, 30..40))
}

/// `finish` without its `submit`, twice, and with the wrong number of samples.
pub fn tickets(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 12);
    let expected = bench.whole(&tokens)?;
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    let params = greedy();
    let sample = SampleRow::new(&params);
    let mut result = StepResult::default();
    let bad = |what: &str, outcome: Result<(), ExecError>| match outcome {
        Err(ExecError::BadTicket(_)) => Ok(()),
        other => Err(format!("{what}: {other:?}, expected a bad ticket")),
    };
    bad("nothing submitted", rig.executor.finish(StepTicket(1), &[], &mut result))?;
    let blocks = table(0, 2);
    let row = TestRow { wanted: vec![9], ..TestRow::part(&tokens, 0..10, &blocks) };
    let ticket = rig.submit(&[row]).map_err(|error| error.to_string())?;
    let number = ticket.0;
    bad("another ticket", rig.executor.finish(StepTicket(number + 1), &[sample], &mut result))?;
    match rig.executor.finish(StepTicket(number), &[sample; 2], &mut result) {
        Err(ExecError::BadBatch(_)) => {}
        other => return Err(format!("two samples for one position: {other:?}, expected a bad batch")),
    }
    // A refused finish may or may not have used the ticket up; a finished one has.
    let row = TestRow { wanted: vec![0], ..TestRow::part(&tokens, 10..11, &blocks) };
    let ticket = rig.submit(&[row]).map_err(|error| error.to_string())?;
    let number = ticket.0;
    rig.executor.finish(ticket, &[sample], &mut result).map_err(|error| error.to_string())?;
    bad("the same ticket again", rig.executor.finish(StepTicket(number), &[sample], &mut result))?;
    rig.expect("after bad tickets", TestRow::part(&tokens, 11..12, &blocks), at(&expected, vocab, 11..12))
}

/// Copies and swaps of what does not exist; a refused swap moves nothing and is never reported.
pub fn moves(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 40);
    let expected = bench.whole(&tokens)?;
    let count = 40_usize.div_ceil(bench.options.block_tokens);
    let blocks = table(0, count);
    let host = bench.host(2)?;
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    rig.fill(&bench.prompt(9, 50), &table(0, BLOCKS))?;
    // A block of noise in the host pool, which a refused order must not bring in.
    let noise = to_moves(bench, &[BlockId(50)], 0, Direction::Out);
    rig.kv.swap(SwapId(1), &host, &noise).map_err(|error| error.to_string())?;
    let mut done = Vec::new();
    for _ in 0..1000 {
        rig.kv.poll(&mut done);
        if !done.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    rig.logits(&[TestRow::part(&tokens, 0..30, &blocks)])?;

    let bad = |what: &str, outcome: Result<(), ExecError>| match outcome {
        Err(ExecError::BadMove(_)) => Ok(()),
        other => Err(format!("{what}: {other:?}, expected a bad move")),
    };
    let far = BlockId(rig.kv.blocks() as u32);
    let copy = |from, to| BlockCopy { from, to };
    bad("copy from nowhere", rig.executor.copy_blocks(&[copy(far, BlockId(50))]))?;
    bad("copy to nowhere", rig.executor.copy_blocks(&[copy(BlockId(50), far)]))?;
    let into = |device, host| BlockMove { device, host: HostBlockId(host), direction: Direction::In };
    let trap = into(blocks[0], 0);
    let out = |device, host| BlockMove { direction: Direction::Out, ..into(device, host) };
    bad("in to nowhere", rig.kv.swap(SwapId(2), &host, &[trap, into(far, 0)]))?;
    bad("in from nowhere", rig.kv.swap(SwapId(3), &host, &[trap, into(BlockId(50), u32::MAX)]))?;
    bad("out from nowhere", rig.kv.swap(SwapId(4), &host, &[out(far, 1)]))?;
    let beyond = bench.host_block(2).0;
    let too_many = [out(BlockId(50), 0), out(BlockId(51), beyond)];
    bad("out beyond the pool's bound", rig.kv.swap(SwapId(5), &host, &too_many))?;

    done.clear();
    std::thread::sleep(std::time::Duration::from_millis(5));
    rig.kv.poll(&mut done);
    if let Some(swap) = done.first() {
        return Err(format!("refused swap {} was reported as ended", swap.id));
    }
    rig.expect("after bad moves", TestRow::part(&tokens, 30..40, &blocks), at(&expected, vocab, 30..40))
}
