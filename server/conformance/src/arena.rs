//! An arena's memory is nobody's: executors come and go over the same blocks.

use quarry_model::backend::BackendError;

use crate::Outcome;
use crate::rig::{Bench, TestRow, at, table};

/// A sequence goes on in a new executor over the same blocks; slabs smaller than a block serve nobody.
pub fn arena(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 45);
    let expected = bench.whole(&tokens)?;
    let blocks = table(3, 45_usize.div_ceil(bench.options.block_tokens));
    let mut first = bench.rig()?;
    first.logits(&[TestRow::part(&tokens, 0..40, &blocks)])?;
    let crate::rig::Rig { executor, kv, .. } = first;
    drop(executor);
    let mut second = bench.rig_over(kv)?;
    let vocab = second.vocab;
    second.expect("resumed", TestRow::part(&tokens, 40..45, &blocks), at(&expected, vocab, 40..45))?;
    let bytes = bench.block_bytes / 2;
    let small = bench.small_arena(bytes)?;
    match bench.kv_blocks(&small).map(drop) {
        Err(BackendError::Memory { .. }) => Ok(()),
        Err(other) => Err(format!("small slabs: {other}, expected too little memory")),
        Ok(()) => Err("slabs smaller than a block were taken".into()),
    }
}
