//! A model's paged KV cache in the device's arena.
//!
//! ```text
//! block → layer → kv head → keys, values, scales and exponents as `HeadLayout` draws them
//! ```
//! Keys lie transposed so that a register holds two dimensions of 16 keys, values by pairs of positions so that it holds
//! 16 dimensions of two. Any bytes are good to read: what a block holds past its last position is masked.

use std::sync::Arc;

use quarry_model::ids::BlockId;
use quarry_model::kv::{HostMemory, KvArena};
use quarry_model::spec::DecoderSpec;

use crate::isa::Kernels;
use crate::kernels::attention::HeadLayout;
use crate::kernels::fixed_point::Word;

/// Shape of a block.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head: HeadLayout,
}

impl KvShape {
    pub fn new(spec: &DecoderSpec, block_tokens: usize) -> Self {
        let head = HeadLayout { head_dim: spec.head_dim, block_tokens };
        Self { layers: spec.layers, kv_heads: spec.kv_heads, head }
    }

    pub fn block_bytes(&self) -> usize {
        self.layers * self.kv_heads * self.head.words() * size_of::<Word>()
    }

    /// Offset in words of a head's part.
    pub fn head_offset(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * self.head.words()
    }
}

/// One position's key and value of one head, as integers of 16 bits.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Pairs of dimensions.
    pub key: Vec<Word>,
    pub scale: f32,
    /// Pairs of dimensions, `width / 2`.
    pub value: Vec<Word>,
    pub exponent: f32,
}

impl Entry {
    pub fn new(layout: HeadLayout) -> Self {
        let (key, value) = (vec![0; layout.pairs()], vec![0; layout.width() / 2]);
        Self { key, scale: 0.0, value, exponent: 0.0 }
    }

    /// Writes a head's key and value.
    pub fn set(&mut self, kernels: Kernels, key: &[f32], value: &[f32]) {
        // SAFETY: the table proves the instruction set.
        unsafe {
            self.scale = (kernels.by_norm)(key, &mut self.key);
            self.exponent = (kernels.by_power)(value, &mut self.value);
        }
    }
}

/// Writes an entry into a head's part of a block.
///
/// # Safety
/// `head` points to `layout.words()` words; nobody else reads or writes this slot meanwhile.
pub unsafe fn write_entry(head: *mut Word, layout: HeadLayout, slot: usize, entry: &Entry) {
    let HeadLayout { block_tokens, .. } = layout;
    let width = layout.width();
    assert!(slot < block_tokens, "slot {slot} of {block_tokens}");
    assert!(entry.key.len() == layout.pairs() && entry.value.len() == width / 2, "an entry's size");
    // SAFETY: the assertions and the caller's promise keep every element within the head's part.
    unsafe {
        for (i, pair) in entry.key.iter().enumerate() {
            head.add(i * block_tokens + slot).write(*pair);
        }
        // The other half of each word is the neighbour position's.
        let values = head.add(layout.values() + slot / 2 * width).cast::<i16>().add(slot % 2);
        for (i, pair) in entry.value.iter().enumerate() {
            values.add(4 * i).write(*pair as i16);
            values.add(4 * i + 2).write((pair >> 16) as i16);
        }
        let scales = head.add(layout.scales() + slot).cast::<f32>();
        scales.write(entry.scale);
        scales.add(block_tokens).write(entry.exponent);
    }
}

/// One model's blocks in the arena, shared by its executors and the copier thread.
pub struct KvCache {
    pub shape: KvShape,
    blocks: Vec<*mut Word>,
    /// Owns the memory that `blocks` points into.
    _memory: Arc<HostMemory>,
}

// SAFETY: the pointers go to memory that is kept alive with them and moves nowhere (a map); access from several threads
// is ruled by `write`, `head` and `write_block`, whose callers promise disjointness.
unsafe impl Send for KvCache {}
// SAFETY: as above.
unsafe impl Sync for KvCache {}

impl KvCache {
    /// Every block of the arena; `None` for one of another back end.
    pub fn new(shape: KvShape, arena: &KvArena) -> Option<Self> {
        let memory = arena.storage::<HostMemory>()?;
        let bytes = shape.block_bytes();
        let per_slab = arena.slab_blocks(bytes);
        let start = |block: usize| {
            let offset = block / per_slab * arena.slab_bytes() + block % per_slab * bytes;
            assert!(offset + bytes <= memory.bytes(), "block within the arena");
            // SAFETY: the assertion keeps the offset within the map.
            unsafe { memory.as_mut_ptr().add(offset).cast::<Word>() }
        };
        let blocks = (0..arena.slabs() * per_slab).map(start).collect();
        Some(Self { shape, blocks, _memory: memory })
    }

    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Writes one position's key and value of the head at `offset`.
    ///
    /// # Safety
    /// No other thread reads or writes this position of this head meanwhile.
    pub unsafe fn write(&self, block: BlockId, slot: usize, offset: usize, entry: &Entry) {
        // SAFETY: a whole head's part; the caller's promise.
        unsafe { write_entry(self.head(block, offset).cast_mut(), self.shape.head, slot, entry) }
    }

    /// A head's part of a block.
    pub fn head(&self, block: BlockId, offset: usize) -> *const Word {
        assert!((offset + self.shape.head.words()) * size_of::<Word>() <= self.shape.block_bytes());
        // SAFETY: within the block by the assertion.
        unsafe { self.blocks[block.0 as usize].add(offset) }
    }

    /// Copies a block.
    ///
    /// # Safety
    /// Nobody else writes `from`, or uses `to`, meanwhile.
    pub unsafe fn copy(&self, from: BlockId, to: BlockId) {
        let words = self.shape.block_bytes() / size_of::<Word>();
        // SAFETY: both are whole blocks of the arena; the caller's promise; `copy` allows overlap.
        unsafe { std::ptr::copy(self.blocks[from.0 as usize], self.blocks[to.0 as usize], words) };
    }

    /// # Safety
    /// Nobody writes the block meanwhile.
    pub unsafe fn read_block(&self, block: BlockId, out: &mut [u8]) {
        assert_eq!(out.len(), self.shape.block_bytes());
        // SAFETY: a whole block into a buffer of equal length; the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(self.blocks[block.0 as usize].cast(), out.as_mut_ptr(), out.len());
        }
    }

    /// # Safety
    /// Nobody uses the block meanwhile.
    pub unsafe fn write_block(&self, block: BlockId, from: &[u8]) {
        assert_eq!(from.len(), self.shape.block_bytes());
        // SAFETY: as in `read_block`.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.blocks[block.0 as usize].cast(), from.len());
        }
    }
}
