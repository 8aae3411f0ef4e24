//! One model's device blocks: reference-counted, with a prefix cache over full blocks.
//!
//! A full block is known by what it follows and its tokens. What it follows is a [`Chain`]: the start of a salted
//! sequence, or one content that was published before, named by a number that is never reused. A hit compares the
//! chain and the tokens themselves, so that a collision of hashes costs a miss and never a wrong answer.
//! A block that nobody holds stays cached and idle until it is the least recently used one when one is needed.
//! Invariant: every block is exactly one of free, held (`refs > 0`) or idle (`refs == 0`, cached).

use std::collections::{BTreeMap, HashMap};

use crate::ids::{BlockId, TokenId};

/// What a block's content follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Nothing: the first block of sequences with this cache salt.
    Start(u64),
    /// The content with this number.
    After(u64),
}

#[derive(Debug, Default)]
struct Block {
    refs: u32,
    cached: Option<Cached>,
    /// Place in the idle order; meaningful while `refs == 0` and cached.
    stamp: u64,
}

#[derive(Debug)]
struct Cached {
    hash: u64,
    follows: Chain,
    tokens: Vec<TokenId>,
    /// What a block after this one follows.
    content: u64,
}

/// The pool.
#[derive(Debug)]
pub struct BlockPool {
    block_tokens: usize,
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    idle: BTreeMap<u64, BlockId>,
    by_hash: HashMap<u64, BlockId>,
    clock: u64,
    contents: u64,
}

impl BlockPool {
    /// `blocks` free blocks of `block_tokens` positions (at least one).
    pub fn new(blocks: u32, block_tokens: u32) -> Self {
        Self {
            block_tokens: block_tokens.max(1) as usize,
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            free: (0..blocks).rev().map(BlockId).collect(),
            idle: BTreeMap::new(),
            by_hash: HashMap::new(),
            clock: 0,
            contents: 0,
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

    /// Holders of a block.
    pub fn refs(&self, id: BlockId) -> u32 {
        self.blocks[id.0 as usize].refs
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

    /// One more holder of a held or idle block.
    pub fn share(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.0 as usize];
        debug_assert!(block.refs > 0 || block.cached.is_some(), "block {id} is free");
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

    /// Makes a held, full, computed block findable; returns what the next block of its sequence follows. A block
    /// with the same content that is already findable stays the one.
    pub fn publish(&mut self, id: BlockId, follows: Chain, tokens: &[TokenId]) -> Chain {
        debug_assert_eq!(tokens.len(), self.block_tokens, "only full blocks are published");
        let hash = hash(follows, tokens);
        if let Some(content) = self.find(hash, follows, tokens).map(|(_, content)| content) {
            return Chain::After(content);
        }
        self.contents += 1;
        let content = self.contents;
        let block = &mut self.blocks[id.0 as usize];
        // On a collision the older content stays findable, and what follows this one can never be found.
        if block.cached.is_none() && !self.by_hash.contains_key(&hash) {
            self.by_hash.insert(hash, id);
            block.cached = Some(Cached { hash, follows, tokens: tokens.to_vec(), content });
        }
        Chain::After(content)
    }

    /// The longest cached run of full blocks at the start of `tokens`, not held yet, each with what follows it.
    pub fn lookup(&self, salt: u64, tokens: &[TokenId]) -> Vec<(BlockId, Chain)> {
        let mut found = Vec::new();
        let mut follows = Chain::Start(salt);
        for full in tokens.chunks_exact(self.block_tokens) {
            let Some((id, content)) = self.find(hash(follows, full), follows, full) else { break };
            follows = Chain::After(content);
            found.push((id, follows));
        }
        found
    }

    fn find(&self, hash: u64, follows: Chain, tokens: &[TokenId]) -> Option<(BlockId, u64)> {
        let id = *self.by_hash.get(&hash)?;
        let cached = self.blocks[id.0 as usize].cached.as_ref()?;
        (cached.follows == follows && cached.tokens == tokens).then_some((id, cached.content))
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
        let cached = self.blocks.iter().filter(|block| block.cached.is_some()).count();
        assert_eq!(cached, self.by_hash.len(), "every cached block is findable");
        for (hash, id) in &self.by_hash {
            let cached = self.blocks[id.0 as usize].cached.as_ref();
            assert!(cached.is_some_and(|c| c.hash == *hash), "block {id} is the one its hash names");
        }
    }
}

/// FNV-1a over the chain's and the tokens' words (Fowler, Noll, Vo), with a shift for the high bits.
fn hash(follows: Chain, tokens: &[TokenId]) -> u64 {
    let (kind, number) = match follows {
        Chain::Start(salt) => (0, salt),
        Chain::After(content) => (1, content),
    };
    let words = [kind, number].into_iter().chain(tokens.iter().map(|&token| u64::from(token)));
    words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, word| {
        let hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3);
        hash ^ (hash >> 29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collision_of_hashes_is_a_miss() {
        let mut pool = BlockPool::new(4, 2);
        let (start, ours, theirs) = (Chain::Start(0), [1, 2], [3, 4]);
        let block = pool.allocate().unwrap();
        pool.publish(block, start, &ours);
        // As if both contents had one hash.
        let one = hash(start, &ours);
        pool.blocks[block.0 as usize].cached.as_mut().unwrap().hash = hash(start, &theirs);
        pool.by_hash.remove(&one);
        pool.by_hash.insert(hash(start, &theirs), block);
        assert_eq!(pool.lookup(0, &theirs), []);
        // The other content cannot be found either, and no content is taken for it.
        let other = pool.allocate().unwrap();
        let after = pool.publish(other, start, &theirs);
        assert_eq!(after, Chain::After(2));
        assert_eq!(pool.lookup(0, &theirs), []);
        pool.check();
    }
}
