//! The paged KV cache of one executor, in slabs leased from the arena.
//!
//! ```text
//! block → layer → kv head → K [head_dim][block_tokens] f16, then V [block_tokens][head_dim] f16
//! ```
//! K lies transposed so that a register holds one dimension of 16 keys; V lies by position so that it holds 16
//! dimensions of one. Values are clamped to what f16 holds, so no block ever has an infinity or NaN that a masked
//! weight of 0 would turn into one for another sequence.

use half::f16;
use quarry_model::ids::BlockId;
use quarry_model::kv::SlabLease;
use quarry_model::spec::DecoderSpec;

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

    /// Elements of K, or of V, of one head in a block.
    fn head_elements(&self) -> usize {
        self.head_dim * self.block_tokens
    }

    pub fn block_bytes(&self) -> usize {
        2 * 2 * self.layers * self.kv_heads * self.head_elements()
    }

    /// Offset in elements of a head's K; its V follows.
    pub fn head_offset(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * 2 * self.head_elements()
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

    /// Writes one position's key and value of one head.
    ///
    /// # Safety
    /// No other thread reads or writes this position of this head meanwhile.
    pub unsafe fn write(&self, block: BlockId, slot: usize, offset: usize, key: &[f32], value: &[f32]) {
        let KvShape { head_dim, block_tokens, .. } = self.shape;
        assert!(slot < block_tokens && key.len() == head_dim && value.len() == head_dim);
        assert!((offset + 2 * self.shape.head_elements()) * 2 <= self.shape.block_bytes());
        let start = self.blocks[block.0 as usize];
        // SAFETY: the assertions keep every element within the head's part of the block.
        unsafe {
            let keys = start.add(offset);
            let values = keys.add(self.shape.head_elements() + slot * head_dim);
            for (d, (&k, &v)) in key.iter().zip(value).enumerate() {
                keys.add(d * block_tokens + slot).write(to_half(k));
                values.add(d).write(to_half(v));
            }
        }
    }

    /// A head's K in a block; its V follows at once.
    pub fn head(&self, block: BlockId, offset: usize) -> *const u16 {
        assert!((offset + 2 * self.shape.head_elements()) * 2 <= self.shape.block_bytes());
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

fn to_half(value: f32) -> u16 {
    let max = f16::MAX.to_f32();
    let finite = if value.is_nan() { 0.0 } else { value.clamp(-max, max) };
    f16::from_f32(finite).to_bits()
}
