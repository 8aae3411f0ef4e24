//! What every back end checks before it touches memory: batches against an executor's bounds, blocks of copies and swaps,
//! the options an executor is made with. One place, so that a bound holds on every device.

use std::ops::Range;

use quarry_core::ids::{BlockId, TokenId};
use quarry_core::plan::{BlockMove, Direction};
use quarry_core::sampler::SampleRow;

use crate::backend::{ActivateOptions, BackendError};
use crate::executor::{AheadRow, Batch, BlockCopy, Caps, ExecError, Row, StepResult};
use crate::kv::{HostPool, KvArena};

impl Caps {
    /// Everything a forward pass relies on: bounds, tokens of the vocabulary, tables that cover the positions, of which a
    /// sequence has at most `positions_max`.
    ///
    /// # Errors
    /// [`ExecError::BadBatch`] names the row and what is wrong with it.
    pub fn check_batch(
        &self,
        batch: &Batch<'_>,
        vocab: usize,
        positions_max: usize,
    ) -> Result<(), ExecError> {
        let bad = |what: String| Err(ExecError::BadBatch(what));
        let tokens: usize = batch.rows.iter().map(|row| row.tokens.len()).sum();
        if batch.rows.len() > self.batch_rows_max || tokens > self.batch_tokens_max {
            let (rows, most_rows, most) = (batch.rows.len(), self.batch_rows_max, self.batch_tokens_max);
            return bad(format!("{rows} rows of {tokens} tokens, at most {most_rows} of {most}"));
        }
        for (index, row) in batch.rows.iter().enumerate() {
            if row.tokens.is_empty() {
                return bad(format!("row {index} is empty"));
            }
            if let Some(token) = row.tokens.iter().find(|&&token| token as usize >= vocab) {
                return bad(format!("row {index}: token {token} is outside the vocabulary of {vocab}"));
            }
            let covered = row.blocks.len().saturating_mul(self.block_tokens).min(positions_max);
            let end = row.first_position.checked_add(row.tokens.len());
            if end.is_none_or(|end| end > covered) {
                let (blocks, first) = (row.blocks.len(), row.first_position);
                return bad(format!(
                    "row {index}: {} tokens from position {first} on are past its {blocks} blocks or the context",
                    row.tokens.len()
                ));
            }
            if let Some(block) = row.blocks.iter().find(|block| block.0 as usize >= self.blocks) {
                return bad(format!("row {index}: block {block} of {} does not exist", self.blocks));
            }
            let ascending = row.wanted.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || row.wanted.last().is_some_and(|&last| last >= row.tokens.len()) {
                let wanted = row.wanted;
                return bad(format!(
                    "row {index}: wanted offsets {wanted:?} are not ascending within the row"
                ));
            }
        }
        Ok(())
    }

    /// What [`Caps::check_batch`] checks, for a step behind one of which `samples` tokens are drawn; the numbers of the draws
    /// whose tokens it runs.
    ///
    /// # Errors
    /// [`ExecError::BadBatch`].
    pub fn check_ahead(
        &self,
        ahead: &[AheadRow<'_>],
        samples: usize,
        positions_max: usize,
    ) -> Result<Vec<TokenId>, ExecError> {
        let numbers: Vec<TokenId> = ahead.iter().map(|row| row.sample as TokenId).collect();
        let rows: Vec<Row<'_>> = ahead.iter().zip(&numbers).map(|(row, number)| row.row(number)).collect();
        // A draw's number is checked as a token is: there are as many as samples.
        self.check_batch(&Batch::new(&rows), samples, positions_max)?;
        Ok(numbers)
    }

    /// Whether every block of the copies exists.
    ///
    /// # Errors
    /// [`ExecError::BadMove`].
    pub fn check_copies(&self, copies: &[BlockCopy]) -> Result<(), ExecError> {
        copies.iter().flat_map(|copy| [copy.from, copy.to]).try_for_each(|block| exists(block, self.blocks))
    }
}

impl StepResult {
    /// Emptied for a step of which `wanted` positions are wanted.
    ///
    /// # Errors
    /// [`ExecError::BadBatch`] where there are not as many samples.
    pub fn begin(&mut self, samples: &[SampleRow<'_>], wanted: usize) -> Result<(), ExecError> {
        if samples.len() != wanted {
            let what = format!("{} samples for {wanted} wanted positions", samples.len());
            return Err(ExecError::BadBatch(what));
        }
        self.sampled.clear();
        self.logits.clear();
        self.hidden.clear();
        Ok(())
    }
}

fn exists(block: BlockId, blocks: usize) -> Result<(), ExecError> {
    if (block.0 as usize) < blocks {
        return Ok(());
    }
    Err(ExecError::BadMove(format!("block {block} of {blocks} does not exist")))
}

/// A move of a swap, its place in the host pool found.
#[derive(Clone, Debug)]
pub struct CheckedMove {
    /// The device side.
    pub block: BlockId,
    /// The host side: bytes of the pool.
    pub host: Range<usize>,
    /// Which way.
    pub direction: Direction,
}

/// The moves of a swap between `blocks` device blocks of `block_bytes` bytes and a host pool.
///
/// # Errors
/// [`ExecError::BadMove`] for a block that does not exist or lies outside the pool.
pub fn check_moves(
    moves: &[BlockMove],
    blocks: usize,
    host: &HostPool,
    block_bytes: usize,
) -> Result<Vec<CheckedMove>, ExecError> {
    let check = |step: &BlockMove| {
        exists(step.device, blocks)?;
        let host =
            host.range(step.host, block_bytes).map_err(|error| ExecError::BadMove(error.to_string()))?;
        Ok(CheckedMove { block: step.device, host, direction: step.direction })
    };
    moves.iter().map(check).collect()
}

impl ActivateOptions {
    /// Whether an executor over a cache with blocks of `cache_block_tokens` positions can be made so.
    ///
    /// # Errors
    /// [`BackendError::Options`].
    pub fn check(&self, cache_block_tokens: usize) -> Result<(), BackendError> {
        if self.batch_tokens_max == 0 || self.batch_rows_max == 0 {
            return Err(BackendError::Options("batch tokens and batch rows must be above 0".into()));
        }
        if cache_block_tokens != self.block_tokens {
            let (have, want) = (cache_block_tokens, self.block_tokens);
            return Err(BackendError::Options(format!("blocks of {want} positions over a cache of {have}")));
        }
        Ok(())
    }
}

impl KvArena {
    /// Whether a slab has room for a block of so many bytes.
    ///
    /// # Errors
    /// [`BackendError::Memory`].
    pub fn check_block(&self, block_bytes: usize) -> Result<(), BackendError> {
        if self.slab_blocks(block_bytes) > 0 {
            return Ok(());
        }
        let free_bytes = self.slab_bytes();
        Err(BackendError::Memory { what: "a KV block", needed_bytes: block_bytes, free_bytes })
    }
}
