//! One model's device blocks: reference-counted, with a prefix cache over full blocks.
//!
//! A full block is known by the hash of (hash of the blocks before it, its tokens); a hit compares the tokens
//! themselves, so a collision costs a miss and never a wrong answer. A block that nobody holds stays cached and
//! idle until it is the least recently used one when a block is needed.
//! Invariant: every block is exactly one of free, held (`refs > 0`) or idle (`refs == 0`, cached).

use std::collections::{BTreeMap, HashMap};

use crate::ids::{BlockId, TokenId};

/// Hash of a chain of full blocks; the chain's start is the request's cache salt.
pub type ChainHash = u64;

#[derive(Debug, Default)]
struct Block {
    refs: u32,
    cached: Option<Cached>,
    /// Place in the idle order; meaningful while `refs == 0` and cached.
    stamp: u64,
}

#[derive(Debug)]
struct Cached {
    hash: ChainHash,
    parent: ChainHash,
    tokens: Vec<TokenId>,
}

/// The pool.
#[derive(Debug)]
pub struct BlockPool {
    block_tokens: usize,
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    idle: BTreeMap<u64, BlockId>,
    by_hash: HashMap<ChainHash, BlockId>,
    clock: u64,
}

impl BlockPool {
    /// `blocks` free blocks of `block_tokens` positions.
    pub fn new(blocks: u32, block_tokens: u32) -> Self {
        Self {
            block_tokens: block_tokens.max(1) as usize,
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            free: (0..blocks).rev().map(BlockId).collect(),
            idle: BTreeMap::new(),
            by_hash: HashMap::new(),
            clock: 0,
        }
    }

    /// Positions of a block.
    pub fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Blocks in all.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that [`BlockPool::allocate`] can still give.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Idle blocks that hold a cached prefix.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// A block with one reference and no content; evicts the least recently used idle one where none is free.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let (_, id) = self.idle.pop_first()?;
                self.forget(id);
                id
            }
        };
        self.blocks[id.0 as usize].refs = 1;
        Some(id)
    }

    /// One more holder.
    pub fn share(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.0 as usize];
        if block.refs == 0 {
            self.idle.remove(&block.stamp);
        }
        block.refs += 1;
    }

    /// One holder less; the last one leaves it idle (cached) or free.
    pub fn release(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.0 as usize];
        debug_assert!(block.refs > 0, "block {id} is not held");
        block.refs = block.refs.saturating_sub(1);
        if block.refs > 0 {
            return;
        }
        if block.cached.is_some() {
            self.clock += 1;
            block.stamp = self.clock;
            self.idle.insert(self.clock, id);
        } else {
            self.free.push(id);
        }
    }

    /// Makes a held, full, computed block findable; returns the chain's hash. A block with the same content that
    /// is already findable stays the one.
    pub fn publish(&mut self, id: BlockId, parent: ChainHash, tokens: &[TokenId]) -> ChainHash {
        let hash = chain(parent, tokens);
        if tokens.len() == self.block_tokens
            && self.blocks[id.0 as usize].cached.is_none()
            && !self.by_hash.contains_key(&hash)
        {
            self.by_hash.insert(hash, id);
            self.blocks[id.0 as usize].cached = Some(Cached { hash, parent, tokens: tokens.to_vec() });
        }
        hash
    }

    /// The longest cached run of full blocks at the start of `tokens`, not held yet, with the chain's hashes.
    pub fn lookup(&self, salt: u64, tokens: &[TokenId]) -> Vec<(BlockId, ChainHash)> {
        let mut found = Vec::new();
        let mut parent = salt;
        for full in tokens.chunks_exact(self.block_tokens) {
            let hash = chain(parent, full);
            let Some(&id) = self.by_hash.get(&hash) else { break };
            let same = |c: &Cached| c.parent == parent && c.tokens == full;
            if !self.blocks[id.0 as usize].cached.as_ref().is_some_and(same) {
                break;
            }
            found.push((id, hash));
            parent = hash;
        }
        found
    }

    /// Holders of a block.
    pub fn refs(&self, id: BlockId) -> u32 {
        self.blocks[id.0 as usize].refs
    }

    fn forget(&mut self, id: BlockId) {
        if let Some(cached) = self.blocks[id.0 as usize].cached.take() {
            self.by_hash.remove(&cached.hash);
        }
    }

    /// Panics where the invariant of the module head does not hold.
    pub fn check(&self) {
        let mut places = vec![0u32; self.blocks.len()];
        for id in self.free.iter().chain(self.idle.values()) {
            places[id.0 as usize] += 1;
        }
        for (index, block) in self.blocks.iter().enumerate() {
            let held = u32::from(block.refs > 0);
            assert_eq!(places[index] + held, 1, "block {index} is in one place");
        }
        for (stamp, id) in &self.idle {
            let block = &self.blocks[id.0 as usize];
            assert!(block.cached.is_some() && block.stamp == *stamp, "idle block {id} is cached");
        }
        for id in &self.free {
            assert!(self.blocks[id.0 as usize].cached.is_none(), "free block {id} holds nothing");
        }
        for (hash, id) in &self.by_hash {
            let cached = self.blocks[id.0 as usize].cached.as_ref();
            assert!(cached.is_some_and(|c| c.hash == *hash), "block {id} is the one its hash names");
        }
    }
}

/// FNV-1a over the parent's hash and the tokens' bytes (Fowler, Noll, Vo), with a final mix.
fn chain(parent: ChainHash, tokens: &[TokenId]) -> ChainHash {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ parent.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for token in tokens {
        hash = (hash ^ u64::from(*token)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    hash
}
