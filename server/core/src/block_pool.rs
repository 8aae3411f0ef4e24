//! One model's device blocks, in slabs leased to it: reference-counted, with a prefix cache over full blocks.
//!
//! Full blocks are found by their contents ([`crate::prefix`]). A block that nobody holds stays cached and idle until it is the least recently used one when one is needed, or its
//! slab goes to another model. Free blocks of low numbers are given first, so that high slabs become empty.
//! Invariant: every block is exactly one of free, held (`refs > 0`) or idle (`refs == 0`, cached).

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{BlockId, HostBlockId, SlabId, TokenId};
use crate::prefix::PrefixIndex;
pub use crate::prefix::{Chain, Hit, Key};

#[derive(Debug, Default)]
struct Block {
    refs: u32,
    /// Where its content is found.
    cached: Option<Key>,
    /// When it was last released; its key in the idle order while `refs == 0` and cached.
    stamp: u64,
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
    pub(crate) prefixes: PrefixIndex,
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
            prefixes: PrefixIndex::default(),
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
    /// with the same content that is already findable on the device stays the one.
    pub fn publish(&mut self, id: BlockId, follows: Chain, tokens: &[TokenId]) -> Chain {
        debug_assert_eq!(tokens.len(), self.block_tokens, "only full blocks are published");
        if self.block(id).is_some_and(|block| block.cached.is_some()) {
            // Found already, by this content: its sequence came back to it.
            let key = self.block(id).and_then(|block| block.cached);
            let known = key.and_then(|key| self.prefixes.chain_after(key, follows, tokens));
            if let Some(chain) = known {
                return chain;
            }
        }
        let (chain, key) = self.prefixes.publish(id, follows, tokens);
        if let Some(key) = key {
            self.block_mut(id).cached = Some(key);
        }
        chain
    }

    /// A held block holds this content again.
    pub fn restore(&mut self, id: BlockId, key: Key) {
        if self.prefixes.restore(key, id) {
            self.block_mut(id).cached = Some(key);
        }
    }

    /// The longest run of full blocks at the start of `tokens` that is cached on the device, not held yet, each with what
    /// follows it.
    pub fn lookup(&self, salt: u64, tokens: &[TokenId]) -> Vec<(BlockId, Chain)> {
        let hits = self.lookup_all(salt, tokens).into_iter();
        hits.map_while(|hit| Some((hit.device?, hit.chain))).collect()
    }

    /// The longest run of full blocks at the start of `tokens` that is cached anywhere, not held yet.
    pub fn lookup_all(&self, salt: u64, tokens: &[TokenId]) -> Vec<Hit> {
        self.prefixes.lookup(salt, tokens, self.block_tokens)
    }

    /// Idle blocks without a copy in the host pool, least recently used first, with when they were used.
    pub fn unsaved(&self) -> impl Iterator<Item = (u64, BlockId)> {
        let is_unsaved = |id: &BlockId| {
            let entry = self.block(*id).and_then(|block| self.prefixes.get(block.cached?));
            entry.is_some_and(|entry| entry.host.is_none())
        };
        self.idle.iter().filter(move |(_, id)| is_unsaved(id)).map(|(stamp, id)| (*stamp, *id))
    }

    /// An idle block is copied to the host pool: it is held until [`BlockPool::end_save`].
    pub fn begin_save(&mut self, id: BlockId) {
        self.share(id);
    }

    /// The copy ended; `host` is where it is, used at `stamp`. False where nobody can find it there.
    pub fn end_save(&mut self, id: BlockId, host: Option<HostBlockId>, stamp: u64) -> bool {
        let key = self.block(id).and_then(|block| block.cached);
        let is_found = match (key, host) {
            (Some(key), Some(host)) => self.prefixes.set_host(key, host, stamp),
            _ => false,
        };
        // As old as it was: being saved is no use of it.
        let used = self.block(id).map_or(stamp, |block| block.stamp);
        self.release(id, used);
        is_found
    }

    /// An idle block loses its content on the device.
    fn forget(&mut self, id: BlockId) {
        self.slab_mut(id).idle -= 1;
        if let Some(key) = self.block_mut(id).cached.take() {
            self.prefixes.forget_device(key);
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
        self.prefixes.check();
        assert_eq!(cached, self.prefixes.on_device().count(), "every cached block is findable");
        for (key, id) in self.prefixes.on_device() {
            assert_eq!(
                self.block(id).and_then(|block| block.cached),
                Some(key),
                "block {id} is found by its key"
            );
        }
    }
}
