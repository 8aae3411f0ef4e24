//! An executor driven without an engine: sequences with their own blocks, steps with their times.
//!
//! No scheduler, no queue, no HTTP: what is measured here is the back end alone, as llama-bench measures its own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use quarry_model::backend::{ActivateOptions, Backend, ModelFiles, WarmModel};
use quarry_model::executor::{Batch, BlockCopy, Caps, Executor, Row, StepResult};
use quarry_model::ids::{BlockId, TokenId};
use quarry_model::request::SamplingParams;
use quarry_model::sampler::SampleRow;

/// Positions of a KV block, as the server has it by default.
pub const BLOCK_TOKENS: usize = 32;
/// Bytes of KV at most: a depth that was mistyped should not take the machine down.
const KV_BYTES_MAX: usize = 16 << 30;

/// One sequence's part of a step.
pub struct Part<'a> {
    /// Which sequence.
    pub sequence: usize,
    /// Position of the first token.
    pub first: usize,
    /// What runs.
    pub tokens: &'a [TokenId],
    /// Offsets whose logits are wanted, ascending.
    pub wanted: &'a [usize],
}

/// How long a step took.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepTime {
    /// Layers: `submit`.
    pub body: Duration,
    /// Head and draw: `finish`.
    pub head: Duration,
}

impl StepTime {
    /// Both parts.
    pub fn total(self) -> Duration {
        self.body + self.head
    }
}

impl std::ops::AddAssign for StepTime {
    fn add_assign(&mut self, other: Self) {
        self.body += other.body;
        self.head += other.head;
    }
}

/// An executor with room for some sequences.
pub struct Rig {
    executor: Box<dyn Executor>,
    tables: Vec<Vec<BlockId>>,
    greedy: SamplingParams,
    result: StepResult,
}

impl Rig {
    /// Sequence `i` has room for `positions[i]`; a step has `batch_tokens` at most.
    pub fn new(
        backend: &mut dyn Backend,
        files: &ModelFiles,
        warm: &WarmModel,
        positions: &[usize],
        batch_tokens: usize,
    ) -> anyhow::Result<Self> {
        let context = files.spec.context_tokens_max;
        if let Some(too_many) = positions.iter().find(|&&count| count > context) {
            bail!("{too_many} positions are more than the model's {context}");
        }
        let mut tables = Vec::new();
        let mut blocks = 0;
        for count in positions {
            let end = blocks + count.div_ceil(BLOCK_TOKENS).max(1);
            tables.push((blocks..end).map(|block| BlockId(block as u32)).collect());
            blocks = end;
        }
        let options = ActivateOptions {
            block_tokens: BLOCK_TOKENS,
            batch_tokens_max: batch_tokens,
            batch_rows_max: positions.len().max(1),
        };
        let block_bytes = backend.cost(&files.spec, files, &options).block_bytes;
        let bytes = block_bytes.saturating_mul(blocks);
        if bytes > KV_BYTES_MAX {
            bail!("keys and values of {blocks} blocks need {bytes} bytes, {KV_BYTES_MAX} are the most here");
        }
        let arena = backend.arena(block_bytes, blocks).context("the KV cache")?;
        let kv = backend.kv_blocks(&files.spec, &arena, BLOCK_TOKENS).context("the KV cache")?;
        let executor = backend.activate(warm, &*kv, &options).context("the executor")?;
        let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        Ok(Self { executor, tables, greedy, result: StepResult::default() })
    }

    /// What the executor says of itself.
    pub fn caps(&self) -> &Caps {
        self.executor.caps()
    }

    /// Runs one step, draws greedily where logits are wanted.
    pub fn step(&mut self, parts: &[Part<'_>]) -> anyhow::Result<StepTime> {
        let row = |part: &Part<'_>| -> anyhow::Result<(usize, usize)> {
            let covered = self.tables.get(part.sequence).context("no such sequence")?.len() * BLOCK_TOKENS;
            let end = part.first + part.tokens.len();
            if end > covered {
                bail!("position {end} of {covered}");
            }
            Ok((part.sequence, end.div_ceil(BLOCK_TOKENS)))
        };
        let places = parts.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
        let rows = parts.iter().zip(&places).map(|(part, &(sequence, blocks))| Row {
            tokens: part.tokens,
            first_position: part.first,
            blocks: &self.tables[sequence][..blocks],
            wanted: part.wanted,
        });
        let rows: Vec<Row<'_>> = rows.collect();
        let draw = SampleRow::new(&self.greedy);
        let draws = vec![draw; parts.iter().map(|part| part.wanted.len()).sum()];

        let begun = Instant::now();
        let ticket = self.executor.submit(&Batch::new(&rows))?;
        let body = begun.elapsed();
        self.executor.finish(ticket, &draws, &mut self.result)?;
        Ok(StepTime { body, head: begun.elapsed() - body })
    }

    /// Runs one step and hands out the logits of all wanted positions.
    pub fn logits(&mut self, part: &Part<'_>) -> anyhow::Result<&[f32]> {
        self.result.keep_logits = true;
        let ran = self.step(std::slice::from_ref(part));
        self.result.keep_logits = false;
        ran?;
        Ok(&self.result.logits)
    }

    /// Gives every sequence the first one's keys and values of `0..positions`.
    pub fn share(&mut self, positions: usize) -> anyhow::Result<()> {
        let Some((first, others)) = self.tables.split_first() else { return Ok(()) };
        let blocks = positions.div_ceil(BLOCK_TOKENS);
        let pairs = others.iter().flat_map(|table| first.iter().zip(table).take(blocks));
        let copies: Vec<BlockCopy> = pairs.map(|(&from, &to)| BlockCopy { from, to }).collect();
        Ok(self.executor.copy_blocks(&copies)?)
    }
}
