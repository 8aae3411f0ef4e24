//! A model's paged KV cache in the device's arena, and its way to the host pool.
//!
//! ```text
//! block → layer → keys, values → kv head → position → head_dim, bf16
//! ```
//! Swaps run on the copy stream, ordered by the copier thread: a block that leaves is read once the steps that were queued
//! before are done; one that comes is in no step before its swap has ended.

use std::any::Any;
use std::sync::Arc;

use quarry_model::checks::{CheckedMove, check_moves};
use quarry_model::copier::{Completions, Copier};
use quarry_model::executor::{ExecError, KvBlocks, SwapDone};
use quarry_model::ids::{BlockId, SwapId};
use quarry_model::kv::{HostPool, KvArena};
use quarry_model::plan::{BlockMove, Direction};
use quarry_model::spec::DecoderSpec;

use crate::device::{Device, Memory, exec};

/// Shape of a block.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub block_tokens: usize,
}

impl KvShape {
    pub fn new(spec: &DecoderSpec, block_tokens: usize) -> Self {
        let DecoderSpec { layers, kv_heads, head_dim, .. } = *spec;
        Self { layers, kv_heads, head_dim, block_tokens }
    }

    pub fn block_bytes(&self) -> usize {
        self.layers * 2 * self.kv_heads * self.block_tokens * self.head_dim * 2
    }
}

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
        self.copier.order(id, &self.completions, move || {
            device.bind().map_err(exec)?;
            let stream = &device.copies;
            stream.wait(&before).map_err(exec)?;
            let mut pool = host.lock();
            for CheckedMove { block, host, direction } in &copies {
                let (block, held) = (cache.offset(*block), &mut pool.bytes_mut()[host.clone()]);
                match direction {
                    Direction::Out => cache.memory.read(block, held, stream),
                    Direction::In => cache.memory.write(block, held, stream),
                }
                .map_err(exec)?;
            }
            stream.synchronize().map_err(exec)?;
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
