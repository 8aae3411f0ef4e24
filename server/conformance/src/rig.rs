//! A model on a back end, and rows that own what a [`Row`] borrows.

use std::ops::Range;

use quarry_model::backend::{ActivateOptions, Backend, ModelFiles, WarmModel};
use quarry_model::executor::{Batch, ExecError, Executor, KvBlocks, Row, StepResult};
use quarry_model::ids::{BlockId, HostBlockId, TokenId};
use quarry_model::kv::{HostPool, KvArena};
use quarry_model::request::SamplingParams;
use quarry_model::sampler::SampleRow;
use quarry_tiny::{HubWeights, TensorType, TinyModel, YARN, random};
use tempfile::TempDir;

use crate::Suite;
use crate::compare::{self, Agreement};

/// Blocks of every executor.
pub const BLOCKS: usize = 64;
/// Tokens of a batch at most.
pub const BATCH_TOKENS: usize = 160;
/// Rows of a batch at most.
pub const BATCH_ROWS: usize = 9;
/// Where host blocks may begin.
const HOST_UNIT_BYTES: usize = quarry_model::limits::HOST_UNIT_BYTES as usize;
/// Blocks per slab: few and odd, so that an executor's blocks lie in many slabs.
const SLAB_BLOCKS: usize = 5;

/// What a tiny model is written as.
#[derive(Clone, Copy, Debug)]
pub enum TinyForm {
    /// A GGUF file of this type.
    Gguf(TensorType),
    /// A hub folder with so many weight files.
    Hub(HubWeights, usize),
    /// A GGUF file as F32 with YaRN switched on, so that most positions are past the original context.
    Yarn,
}

/// One model file, warmed once on the back end under test.
pub struct Bench<'a> {
    pub suite: Suite<'a>,
    pub model: TinyModel,
    pub files: ModelFiles,
    backend: Box<dyn Backend>,
    warm: WarmModel,
    pub options: ActivateOptions,
    pub block_bytes: usize,
    _dir: TempDir,
}

impl<'a> Bench<'a> {
    pub fn open(suite: &Suite<'a>, model: TinyModel, form: TinyForm) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = dir.path().join("tiny.gguf");
        let written = match form {
            TinyForm::Gguf(kind) => model.write(&path, kind),
            TinyForm::Yarn => model.write(&path, TensorType::F32),
            TinyForm::Hub(weights, shards) => model.write_hub(&path, weights, shards),
        };
        written.map_err(|error| error.to_string())?;
        let mut files = ModelFiles::open(&path).map_err(|error| error.to_string())?;
        if matches!(form, TinyForm::Yarn) {
            files = files.with_yarn(YARN.0, Some(YARN.1)).map_err(|error| error.to_string())?;
        }
        let backend = (suite.subject)();
        let options = ActivateOptions {
            block_tokens: suite.block_tokens,
            batch_tokens_max: BATCH_TOKENS,
            batch_rows_max: BATCH_ROWS,
        };
        let warm = backend.loader().warm(&files, &mut |_| ()).map_err(|error| error.to_string())?;
        let block_bytes = backend.cost(&files.spec, &files, &options).block_bytes;
        Ok(Self { suite: *suite, model, files, backend, warm, options, block_bytes, _dir: dir })
    }

    /// An arena of at least [`BLOCKS`] blocks, with some bytes left over in each slab.
    pub fn arena(&mut self) -> Result<KvArena, String> {
        let slab_bytes = SLAB_BLOCKS * self.block_bytes + 64;
        self.backend.arena(slab_bytes, BLOCKS.div_ceil(SLAB_BLOCKS)).map_err(|error| error.to_string())
    }

    /// An arena with slabs of so many bytes.
    pub fn small_arena(&mut self, slab_bytes: usize) -> Result<KvArena, String> {
        self.backend.arena(slab_bytes, BLOCKS).map_err(|error| error.to_string())
    }

    /// A fresh executor in an arena of its own.
    pub fn rig(&mut self) -> Result<Rig, String> {
        let arena = self.arena()?;
        self.rig_in(&arena)
    }

    /// An executor in `arena`.
    pub fn rig_in(&mut self, arena: &KvArena) -> Result<Rig, String> {
        let kv = self.kv_blocks(arena).map_err(|error| error.to_string())?;
        self.rig_over(kv)
    }

