//! The device seam: one active model on one device, and its KV blocks. Few methods; a new fusion widens nothing.

use std::any::Any;
use std::sync::Arc;

use quarry_core::ids::{BlockId, SwapId, TokenId};
use quarry_core::plan::BlockMove;
use quarry_core::sampler::{SampleRow, Sampled};

use crate::kv::HostPool;

/// What an executor can do and how exact it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// KV positions per block.
    pub block_tokens: usize,
    /// Bytes of one block, all layers, keys and values.
    pub block_bytes: usize,
    /// Blocks of the whole arena, as this model cuts it.
    pub blocks: usize,
    /// Tokens of one batch, all rows together.
    pub batch_tokens_max: usize,
    /// Rows of one batch.
    pub batch_rows_max: usize,
    /// How activations are held in matrix products (`f32`, `int8`).
    pub activations: &'static str,
    /// How the KV cache is held (`f32`, `bf16`, `int8`).
    pub kv: &'static str,
    /// Bound on `max |logit - reference| / (max |reference|)` that the conformance suite holds it to.
    pub logits_error_max: f32,
    /// Instruction set or device that was chosen, for the log.
    pub isa: String,
}

/// Ragged rows: prefill, chunked prefill, decode and draft verification are the same row with different lengths.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// The rows. No two rows share a block that either writes.
    pub rows: &'a [Row<'a>],
    /// Asked between layers: false once nobody waits for any of the rows, and the pass may end early.
    pub is_wanted: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Batch<'a> {
    /// Rows that are waited for to the end.
    pub fn new(rows: &'a [Row<'a>]) -> Self {
        Self { rows, is_wanted: &|| true }
    }
}

/// One sequence's part of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Tokens to run, at least one, at positions `first_position..first_position + tokens.len()`.
    pub tokens: &'a [TokenId],
    /// KV of positions before it is already in the blocks.
    pub first_position: usize,
    /// Block table from position 0; covers at least the row's last position.
    pub blocks: &'a [BlockId],
    /// Offsets into `tokens` whose logits are wanted, ascending.
    pub wanted: &'a [usize],
}

/// A row of a step that is started before its token is known.
#[derive(Clone, Copy, Debug)]
pub struct AheadRow<'a> {
    /// It runs the token that is drawn for this one of the samples.
    pub sample: usize,
    /// The token's position; KV of positions before it is already in the blocks.
    pub position: usize,
    /// Block table from position 0; covers at least `position`.
    pub blocks: &'a [BlockId],
}

impl<'a> AheadRow<'a> {
    /// The row it becomes, of one token.
    pub fn row(&self, token: &'a TokenId) -> Row<'a> {
        Row {
            tokens: std::slice::from_ref(token),
            first_position: self.position,
            blocks: self.blocks,
            wanted: &[0],
        }
    }
}

/// Proof that a batch was submitted; redeemed once by `finish`.
#[derive(Debug, PartialEq, Eq)]
pub struct StepTicket(pub u64);

/// What `finish` fills. Reused between steps.
#[derive(Debug, Default)]
pub struct StepResult {
    /// One per wanted position, rows in order, offsets in order.
    pub sampled: Vec<Sampled>,
    /// Set by the caller: also hand out raw logits (`wanted × vocab`, row-major). For tests and logprobs.
    pub keep_logits: bool,
    /// Raw logits where asked for.
    pub logits: Vec<f32>,
    /// Set by the caller: also hand out hidden states after the output norm. Embedding models are read by the one of
    /// their last token.
    pub keep_hidden: bool,
    /// Hidden states where asked for (`wanted × hidden`, row-major).
    pub hidden: Vec<f32>,
}

/// A swap order that ended.
#[derive(Debug)]
pub struct SwapDone {
    /// The order.
    pub id: SwapId,
    /// Whether every block arrived.
    pub result: Result<(), ExecError>,
    /// Bytes moved.
    pub bytes: usize,
    /// Seconds it took.
    pub seconds: f64,
}

/// Why an executor could not do its work. The batch's sequences fail; the executor stays usable unless `Device`.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// A batch broke a bound of [`Caps`] or names blocks that do not exist.
    #[error("bad batch: {0}")]
    BadBatch(String),
    /// `finish` without its `submit`.
    #[error("ticket {0} is not the step in flight")]
    BadTicket(u64),
    /// A block or host buffer of a swap or copy does not exist.
    #[error("bad block move: {0}")]
    BadMove(String),
    /// Nobody waited for the step any more; what it should have written is anything.
    #[error("the step was abandoned")]
    Abandoned,
    /// The device failed.
    #[error("device: {0}")]
    Device(String),
}

