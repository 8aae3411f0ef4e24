//! One model's device blocks, in slabs leased to it: reference-counted, with a prefix cache over full blocks.
//!
//! A full block is known by what it follows and its tokens. What it follows is a [`Chain`]: the start of a salted
//! sequence, or one content that was published before, named by a number that is never reused. A hit compares the
//! chain and the tokens themselves, so that a collision of hashes costs a miss and never a wrong answer.
//! A block that nobody holds stays cached and idle until it is the least recently used one when one is needed, or its
//! slab goes to another model. Free blocks of low numbers are given first, so that high slabs become empty.
//! Invariant: every block is exactly one of free, held (`refs > 0`) or idle (`refs == 0`, cached).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ids::{BlockId, SlabId, TokenId};

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
    /// When it was last released; its key in the idle order while `refs == 0` and cached.
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

#[derive(Debug)]
struct Slab {
    blocks: Vec<Block>,
    /// Blocks with holders.
    held: u32,
    /// Blocks that are idle.
    idle: u32,
}

/// The pool.
#[derive(Debug)]
pub struct BlockPool {
    block_tokens: usize,
    slab_blocks: u32,
    slabs: BTreeMap<SlabId, Slab>,
    free: BTreeSet<BlockId>,
    /// By when they were last used.
    idle: BTreeMap<u64, BlockId>,
    by_hash: HashMap<u64, BlockId>,
    contents: u64,
}

impl BlockPool {
    /// A pool without slabs, for blocks of `block_tokens` positions, `slab_blocks` of them in a slab (at least one each).
    pub fn new(slab_blocks: u32, block_tokens: u32) -> Self {
        Self {
            block_tokens: block_tokens.max(1) as usize,
            slab_blocks: slab_blocks.max(1),
            slabs: BTreeMap::new(),
            free: BTreeSet::new(),
            idle: BTreeMap::new(),
            by_hash: HashMap::new(),
            contents: 0,
        }
    }

    /// Positions of a block.
    pub fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Blocks of a slab.
    pub fn slab_blocks(&self) -> usize {
        self.slab_blocks as usize
    }

    /// Blocks in all slabs leased now.
    pub fn total(&self) -> usize {
        self.slabs.len() * self.slab_blocks()
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
        self.block(id).map_or(0, |block| block.refs)
    }

    /// The slabs leased now.
    pub fn slabs(&self) -> impl Iterator<Item = SlabId> {
        self.slabs.keys().copied()
    }

    /// Takes a slab that was leased to this model.
    pub fn add_slab(&mut self, slab: SlabId) {
        let first = slab.0 * self.slab_blocks;
        let blocks = (0..self.slab_blocks).map(|_| Block::default()).collect();
        let known = self.slabs.insert(slab, Slab { blocks, held: 0, idle: 0 });
        debug_assert!(known.is_none(), "slab {slab} is leased once");
        self.free.extend((first..first + self.slab_blocks).map(BlockId));
    }

    /// Gives up a slab that holds nothing but cached prefixes, which are lost.
    pub fn remove_slab(&mut self, slab: SlabId) {
        let Some(found) = self.slabs.get(&slab) else { return };
        debug_assert!(found.held == 0, "nobody uses slab {slab}");
        let first = slab.0 * self.slab_blocks;
        for id in (first..first + self.slab_blocks).map(BlockId) {
            let idle = self.block(id).filter(|block| block.cached.is_some()).map(|block| block.stamp);
            if let Some(stamp) = idle {
                self.idle.remove(&stamp);
                self.forget(id);
            }
            self.free.remove(&id);
        }
        self.slabs.remove(&slab);
    }

    /// A slab without any content.
    pub fn empty_slab(&self) -> Option<SlabId> {
        self.slabs.iter().rev().find(|(_, slab)| slab.held == 0 && slab.idle == 0).map(|(id, _)| *id)
    }

    /// Slabs that nobody uses but for cached prefixes.
    pub fn unused_slabs(&self) -> usize {
        self.slabs.values().filter(|slab| slab.held == 0).count()
    }

    /// Of the slabs that nobody uses the one whose cached prefixes were used longest ago, and when the last of them was.
    pub fn oldest_unused_slab(&self) -> Option<(u64, SlabId)> {
        let unused = self.slabs.iter().filter(|(_, slab)| slab.held == 0);
        let used = |slab: &Slab| slab.blocks.iter().map(|block| block.stamp).max().unwrap_or(0);
        unused.map(|(id, slab)| (used(slab), *id)).min()
    }

    /// When the least recently used idle block was used.
    pub fn oldest_idle(&self) -> Option<u64> {
        self.idle.first_key_value().map(|(stamp, _)| *stamp)
    }

    /// A block with one reference and no content, of those that are free.
    pub fn allocate_free(&mut self) -> Option<BlockId> {
        let id = self.free.pop_first()?;
        self.hold_first(id);
        Some(id)
    }

