//! A model's blocks, and their way to the host pool: copied at once.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

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
        let mut ranges = Vec::with_capacity(moves.len());
        for step in moves {
            if step.device.0 as usize >= cache.blocks() {
                let (block, blocks) = (step.device, cache.blocks());
                return Err(ExecError::BadMove(format!("block {block} of {blocks} does not exist")));
            }
            ranges.push(host.range(step.host, bytes).map_err(|error| ExecError::BadMove(error.to_string()))?);
        }
        let mut pool = host.lock();
        for (step, range) in moves.iter().zip(ranges) {
            let held = &mut pool.bytes_mut()[range];
            match step.direction {
                Direction::Out => cache.copy_to(step.device, held),
                Direction::In => cache.set_bytes(step.device, held),
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