    /// An executor over these blocks.
    pub fn rig_over(&mut self, kv: Box<dyn KvBlocks>) -> Result<Rig, String> {
        let executor =
            self.backend.activate(&self.warm, &*kv, &self.options).map_err(|error| error.to_string())?;
        let caps = executor.caps();
        if (caps.block_bytes, caps.blocks) != (self.block_bytes, kv.blocks()) {
            let (bytes, blocks) = (caps.block_bytes, caps.blocks);
            let (cost, known) = (self.block_bytes, kv.blocks());
            return Err(format!("{blocks} blocks of {bytes} bytes, told were {known} of {cost}"));
        }
        Ok(Rig::new(executor, kv, self.files.spec.vocab, self.suite.exact))
    }

    /// As the back end answers.
    pub fn kv_blocks(
        &mut self,
        arena: &KvArena,
    ) -> Result<Box<dyn KvBlocks>, quarry_model::backend::BackendError> {
        self.backend.kv_blocks(&self.files.spec, arena, self.options.block_tokens)
    }

    /// The oracle's executor for the same file.
    pub fn oracle(&self) -> Result<Rig, String> {
        let mut backend = (self.suite.oracle)();
        let warm = backend.loader().warm(&self.files, &mut |_| ()).map_err(|error| error.to_string())?;
        let bytes = backend.cost(&self.files.spec, &self.files, &self.options).block_bytes;
        let text = |error: quarry_model::backend::BackendError| error.to_string();
        let arena = backend.arena(bytes, BLOCKS).map_err(text)?;
        let kv = backend.kv_blocks(&self.files.spec, &arena, self.options.block_tokens).map_err(text)?;
        let executor = backend.activate(&warm, &*kv, &self.options).map_err(text)?;
        Ok(Rig::new(executor, kv, self.files.spec.vocab, false))
    }

    /// Whether the subject starts steps ahead.
    pub fn runs_ahead(&self) -> bool {
        self.backend.runs_ahead()
    }

    /// A prompt of `count` tokens; `salt` chooses among them.
    pub fn prompt(&self, salt: u64, count: usize) -> Vec<TokenId> {
        random::prompt(self.model.seed + 1000 * (salt + 1), self.files.spec.vocab, count)
    }

    /// A host pool with room for `blocks`.
    pub fn host(&self, blocks: usize) -> Result<HostPool, String> {
        HostPool::new(blocks * self.host_block_bytes()).map_err(|error| error.to_string())
    }

    /// Bytes from one host block to the next.
    fn host_block_bytes(&self) -> usize {
        self.block_bytes.next_multiple_of(HOST_UNIT_BYTES)
    }

    /// The host block with this number, as all of them lie one after another.
    pub fn host_block(&self, number: usize) -> HostBlockId {
        HostBlockId((number * self.host_block_bytes() / HOST_UNIT_BYTES) as u32)
    }

    /// Logits of every position of `tokens`, run whole on a fresh executor.
    pub fn whole(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, String> {
        self.rig()?.logits(&[TestRow::whole(tokens, self.options.block_tokens, 0)])
    }
}

/// A row that owns its parts.
#[derive(Clone, Debug)]
pub struct TestRow {
    pub tokens: Vec<TokenId>,
    pub first: usize,
    pub blocks: Vec<BlockId>,
    pub wanted: Vec<usize>,
}

impl TestRow {
    /// Positions `range` of `tokens`, all logits wanted.
    pub fn part(tokens: &[TokenId], range: Range<usize>, blocks: &[BlockId]) -> Self {
        let wanted = (0..range.len()).collect();
        Self { tokens: tokens[range.clone()].to_vec(), first: range.start, blocks: blocks.to_vec(), wanted }
    }

    /// All of `tokens`, in blocks from `first_block` on.
    pub fn whole(tokens: &[TokenId], block_tokens: usize, first_block: usize) -> Self {
        Self::part(tokens, 0..tokens.len(), &table(first_block, tokens.len().div_ceil(block_tokens)))
    }
}

/// `count` blocks from `first` on.
pub fn table(first: usize, count: usize) -> Vec<BlockId> {
    (first..first + count).map(|block| BlockId(block as u32)).collect()
}

/// An executor and how its logits are compared.
pub struct Rig {
    pub executor: Box<dyn Executor>,
    pub kv: Box<dyn KvBlocks>,
    pub vocab: usize,
    exact: bool,
}

impl Rig {
    fn new(executor: Box<dyn Executor>, kv: Box<dyn KvBlocks>, vocab: usize, exact: bool) -> Self {
        Self { executor, kv, vocab, exact }
    }