    /// A block with one reference and no content; evicts the least recently used idle one where none is free.
    pub fn allocate(&mut self) -> Option<BlockId> {
        if let Some(id) = self.allocate_free() {
            return Some(id);
        }
        let (_, id) = self.idle.pop_first()?;
        self.forget(id);
        self.hold_first(id);
        Some(id)
    }

    fn hold_first(&mut self, id: BlockId) {
        let slab = self.slab_mut(id);
        slab.held += 1;
        self.block_mut(id).refs = 1;
    }

    fn slab_mut(&mut self, id: BlockId) -> &mut Slab {
        let slab = SlabId(id.0 / self.slab_blocks);
        self.slabs.get_mut(&slab).unwrap_or_else(|| unreachable!("block {id} is in no slab of this pool"))
    }

    fn block_mut(&mut self, id: BlockId) -> &mut Block {
        let index = (id.0 % self.slab_blocks) as usize;
        &mut self.slab_mut(id).blocks[index]
    }

    fn block(&self, id: BlockId) -> Option<&Block> {
        let slab = self.slabs.get(&SlabId(id.0 / self.slab_blocks))?;
        slab.blocks.get((id.0 % self.slab_blocks) as usize)
    }

    /// One more holder of a held or idle block.
    pub fn share(&mut self, id: BlockId) {
        let block = self.block_mut(id);
        debug_assert!(block.refs > 0 || block.cached.is_some(), "block {id} is free");
        block.refs += 1;
        if block.refs == 1 {
            let stamp = block.stamp;
            let slab = self.slab_mut(id);
            slab.held += 1;
            slab.idle -= 1;
            self.idle.remove(&stamp);
        }
    }

    /// One holder less; the last one leaves it idle (cached, used at `stamp`, which is larger than any before) or free.
    pub fn release(&mut self, id: BlockId, stamp: u64) {
        let block = self.block_mut(id);
        debug_assert!(block.refs > 0, "block {id} is not held");
        block.refs = block.refs.saturating_sub(1);
        if block.refs > 0 {
            return;
        }
        let is_cached = block.cached.is_some();
        block.stamp = stamp;
        let slab = self.slab_mut(id);
        slab.held -= 1;
        if is_cached {
            slab.idle += 1;
            self.idle.insert(stamp, id);
        } else {
            self.free.insert(id);
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
        // On a collision the older content stays findable, and what follows this one can never be found.
        let is_unknown = !self.by_hash.contains_key(&hash);
        let block = self.block_mut(id);
        if block.cached.is_none() && is_unknown {
            block.cached = Some(Cached { hash, follows, tokens: tokens.to_vec(), content });
            self.by_hash.insert(hash, id);
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
        let cached = self.block(id)?.cached.as_ref()?;
        (cached.follows == follows && cached.tokens == tokens).then_some((id, cached.content))
    }

    /// An idle block loses its content.
    fn forget(&mut self, id: BlockId) {
        self.slab_mut(id).idle -= 1;
        if let Some(cached) = self.block_mut(id).cached.take() {
            self.by_hash.remove(&cached.hash);
        }
    }

    /// Panics where the invariant of the module head does not hold.
    pub fn check(&self) {
        let mut places: BTreeMap<BlockId, u32> = BTreeMap::new();
        for id in self.free.iter().chain(self.idle.values()) {
            *places.entry(*id).or_default() += 1;
        }
        let mut cached = 0;
        for (slab_id, slab) in &self.slabs {
            let (mut held, mut idle) = (0, 0);
            for (index, block) in slab.blocks.iter().enumerate() {
                let id = BlockId(slab_id.0 * self.slab_blocks + index as u32);
                let elsewhere = places.remove(&id).unwrap_or(0);
                assert_eq!(elsewhere + u32::from(block.refs > 0), 1, "block {id} is in one place");
                held += u32::from(block.refs > 0);
                idle += u32::from(block.refs == 0 && block.cached.is_some());
                cached += usize::from(block.cached.is_some());
            }
            assert_eq!((slab.held, slab.idle), (held, idle), "counts of slab {slab_id}");
        }
        assert!(places.is_empty(), "blocks of no slab: {places:?}");
        for (stamp, id) in &self.idle {
            let block = self.block(*id);
            assert!(
                block.is_some_and(|b| b.cached.is_some() && b.stamp == *stamp),
                "idle block {id} is cached"
            );
        }
        for id in &self.free {
            assert!(
                self.block(*id).is_some_and(|block| block.cached.is_none()),
                "free block {id} holds nothing"
            );
        }
        assert_eq!(cached, self.by_hash.len(), "every cached block is findable");
        for (hash, id) in &self.by_hash {
            let cached = self.block(*id).and_then(|block| block.cached.as_ref());
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
        pool.add_slab(SlabId(0));
        let (start, ours, theirs) = (Chain::Start(0), [1, 2], [3, 4]);
        let block = pool.allocate().unwrap();
        pool.publish(block, start, &ours);
        // As if both contents had one hash.
        let one = hash(start, &ours);
        pool.block_mut(block).cached.as_mut().unwrap().hash = hash(start, &theirs);
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
