//! Keys and values by block: `layer → key, value → slot → kv head × head_dim`, f32.
//!
//! Blocks are vectors of their own, made when they are first written: sharing an arena's bytes would need unsafe code,
//! which the oracle does without.

use quarry_model::ids::BlockId;
use quarry_model::spec::DecoderSpec;

/// Shape of a block.
#[derive(Clone, Copy, Debug)]
pub struct BlockShape {
    layers: usize,
    /// Elements of one position's key, or value: all KV heads.
    width: usize,
    /// Positions.
    pub tokens: usize,
}

impl BlockShape {
    pub fn new(spec: &DecoderSpec, block_tokens: usize) -> Self {
        Self { layers: spec.layers, width: spec.kv_heads * spec.head_dim, tokens: block_tokens }
    }

    fn elements(self) -> usize {
        self.layers * 2 * self.tokens * self.width
    }

    pub fn bytes(self) -> usize {
        self.elements() * size_of::<f32>()
    }

    /// First element of a slot's key; its value lies `tokens * width` further.
    fn key(self, layer: usize, slot: usize) -> usize {
        (layer * 2 * self.tokens + slot) * self.width
    }
}

/// One model's blocks.
pub struct Cache {
    pub shape: BlockShape,
    blocks: Vec<Vec<f32>>,
}

impl Cache {
    pub fn new(shape: BlockShape, blocks: usize) -> Self {
        Self { shape, blocks: vec![Vec::new(); blocks] }
    }

    fn block(&mut self, block: BlockId) -> &mut Vec<f32> {
        let elements = self.shape.elements();
        let block = &mut self.blocks[block.0 as usize];
        block.resize(elements, 0.0);
        block
    }

    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Stores one position's key and value, all KV heads.
    pub fn write(&mut self, table: &[BlockId], layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let BlockShape { tokens, width, .. } = self.shape;
        let at = self.shape.key(layer, position % tokens);
        let block = self.block(table[position / tokens]);
        block[at..at + width].copy_from_slice(key);
        block[at + tokens * width..at + (tokens + 1) * width].copy_from_slice(value);
    }

    /// Keys and values of positions `0..count`, each `count × kv heads × head_dim`.
    pub fn read(&self, table: &[BlockId], layer: usize, count: usize) -> (Vec<f32>, Vec<f32>) {
        let BlockShape { tokens, width, .. } = self.shape;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for position in 0..count {
            let block = &self.blocks[table[position / tokens].0 as usize];
            let at = self.shape.key(layer, position % tokens);
            keys.extend_from_slice(&block[at..at + width]);
            values.extend_from_slice(&block[at + tokens * width..at + (tokens + 1) * width]);
        }
        (keys, values)
    }

    pub fn copy(&mut self, from: BlockId, to: BlockId) {
        self.blocks[to.0 as usize] = self.blocks[from.0 as usize].clone();
    }

    /// A block's bytes, little-endian; `out` has [`BlockShape::bytes`] of them.
    pub fn copy_to(&mut self, block: BlockId, out: &mut [u8]) {
        for (value, bytes) in self.block(block).iter().zip(out.as_chunks_mut().0) {
            *bytes = value.to_le_bytes();
        }
    }

    /// The inverse of [`Cache::copy_to`].
    pub fn set_bytes(&mut self, block: BlockId, from: &[u8]) {
        for (value, bytes) in self.block(block).iter_mut().zip(from.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
}