/// Device block to device block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    /// Read.
    pub from: BlockId,
    /// Written.
    pub to: BlockId,
}

/// One active model on one device. Dropping it leaves its KV where it is.
pub trait Executor: Send {
    /// Fixed for the executor's life.
    fn caps(&self) -> &Caps;

    /// Starts the forward pass of `batch`: writes its KV, then reads through the cache. One step in flight.
    ///
    /// # Errors
    /// [`ExecError::BadBatch`] before anything is written, [`ExecError::Abandoned`] where `is_wanted` said so.
    fn submit(&mut self, batch: &Batch<'_>) -> Result<StepTicket, ExecError>;

    /// Waits for the pass, runs the head for wanted positions (where a mask allows few tokens, only for those),
    /// and draws with [`quarry_core::sampler`]. `samples` has one entry per wanted position.
    ///
    /// # Errors
    /// [`ExecError::BadTicket`], or the device's failure.
    fn finish(
        &mut self,
        ticket: StepTicket,
        samples: &[SampleRow<'_>],
        out: &mut StepResult,
    ) -> Result<(), ExecError>;

    /// As [`Executor::finish`]; and before it waits, starts the step behind this one: the token that is drawn for each of
    /// `ahead`, with the logits of all of them wanted. What that step writes lies behind every token that is known, so a
    /// step that nobody wants after all is dropped by the next `submit`. `None` where nothing was started, as ever where
    /// [`crate::backend::Backend::runs_ahead`] is false.
    ///
    /// # Errors
    /// As `finish`; [`ExecError::BadBatch`] where `ahead` breaks a bound.
    fn finish_ahead(
        &mut self,
        ticket: StepTicket,
        samples: &[SampleRow<'_>],
        ahead: &[AheadRow<'_>],
        out: &mut StepResult,
    ) -> Result<Option<StepTicket>, ExecError> {
        let _ = ahead;
        self.finish(ticket, samples, out).map(|()| None)
    }

    /// Copies blocks on the device, in order, before the next submit.
    ///
    /// # Errors
    /// [`ExecError::BadMove`].
    fn copy_blocks(&mut self, moves: &[BlockCopy]) -> Result<(), ExecError>;
}

/// One model's blocks in the device's KV arena: where they lie, and their way to the host pool and back. Lives as long as
/// the model is known, whether or not an executor of it does.
pub trait KvBlocks: Send {
    /// Blocks of the whole arena, as this model cuts it.
    fn blocks(&self) -> usize;

    /// Starts moving blocks between device and host; ends in [`KvBlocks::poll`], perhaps much later. Until then nobody
    /// writes a block that leaves, and nobody touches one that comes.
    ///
    /// # Errors
    /// [`ExecError::BadMove`] before anything moves.
    fn swap(&mut self, id: SwapId, host: &HostPool, moves: &[BlockMove]) -> Result<(), ExecError>;

    /// Appends the swaps that ended since the last call.
    fn poll(&mut self, done: &mut Vec<SwapDone>);

    /// The back end's own form, for its executors.
    fn state(&self) -> Arc<dyn Any + Send + Sync>;
}
