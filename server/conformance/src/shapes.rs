//! The same sequence in batches of every shape.

use crate::Outcome;
use crate::compare;
use crate::rig::{BATCH_ROWS, BATCH_TOKENS, Bench, TestRow, at, table};

/// One row of one token.
pub fn single_token(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 3);
    let expected = bench.whole(&tokens)?;
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    for (i, expected) in expected.chunks(vocab).enumerate() {
        rig.expect("decode", TestRow::part(&tokens, i..i + 1, &table(0, 1)), expected)?;
    }
    Ok(())
}

/// Many rows of different lengths in one batch, each as if it were alone.
pub fn ragged_rows(bench: &mut Bench<'_>) -> Outcome {
    let lengths = [1, 2, 33, 5, 16, 48, 17, 3];
    let mut expected = Vec::new();
    for (salt, &length) in lengths.iter().enumerate() {
        let tokens = bench.prompt(salt as u64, length);
        expected.push((bench.whole(&tokens)?, tokens));
    }
    let per_row = 48_usize.div_ceil(bench.options.block_tokens);
    let rows: Vec<_> = expected
        .iter()
        .enumerate()
        .map(|(i, (logits, tokens))| {
            (TestRow::part(tokens, 0..tokens.len(), &table(i * per_row, per_row)), &logits[..])
        })
        .collect();
    bench.rig()?.expect_all("ragged", &rows)
}

/// Sequences that decode beside others that prefill and one that is in the middle.
pub fn mixed(bench: &mut Bench<'_>) -> Outcome {
    let tokens: Vec<_> = (0..4).map(|salt| bench.prompt(salt, 41)).collect();
    let mut whole = Vec::new();
    for tokens in &tokens {
        whole.push(bench.whole(tokens)?);
    }
    let per_row = 41_usize.div_ceil(bench.options.block_tokens);
    let mut rig = bench.rig()?;
    let part = |i: usize, range: std::ops::Range<usize>| {
        TestRow::part(&tokens[i], range, &table(i * per_row, per_row))
    };
    let vocab = rig.vocab;
    rig.logits(&[part(0, 0..40), part(1, 0..7), part(2, 0..20)])?;
    rig.expect_all(
        "mixed",
        &[
            (part(0, 40..41), at(&whole[0], vocab, 40..41)),
            (part(3, 0..41), at(&whole[3], vocab, 0..41)),
            (part(1, 7..8), at(&whole[1], vocab, 7..8)),
            (part(2, 20..41), at(&whole[2], vocab, 20..41)),
        ],
    )
}

/// A prompt in chunks of every size.
pub fn chunks(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 100);
    let expected = bench.whole(&tokens)?;
    let blocks = table(3, 100_usize.div_ceil(bench.options.block_tokens));
    for chunk in [1, 7, 64] {
        let mut rig = bench.rig()?;
        let mut found = Vec::new();
        for start in (0..tokens.len()).step_by(chunk) {
            let end = tokens.len().min(start + chunk);
            found.extend(rig.logits(&[TestRow::part(&tokens, start..end, &blocks)])?);
        }
        let what = format!("chunks of {chunk}");
        compare::logits(&what, &found, &expected, rig.vocab, rig.agreement())?;
    }
    Ok(())
}

/// As many rows and tokens as the bounds allow.
pub fn full_batch(bench: &mut Bench<'_>) -> Outcome {
    let long = bench.prompt(0, BATCH_TOKENS - (BATCH_ROWS - 1));
    let short = bench.prompt(1, 1);
    let (whole, single) = (bench.whole(&long)?, bench.whole(&short)?);
    let count = long.len().div_ceil(bench.options.block_tokens);
    let mut rows = vec![(TestRow::part(&long, 0..long.len(), &table(0, count)), &whole[..])];
    for i in 0..BATCH_ROWS - 1 {
        rows.push((TestRow::part(&short, 0..1, &table(count + i, 1)), &single[..]));
    }
    bench.rig()?.expect_all("full batch", &rows)
}

/// Logits of no position, of some, and of some rows only.
pub fn wanted(bench: &mut Bench<'_>) -> Outcome {
    let tokens = bench.prompt(0, 40);
    let other = bench.prompt(1, 9);
    let whole = bench.whole(&tokens)?;
    let last_of_other = bench.whole(&other)?;
    let blocks = table(0, 40_usize.div_ceil(bench.options.block_tokens));
    let mut rig = bench.rig()?;
    let vocab = rig.vocab;
    let part = |range, wanted: &[usize]| TestRow {
        wanted: wanted.to_vec(),
        ..TestRow::part(&tokens, range, &blocks)
    };
    let none = rig.step(&[part(0..20, &[])]).map_err(|error| error.to_string())?;
    if !none.sampled.is_empty() || !none.logits.is_empty() {
        return Err("logits of a batch that wants none".into());
    }
    let expected: Vec<f32> =
        [20, 23, 30].iter().flat_map(|&p| at(&whole, vocab, p..p + 1)).copied().collect();
    let other_row = TestRow { wanted: vec![8], ..TestRow::part(&other, 0..9, &table(40, 1)) };
    let silent = TestRow { wanted: Vec::new(), ..TestRow::part(&other, 0..9, &table(41, 1)) };
    rig.expect_all(
        "some wanted",
        &[
            (silent, &[]),
            (part(20..31, &[0, 3, 10]), &expected),
            (other_row, at(&last_of_other, vocab, 8..9)),
        ],
    )?;
    rig.expect("after unwanted", part(31..40, &[8]), at(&whole, vocab, 39..40))
}
