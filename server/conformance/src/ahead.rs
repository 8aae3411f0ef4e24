//! Steps that begin before their tokens are known draw what they draw one after another.

use quarry_model::executor::{AheadRow, ExecError, StepResult};
use quarry_model::ids::{BlockId, TokenId};
use quarry_model::request::SamplingParams;
use quarry_model::sampler::SampleRow;

use crate::Outcome;
use crate::compare;
use crate::rig::{Bench, Rig, TestRow, greedy, table};

/// Prompt tokens of the sequences; each crosses the end of a block in its own step.
const PROMPTS: [usize; 3] = [5, 30, 15];
/// Steps behind the prompts.
const STEPS: usize = 6;

/// What a sequence is given and draws.
struct Sequence {
    tokens: Vec<TokenId>,
    prompt: usize,
    params: SamplingParams,
    blocks: Vec<BlockId>,
}

impl Sequence {
    fn sample(&self) -> SampleRow<'_> {
        let output = &self.tokens[self.prompt..];
        SampleRow { prompt: &self.tokens[..self.prompt], output, ..SampleRow::new(&self.params) }
    }

    /// The last `count` tokens, of which the last one's logits are wanted.
    fn row(&self, count: usize) -> TestRow {
        let end = self.tokens.len();
        TestRow { wanted: vec![count - 1], ..TestRow::part(&self.tokens, end - count..end, &self.blocks) }
    }
}

fn sequences(bench: &Bench<'_>) -> Vec<Sequence> {
    let per_row = (30 + STEPS + 2).div_ceil(bench.options.block_tokens);
    let warm = SamplingParams { temperature: 0.9, top_p: 0.95, seed: 7, ..SamplingParams::default() };
    let penalized = SamplingParams { presence_penalty: 1.5, ..greedy() };
    let all = PROMPTS.into_iter().zip([greedy(), warm, penalized]).enumerate();
    all.map(|(index, (prompt, params))| Sequence {
        tokens: bench.prompt(index as u64, prompt),
        prompt,
        params,
        blocks: table(index * per_row, per_row),
    })
    .collect()
}

fn text(error: ExecError) -> String {
    error.to_string()
}

fn rows(all: &[Sequence], count: impl Fn(&Sequence) -> usize) -> Vec<TestRow> {
    all.iter().map(|sequence| sequence.row(count(sequence))).collect()
}

/// Each step's tokens and logits, one step after another.
fn one_by_one(bench: &mut Bench<'_>) -> Result<Vec<StepResult>, String> {
    let mut all = sequences(bench);
    let mut rig = bench.rig()?;
    let mut steps = Vec::new();
    for step in 0..STEPS {
        let rows = rows(&all, |sequence| if step == 0 { sequence.prompt } else { 1 });
        let samples: Vec<SampleRow<'_>> = all.iter().map(Sequence::sample).collect();
        let result = rig.step_with(&rows, &samples, true).map_err(text)?;
        push(&mut all, &result);
        steps.push(result);
    }
    Ok(steps)
}

fn push(all: &mut [Sequence], result: &StepResult) {
    for (sequence, drawn) in all.iter_mut().zip(&result.sampled) {
        sequence.tokens.push(drawn.token);
    }
}

/// One finish; says whether a step was started behind it.
fn finish(
    rig: &mut Rig,
    ticket: quarry_model::executor::StepTicket,
    all: &mut [Sequence],
) -> Result<(StepResult, Option<quarry_model::executor::StepTicket>), String> {
    let mut result = StepResult { keep_logits: true, ..StepResult::default() };
    let samples: Vec<SampleRow<'_>> = all.iter().map(Sequence::sample).collect();
    let next = all.iter().enumerate().map(|(sample, sequence)| AheadRow {
        sample,
        position: sequence.tokens.len(),
        blocks: &sequence.blocks,
    });
    let ahead: Vec<AheadRow<'_>> = next.collect();
    let next = rig.executor.finish_ahead(ticket, &samples, &ahead, &mut result).map_err(text)?;
    push(all, &result);
    Ok((result, next))
}

/// The same tokens and logits, whether or not the executor starts steps ahead; and one that was started is dropped for
/// another batch without a trace.
pub fn as_one_by_one(bench: &mut Bench<'_>) -> Outcome {
    let expected = one_by_one(bench)?;
    let mut rig = bench.rig()?;
    let runs_ahead = bench.runs_ahead();
    for dropped in [None, Some(1), Some(3)] {
        let mut all = sequences(bench);
        let mut ticket = Some(rig.submit(&rows(&all, |sequence| sequence.prompt)).map_err(text)?);
        for (step, expected) in expected.iter().enumerate() {
            let known = match ticket.take() {
                Some(known) => known,
                None => rig.submit(&rows(&all, |_| 1)).map_err(text)?,
            };
            let (found, next) = finish(&mut rig, known, &mut all)?;
            let what = format!("step {step}");
            compare::logits(&what, &found.logits, &expected.logits, rig.vocab, rig.agreement())?;
            if found.sampled != expected.sampled {
                return Err(format!("{what}: {:?} instead of {:?}", found.sampled, expected.sampled));
            }
            if next.is_some() != runs_ahead {
                return Err(format!("{what}: started ahead: {}, told: {runs_ahead}", next.is_some()));
            }
            ticket = next.filter(|_| dropped != Some(step));
        }
    }
    Ok(())
}

/// A step behind a draw that is none, or past its blocks, is refused before anything is drawn.
pub fn refused(bench: &mut Bench<'_>) -> Outcome {
    let mut rig = bench.rig()?;
    if !bench.runs_ahead() {
        return Ok(());
    }
    let tokens = bench.prompt(0, 4);
    let blocks = table(0, 1);
    let row = TestRow { wanted: vec![3], ..TestRow::part(&tokens, 0..4, &blocks) };
    let params = greedy();
    let past = bench.options.block_tokens;
    for (sample, position) in [(1, 4), (0, past)] {
        let ticket = rig.submit(std::slice::from_ref(&row)).map_err(text)?;
        let ahead = [AheadRow { sample, position, blocks: &blocks }];
        let mut result = StepResult::default();
        let samples = [SampleRow::new(&params)];
        match rig.executor.finish_ahead(ticket, &samples, &ahead, &mut result) {
            Err(ExecError::BadBatch(_)) => {}
            other => return Err(format!("sample {sample}, position {position}: {other:?}")),
        }
    }
    Ok(())
}
