//! A model's blocks, and their way to the host pool: copied at once.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use quarry_model::checks::{CheckedMove, check_moves};
use quarry_model::executor::{ExecError, KvBlocks, SwapDone};
use quarry_model::ids::SwapId;
use quarry_model::kv::HostPool;
use quarry_model::plan::{BlockMove, Direction};

use crate::cache::Cache;

pub struct ReferenceKvBlocks {
    cache: Arc<Mutex<Cache>>,
    done: Vec<SwapDone>,
}

impl ReferenceKvBlocks {
    pub fn new(cache: Cache) -> Self {
        Self { cache: Arc::new(Mutex::new(cache)), done: Vec::new() }
    }
}

impl KvBlocks for ReferenceKvBlocks {
    fn blocks(&self) -> usize {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).blocks()
    }

    fn swap(&mut self, id: SwapId, host: &HostPool, moves: &[BlockMove]) -> Result<(), ExecError> {
        let begun = Instant::now();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = cache.shape.bytes();
        let moves = check_moves(moves, cache.blocks(), host, bytes)?;
        let mut pool = host.lock();
        for CheckedMove { block, host, direction } in &moves {
            let held = &mut pool.bytes_mut()[host.clone()];
            match direction {
                Direction::Out => cache.copy_to(*block, held),
                Direction::In => cache.set_bytes(*block, held),
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.done.push(SwapDone { id, result: Ok(()), bytes: bytes * moves.len(), seconds });
        Ok(())
    }

    fn poll(&mut self, done: &mut Vec<SwapDone>) {
        done.append(&mut self.done);
    }

    fn state(&self) -> Arc<dyn Any + Send + Sync> {
        self.cache.clone()
    }
}
