//! Against implementations that are not ours, and against the oracle.

use quarry_tiny::{Golden, TensorType, TinyModel};

use crate::Outcome;
use crate::compare::{self, Agreement};
use crate::rig::{Bench, TestRow};

/// Logits of transformers' own models, where the weights are F32.
pub fn golden_logits(bench: &mut Bench<'_>) -> Outcome {
    if !is_f32(bench)? {
        return as_oracle(bench);
    }
    against(bench, bench.model.golden())
}

/// Logits of the papers' formulas with YaRN; of models that have none of these, the oracle's.
pub fn with_yarn(bench: &mut Bench<'_>) -> Outcome {
    if bench.model == TinyModel::qwen3() {
        against(bench, TinyModel::golden_yarn())
    } else {
        as_oracle(bench)
    }
}

/// Hidden states of the papers' formulas; of models that have none of these, the oracle's. The same bits in parts, and
/// none where nobody asked.
pub fn hidden(bench: &mut Bench<'_>) -> Outcome {
    let width = bench.files.spec.hidden;
    if bench.model == TinyModel::qwen3() && is_f32(bench)? {
        for prompt in TinyModel::golden_hidden().prompts {
            let mut rig = bench.rig()?;
            let row = TestRow::whole(&prompt.tokens, bench.options.block_tokens, 0);
            let found = rig.hidden(&[TestRow { wanted: prompt.positions, ..row }])?;
            let bound = Agreement::Within(rig.executor.caps().logits_error_max);
            compare::logits("hidden states", &found, &prompt.logits.concat(), width, bound)?;
        }
    }
    let (tokens, block_tokens) = (bench.prompt(0, 50), bench.options.block_tokens);
    let whole = TestRow::whole(&tokens, block_tokens, 0);
    let expected = bench.oracle()?.hidden(std::slice::from_ref(&whole))?;
    let mut rig = bench.rig()?;
    let found = rig.hidden(std::slice::from_ref(&whole))?;
    let bound = Agreement::Within(rig.executor.caps().logits_error_max);
    compare::logits("against the oracle", &found, &expected, width, bound)?;
    let mut rig = bench.rig()?;
    rig.hidden(&[TestRow { wanted: Vec::new(), ..TestRow::part(&tokens, 0..30, &whole.blocks) }])?;
    let rest = rig.hidden(&[TestRow::part(&tokens, 30..50, &whole.blocks)])?;
    compare::logits("in two parts", &rest, &found[30 * width..], width, rig.agreement())?;
    let unasked = rig.step(std::slice::from_ref(&whole)).map_err(|error| error.to_string())?.hidden;
    if unasked.is_empty() { Ok(()) } else { Err(format!("{} numbers that nobody asked for", unasked.len())) }
}

fn is_f32(bench: &Bench<'_>) -> Result<bool, String> {
    let (info, _) = bench.files.weights.tensor("blk.0.attn_q.weight").ok_or("no such tensor")?;
    Ok(info.kind == TensorType::F32)
}

fn against(bench: &mut Bench<'_>, golden: Golden) -> Outcome {
    let vocab = bench.files.spec.vocab;
    for prompt in golden.prompts {
        let mut rig = bench.rig()?;
        let row = TestRow::whole(&prompt.tokens, bench.options.block_tokens, 0);
        let found = rig.logits(&[TestRow { wanted: prompt.positions, ..row }])?;
        let bound = Agreement::Within(rig.executor.caps().logits_error_max);
        let what = format!("prompt of {}", prompt.tokens.len());
        compare::logits(&what, &found, &prompt.logits.concat(), vocab, bound)?;
    }
    Ok(())
}

/// The oracle's logits for the same file, prefill and then decode.
pub fn as_oracle(bench: &mut Bench<'_>) -> Outcome {
    let (tokens, block_tokens) = (bench.prompt(0, 50), bench.options.block_tokens);
    let expected = bench.oracle()?.logits(&[TestRow::whole(&tokens, block_tokens, 0)])?;
    let mut rig = bench.rig()?;
    let blocks = TestRow::whole(&tokens, block_tokens, 0).blocks;
    let mut found = rig.logits(&[TestRow::part(&tokens, 0..45, &blocks)])?;
    for position in 45..50 {
        found.extend(rig.logits(&[TestRow::part(&tokens, position..position + 1, &blocks)])?);
    }
    let bound = Agreement::Within(rig.executor.caps().logits_error_max);
    compare::logits("against the oracle", &found, &expected, rig.vocab, bound)
}
