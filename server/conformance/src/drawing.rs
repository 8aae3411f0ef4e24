//! Draws: the executor's answer is the shared sampler's on its own logits.

use quarry_model::request::SamplingParams;
use quarry_model::sampler::{self, SampleRow, Sampled, Scratch};

use crate::Outcome;
use crate::rig::{Bench, Rig, TestRow, greedy};

/// Parameters that each change the draw in a way of their own.
fn params() -> Vec<SamplingParams> {
    let base = SamplingParams { seed: 17, ..SamplingParams::default() };
    vec![
        greedy(),
        base.clone(),
        SamplingParams { seed: 18, temperature: 2.0, ..base.clone() },
        SamplingParams { temperature: 0.7, top_k: 5, ..base.clone() },
        SamplingParams { top_p: 0.5, ..base.clone() },
        SamplingParams { min_p: 0.2, ..base.clone() },
        SamplingParams {
            repetition_penalty: 3.0,
            presence_penalty: 1.5,
            frequency_penalty: -1.0,
            ..greedy()
        },
        SamplingParams { logit_bias: vec![(77, 100.0)], ..greedy() },
        SamplingParams { logit_bias: vec![(77, 100.0)], temperature: 1.5, ..base },
    ]
}

/// One position per sample, all of one row.
fn step(
    rig: &mut Rig,
    bench: &Bench<'_>,
    samples: &[SampleRow<'_>],
    keep: bool,
) -> Result<(Vec<Sampled>, Vec<f32>), String> {
    let tokens = bench.prompt(0, samples.len());
    let row = TestRow::whole(&tokens, bench.options.block_tokens, 0);
    let result = rig.step_with(&[row], samples, keep).map_err(|error| error.to_string())?;
    if result.sampled.len() != samples.len() {
        return Err(format!("{} draws for {} samples", result.sampled.len(), samples.len()));
    }
    Ok((result.sampled, result.logits))
}

/// Every parameter reaches the sampler, each position's its own.
pub fn parameters(bench: &mut Bench<'_>) -> Outcome {
    let params = params();
    let samples: Vec<_> = params
        .iter()
        .map(|params| SampleRow {
            params,
            prompt: &[5, 6, 7, 8],
            output: &[200, 201, 200],
            mask: None,
            forbidden: &[77, 78],
            logprobs: true,
        })
        .enumerate()
        .map(|(i, row)| if i < 7 { row } else { SampleRow { forbidden: &[], ..row } })
        .collect();
    let mut rig = bench.rig()?;
    let (sampled, mut logits) = step(&mut rig, bench, &samples, true)?;
    let mut scratch = Scratch::default();
    for (i, (row, logits)) in samples.iter().zip(logits.chunks_mut(rig.vocab)).enumerate() {
        let expected = sampler::sample(logits, row, &mut scratch);
        if sampled[i] != expected {
            return Err(format!("draw {i} is {:?}, the sampler says {expected:?}", sampled[i]));
        }
    }
    // The biased ones cannot draw anything else, whatever sampler is shared.
    if sampled[7].token != 77 || sampled[8].token != 77 {
        return Err(format!("a bias of 100 drew {} and {}", sampled[7].token, sampled[8].token));
    }
    Ok(())
}

/// Without any adjustment the greedy token has the largest logit, and its log-probability follows.
fn draws_largest(sampled: &Sampled, logits: &[f32]) -> Outcome {
    let best = (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
    if sampled.token as usize != best {
        return Err(format!("greedy drew {}, the largest logit is {best}'s", sampled.token));
    }
    let sum: f64 = logits.iter().map(|&x| f64::from(x - logits[best]).exp()).sum();
    match sampled.logprob {
        Some(found) if (f64::from(found) + sum.ln()).abs() <= 1e-4 => Ok(()),
        found => Err(format!("log-probability {found:?} of token {best}, expected {}", -sum.ln())),
    }
}

/// Greedy draws, one per position.
pub fn greedy_is_argmax(bench: &mut Bench<'_>) -> Outcome {
    let params = greedy();
    let row = SampleRow { logprobs: true, ..SampleRow::new(&params) };
    let mut rig = bench.rig()?;
    let (sampled, logits) = step(&mut rig, bench, &[row; 12], true)?;
    sampled.iter().zip(logits.chunks(rig.vocab)).try_for_each(|(s, l)| draws_largest(s, l))
}

/// A head run for a few tokens draws what the full head draws under the same mask, its log-probability included.
pub fn masks(bench: &mut Bench<'_>) -> Outcome {
    let vocab = bench.files.spec.vocab;
    let words = vocab.div_ceil(32);
    let mask = |allowed: &[usize]| {
        let mut mask = vec![0_u32; words];
        allowed.iter().for_each(|&token| mask[token / 32] |= 1 << (token % 32));
        mask
    };
    let masks = [
        mask(&[3]),
        mask(&[vocab - 1]),
        mask(&[0, 15, 16, 31, 32, vocab - 2]),
        mask(&(100..180).collect::<Vec<_>>()),
        mask(&(0..vocab).collect::<Vec<_>>()),
    ];
    let (cold, hot) = (greedy(), SamplingParams { seed: 5, ..SamplingParams::default() });
    let free = SampleRow::new(&cold);
    // With log-probabilities the head is whole, under the mask as well.
    let kinds = [(&cold, false), (&hot, false), (&cold, true), (&hot, true)];
    let masked: Vec<_> = masks
        .iter()
        .flat_map(|mask| {
            kinds.map(|(params, logprobs)| SampleRow { params, logprobs, mask: Some(mask), ..free })
        })
        .collect();
    let mut rig = bench.rig()?;
    let (_, logits) = step(&mut rig, bench, &vec![free; masked.len()], true)?;
    // One masked position at a time, so that the head is as small as its own mask; then all together.
    let (together, _) = step(&mut rig, bench, &masked, false)?;
    let mut scratch = Scratch::default();
    for (i, row) in masked.iter().enumerate() {
        let expected = sampler::sample(&mut logits[i * vocab..(i + 1) * vocab].to_vec(), row, &mut scratch);
        let tokens = bench.prompt(0, masked.len());
        let whole = TestRow::whole(&tokens, bench.options.block_tokens, 0);
        let one = TestRow { wanted: vec![i], ..whole };
        let alone = rig.step_with(&[one], &[*row], false).map_err(|error| error.to_string())?;
        for (how, found) in [("together", together[i]), ("alone", alone.sampled[0])] {
            if found != expected {
                let mask = i / kinds.len();
                return Err(format!("mask {mask} {how} drew {found:?}, the full head {expected:?}"));
            }
        }
    }
    Ok(())
}

/// Logits are handed out where asked for, and draws do not depend on it.
pub fn kept(bench: &mut Bench<'_>) -> Outcome {
    let params = SamplingParams { seed: 3, ..SamplingParams::default() };
    let row = SampleRow {
        params: &params,
        prompt: &[],
        output: &[1, 2],
        mask: None,
        forbidden: &[],
        logprobs: true,
    };
    let mut rig = bench.rig()?;
    let (with, logits) = step(&mut rig, bench, &[row; 4], true)?;
    let (without, none) = step(&mut rig, bench, &[row; 4], false)?;
    if logits.len() != 4 * rig.vocab || !none.is_empty() {
        return Err(format!("{} logits kept, {} not kept", logits.len(), none.len()));
    }
    if with != without {
        return Err(format!("drew {with:?} with logits kept, {without:?} without"));
    }
    Ok(())
}
