//! A model's blocks between the arena and the host pool, moved by the copier thread.

use std::any::Any;
use std::sync::Arc;

use quarry_model::checks::{CheckedMove, check_moves};
use quarry_model::copier::{Completions, Copier};
use quarry_model::executor::{ExecError, KvBlocks, SwapDone};
use quarry_model::ids::SwapId;
use quarry_model::kv::HostPool;
use quarry_model::plan::{BlockMove, Direction};

use crate::kv::KvCache;

/// The model's view of the arena.
pub struct CpuKvBlocks {
    pub cache: Arc<KvCache>,
    pub copier: Arc<Copier>,
    pub completions: Completions,
}

impl KvBlocks for CpuKvBlocks {
    fn blocks(&self) -> usize {
        self.cache.blocks()
    }

    fn swap(&mut self, id: SwapId, host: &HostPool, moves: &[BlockMove]) -> Result<(), ExecError> {
        let bytes = self.cache.shape.block_bytes();
        let copies = check_moves(moves, self.cache.blocks(), host, bytes)?;
        let (cache, host) = (self.cache.clone(), host.clone());
        self.copier.order(id, &self.completions, move || {
            let mut pool = host.lock();
            for CheckedMove { block, host, direction } in &copies {
                let held = &mut pool.bytes_mut()[host.clone()];
                // SAFETY: who orders a swap promises that until its end nobody writes a block that leaves and nobody
                // uses one that comes (`KvBlocks::swap`); the scheduler pins them, which its simulation checks.
                unsafe {
                    match direction {
                        Direction::Out => cache.read_block(*block, held),
                        Direction::In => cache.write_block(*block, held),
                    }
                }
            }
            Ok(bytes * copies.len())
        })
    }

    fn poll(&mut self, done: &mut Vec<SwapDone>) {
        self.completions.poll(done);
    }

    fn state(&self) -> Arc<dyn Any + Send + Sync> {
        self.cache.clone()
    }
}
