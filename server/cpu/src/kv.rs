//! The paged KV cache of one executor, in slabs leased from the arena.
//!
//! ```text
//! block → layer → kv head → K [head_dim][block_tokens] f16, then V [block_tokens][width] f16
//! ```
//! K lies transposed so that a register holds one dimension of 16 keys; V lies by position so that it holds 16
//! dimensions of one; `width` is `head_dim` up to whole sixteens. All values are finite (see
//! [`halves`](crate::kernels::elementwise::halves)).

use quarry_model::ids::BlockId;
use quarry_model::kv::SlabLease;
use quarry_model::spec::DecoderSpec;

use crate::kernels::vector::LANES;

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
        Self { layers: spec.layers, kv_heads: spec.kv_heads, head_dim: spec.head_dim, block_tokens }
    }

    /// Elements of a row of V: `head_dim` up to whole sixteens.
    pub fn width(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Elements of K and V of one head in a block.
    fn head_elements(&self) -> usize {
        (self.head_dim + self.width()) * self.block_tokens
    }

    pub fn block_bytes(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_elements()
    }

    /// Offset in elements of a head's K; its V follows.
    pub fn head_offset(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * self.head_elements()
    }
}

/// The cache.
pub struct KvCache {
    pub shape: KvShape,
    blocks: Vec<*mut u16>,
    /// Owns the memory that `blocks` points into.
    _lease: SlabLease,
}

// SAFETY: the pointers go to memory that the lease owns and that moves with it nowhere (heap); access from several
// threads is ruled by `write` and `head`, whose callers promise disjointness.
unsafe impl Send for KvCache {}
// SAFETY: as above.
unsafe impl Sync for KvCache {}

impl KvCache {
    pub fn new(shape: KvShape, blocks: usize, mut lease: SlabLease) -> Self {
        let bytes = shape.block_bytes();
        let places: Vec<(usize, usize)> = (0..blocks).map(|b| lease.locate(BlockId(b as u32))).collect();
        let sizes: Vec<usize> = lease.slabs_mut().iter().map(|slab| slab.bytes()).collect();
        let starts: Vec<*mut u8> = lease.slabs_mut().iter_mut().map(|slab| slab.as_mut_ptr()).collect();
        let locate = |(slab, offset): (usize, usize)| {
            assert!(offset + bytes <= sizes[slab], "block within its slab");
            // SAFETY: the assertion keeps the offset within the slab's allocation.
            unsafe { starts[slab].add(offset).cast::<u16>() }
        };
        let blocks = places.into_iter().map(locate).collect();
        Self { shape, blocks, _lease: lease }
    }

    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Writes one position's key (`head_dim` halves) and value (`width` halves) of one head.
    ///
    /// # Safety
    /// No other thread reads or writes this position of this head meanwhile.
    pub unsafe fn write(&self, block: BlockId, slot: usize, offset: usize, key: &[u16], value: &[u16]) {
        let KvShape { head_dim, block_tokens, .. } = self.shape;
        let width = self.shape.width();
        assert!(slot < block_tokens && key.len() >= head_dim && value.len() == width);
        assert!((offset + self.shape.head_elements()) * 2 <= self.shape.block_bytes());
        let start = self.blocks[block.0 as usize];
        // SAFETY: the assertions keep every element within the head's part of the block.
        unsafe {
            let keys = start.add(offset);
            for (d, &k) in key.iter().enumerate().take(head_dim) {
                keys.add(d * block_tokens + slot).write(k);
            }
            let values = keys.add(head_dim * block_tokens + slot * width);
            std::ptr::copy_nonoverlapping(value.as_ptr(), values, width);
        }
    }

    /// A head's K in a block; its V follows at once.
    pub fn head(&self, block: BlockId, offset: usize) -> *const u16 {
        assert!((offset + self.shape.head_elements()) * 2 <= self.shape.block_bytes());
        // SAFETY: within the block by the assertion.
        unsafe { self.blocks[block.0 as usize].add(offset) }
    }

    pub fn copy(&mut self, from: BlockId, to: BlockId) {
        let words = self.shape.block_bytes() / 2;
        // SAFETY: both are whole blocks of the lease; `&mut self` excludes every other access; `copy` allows overlap.
        unsafe { std::ptr::copy(self.blocks[from.0 as usize], self.blocks[to.0 as usize], words) };
    }

    pub fn read_block(&mut self, block: BlockId, out: &mut [u8]) {
        assert_eq!(out.len(), self.shape.block_bytes());
        // SAFETY: a whole block into a buffer of equal length; `&mut self` excludes every other access.
        unsafe {
            std::ptr::copy_nonoverlapping(self.blocks[block.0 as usize].cast(), out.as_mut_ptr(), out.len());
        }
    }

    pub fn write_block(&mut self, block: BlockId, from: &[u8]) {
        assert_eq!(from.len(), self.shape.block_bytes());
        // SAFETY: as in `read_block`.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.blocks[block.0 as usize].cast(), from.len());
        }
    }
}