    /// How the same work done in another way must agree.
    pub fn agreement(&self) -> Agreement {
        if self.exact { Agreement::Bits } else { Agreement::Within(self.executor.caps().logits_error_max) }
    }

    /// Runs rows, draws greedily, keeps the logits.
    pub fn step(&mut self, rows: &[TestRow]) -> Result<StepResult, ExecError> {
        self.step_greedy(rows, StepResult { keep_logits: true, ..StepResult::default() })
    }

    /// Runs rows and draws greedily; `result` says what is kept.
    fn step_greedy(&mut self, rows: &[TestRow], mut result: StepResult) -> Result<StepResult, ExecError> {
        let params = greedy();
        let sample = SampleRow::new(&params);
        let wanted = rows.iter().map(|row| row.wanted.len()).sum();
        let ticket = self.submit(rows)?;
        self.executor.finish(ticket, &vec![sample; wanted], &mut result)?;
        Ok(result)
    }

    /// Runs rows with these draws.
    pub fn step_with(
        &mut self,
        rows: &[TestRow],
        samples: &[SampleRow<'_>],
        keep_logits: bool,
    ) -> Result<StepResult, ExecError> {
        let mut result = StepResult { keep_logits, ..StepResult::default() };
        let ticket = self.submit(rows)?;
        self.executor.finish(ticket, samples, &mut result)?;
        Ok(result)
    }

    /// Runs rows and hands out the hidden states of all wanted positions.
    pub fn hidden(&mut self, rows: &[TestRow]) -> Result<Vec<f32>, String> {
        let kept = StepResult { keep_hidden: true, ..StepResult::default() };
        Ok(self.step_greedy(rows, kept).map_err(|error| error.to_string())?.hidden)
    }

    /// Submits rows.
    pub fn submit(&mut self, rows: &[TestRow]) -> Result<quarry_model::executor::StepTicket, ExecError> {
        let rows: Vec<Row<'_>> = rows
            .iter()
            .map(|row| Row {
                tokens: &row.tokens,
                first_position: row.first,
                blocks: &row.blocks,
                wanted: &row.wanted,
            })
            .collect();
        self.executor.submit(&Batch::new(&rows))
    }

    /// Runs rows and hands out all wanted logits.
    pub fn logits(&mut self, rows: &[TestRow]) -> Result<Vec<f32>, String> {
        Ok(self.step(rows).map_err(|error| error.to_string())?.logits)
    }

    /// Runs one row and compares its logits with `expected`.
    pub fn expect(&mut self, what: &str, row: TestRow, expected: &[f32]) -> Result<(), String> {
        let found = self.logits(&[row])?;
        compare::logits(what, &found, expected, self.vocab, self.agreement())
    }

    /// Runs rows together and compares each one's logits with its own expectation.
    pub fn expect_all(&mut self, what: &str, rows: &[(TestRow, &[f32])]) -> Result<(), String> {
        let only: Vec<TestRow> = rows.iter().map(|(row, _)| row.clone()).collect();
        let found = self.logits(&only)?;
        let mut at = 0;
        for (index, (row, expected)) in rows.iter().enumerate() {
            let end = at + row.wanted.len() * self.vocab;
            let what = format!("{what}, row {index}");
            let found = found.get(at..end).ok_or_else(|| format!("{what}: too few logits"))?;
            compare::logits(&what, found, expected, self.vocab, self.agreement())?;
            at = end;
        }
        Ok(())
    }

    /// Fills the blocks with another sequence's keys and values.
    pub fn fill(&mut self, tokens: &[TokenId], blocks: &[BlockId]) -> Result<(), String> {
        let block_tokens = self.executor.caps().block_tokens;
        for (tokens, block) in tokens.chunks(block_tokens).cycle().zip(blocks) {
            let row = TestRow { wanted: Vec::new(), ..TestRow::part(tokens, 0..tokens.len(), &[*block]) };
            self.logits(&[row])?;
        }
        Ok(())
    }
}

/// The parameters of the largest logit.
pub fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

/// Logits of positions `range` out of those of all positions.
pub fn at(logits: &[f32], vocab: usize, range: Range<usize>) -> &[f32] {
    &logits[range.start * vocab..range.end * vocab]
}
