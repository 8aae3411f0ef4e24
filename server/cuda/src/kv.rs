//! A model's paged KV cache in the device's arena, and its way to the host pool.
//!
//! ```text
//! bf16   block → layer → keys, values → kv head → position → head_dim
//! int8   block → layer → keys, values → kv head → 16 positions → position → head_dim, then 16 scales
//! ```
//! Swaps run on the copy stream, ordered by the copier thread: a block that leaves is read once the steps that were queued
//! before are done; one that comes is in no step before its swap has ended.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::DriverError;

use quarry_cuda_layout::KvShape;
use quarry_model::checks::{CheckedMove, check_moves};
use quarry_model::copier::{Completions, Copier};
use quarry_model::executor::{ExecError, KvBlocks, SwapDone};
use quarry_model::ids::{BlockId, SwapId};
use quarry_model::kv::{HostPool, KvArena};
use quarry_model::plan::{BlockMove, Direction};

use crate::device::{Device, Memory, exec};
use crate::locked_pool::LockedPool;

/// The arena as one model cuts it.
pub struct KvCache {
    pub shape: KvShape,
    pub memory: Arc<Memory>,
    slab_bytes: usize,
    slab_blocks: usize,
    slabs: usize,
}

impl KvCache {
    /// `None` where the arena is another back end's.
    pub fn new(shape: KvShape, arena: &KvArena) -> Option<Self> {
        let memory = arena.storage::<Memory>()?;
        let slab_blocks = arena.slab_blocks(shape.block_bytes());
        Some(Self { shape, memory, slab_bytes: arena.slab_bytes(), slab_blocks, slabs: arena.slabs() })
    }

    pub fn blocks(&self) -> usize {
        self.slabs * self.slab_blocks
    }

    /// Largest distance of which every block's offset is a multiple.
    pub fn page_bytes(&self) -> usize {
        let (mut a, mut b) = (self.slab_bytes, self.shape.block_bytes());
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// Places in the arena at that distance.
    pub fn pages(&self) -> usize {
        (self.slabs * self.slab_bytes).div_ceil(self.page_bytes().max(1))
    }

    /// Where a block begins in the arena, in bytes.
    pub fn offset(&self, block: BlockId) -> usize {
        let block = block.0 as usize;
        block / self.slab_blocks * self.slab_bytes + block % self.slab_blocks * self.shape.block_bytes()
    }
}

/// The model's view of the arena.
pub struct CudaKvBlocks {
    pub cache: Arc<KvCache>,
    pub device: Arc<Device>,
    pub copier: Arc<Copier>,
    pub completions: Completions,
    /// The host pool, once something was swapped; all models share it.
    pub locked: Arc<Mutex<Option<LockedPool>>>,
}

impl KvBlocks for CudaKvBlocks {
    fn blocks(&self) -> usize {
        self.cache.blocks()
    }

    fn swap(&mut self, id: SwapId, host: &HostPool, moves: &[BlockMove]) -> Result<(), ExecError> {
        let bytes = self.cache.shape.block_bytes();
        let copies = check_moves(moves, self.cache.blocks(), host, bytes)?;
        self.device.bind().map_err(exec)?;
        let before = self.device.mark().map_err(exec)?;
        let (cache, device, host) = (self.cache.clone(), self.device.clone(), host.clone());
        let locked = self.locked.clone();
        self.copier.order(id, &self.completions, move || {
            device.bind().map_err(exec)?;
            device.copies.wait(&before).map_err(exec)?;
            let mut locked = locked.lock().unwrap_or_else(PoisonError::into_inner);
            if !locked.as_ref().is_some_and(|locked| locked.is_of(&host)) {
                *locked = Some(LockedPool::new(&device, &host));
            }
            let mut pool = host.lock();
            let mut queued = Ok(());
            for copy in &copies {
                let is_locked = locked.as_mut().is_some_and(|locked| locked.lock(&copy.host, &mut pool));
                queued = queue(&cache, &device, copy, &mut pool.bytes_mut()[copy.host.clone()], is_locked);
                if queued.is_err() {
                    break;
                }
            }
            // Whatever was queued is waited for before anybody else may have the pool.
            device.copies.synchronize().map_err(exec)?;
            queued.map_err(exec)?;
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

/// Queues the copy of one block; one whose host side is not page-locked is carried out before this returns.
fn queue(
    cache: &KvCache,
    device: &Device,
    copy: &CheckedMove,
    held: &mut [u8],
    is_locked: bool,
) -> Result<(), DriverError> {
    let (block, stream) = (cache.offset(copy.block), &device.copies);
    match (copy.direction, is_locked) {
        // SAFETY: the caller holds the pool until the stream is done.
        (Direction::Out, true) => unsafe { cache.memory.read_queued(block, held, stream) },
        // SAFETY: as above.
        (Direction::In, true) => unsafe { cache.memory.write_queued(block, held, stream) },
        (Direction::Out, false) => cache.memory.read(block, held, stream),
        (Direction::In, false) => cache.memory.write(block, held, stream),
    }
}
