//! What is known of full blocks' contents, and where they are: on the device, in the host pool, or both.
//!
//! A content is known by what it follows and its tokens. What it follows is a [`Chain`]: the start of a salted
//! sequence, or one content that was published before, named by a number that is never reused. A hit compares the
//! chain and the tokens themselves, so that a collision of hashes costs a miss and never a wrong answer.

use std::collections::{BTreeMap, HashMap};

use crate::ids::{BlockId, HostBlockId, TokenId};

/// What a block's content follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Nothing: the first block of sequences with this cache salt.
    Start(u64),
    /// The content with this number.
    After(u64),
}

/// Names an entry of the index.
pub type Key = u64;

/// A known content.
#[derive(Debug)]
pub(crate) struct Entry {
    follows: Chain,
    tokens: Vec<TokenId>,
    /// What a block after this one follows.
    content: u64,
    pub device: Option<BlockId>,
    pub host: Option<HostCopy>,
}

/// A content in the host pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostCopy {
    pub id: HostBlockId,
    /// When it was used last; its key in the order of use.
    stamp: u64,
    /// Sequences that are reading it.
    readers: u32,
}

/// A known content of a looked-up prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its entry.
    pub key: Key,
    /// What the next block follows.
    pub chain: Chain,
    /// Where it is on the device.
    pub device: Option<BlockId>,
    /// Where it is in the host pool.
    pub host: Option<HostBlockId>,
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct PrefixIndex {
    by_hash: HashMap<Key, Entry>,
    /// Host copies by when they were used.
    host_order: BTreeMap<u64, Key>,
    contents: u64,
}

impl PrefixIndex {
    /// The longest known run of full blocks of `block_tokens` at the start of `tokens`.
    pub fn lookup(&self, salt: u64, tokens: &[TokenId], block_tokens: usize) -> Vec<Hit> {
        let mut found = Vec::new();
        let mut follows = Chain::Start(salt);
        for full in tokens.chunks_exact(block_tokens) {
            let key = hash(follows, full);
            let Some(entry) = self.by_hash.get(&key).filter(|entry| entry.is(follows, full)) else { break };
            follows = Chain::After(entry.content);
            let host = entry.host.map(|copy| copy.id);
            found.push(Hit { key, chain: follows, device: entry.device, host });
        }
        found
    }

    /// Makes a block's content findable, where its place is free: returns what follows it, and the key under which the
    /// block is found now, if it is.
    pub fn publish(&mut self, id: BlockId, follows: Chain, tokens: &[TokenId]) -> (Chain, Option<Key>) {
        let key = hash(follows, tokens);
        if let Some(entry) = self.by_hash.get_mut(&key) {
            if !entry.is(follows, tokens) {
                // On a collision the older content stays findable, and what follows this one can never be found.
                self.contents += 1;
                return (Chain::After(self.contents), None);
            }
            let chain = Chain::After(entry.content);
            if entry.device.is_some() {
                return (chain, None);
            }
            entry.device = Some(id);
            return (chain, Some(key));
        }
        self.contents += 1;
        let (content, tokens) = (self.contents, tokens.to_vec());
        self.by_hash.insert(key, Entry { follows, tokens, content, device: Some(id), host: None });
        (Chain::After(content), Some(key))
    }

    /// What follows an entry, if it has this content.
    pub fn chain_after(&self, key: Key, follows: Chain, tokens: &[TokenId]) -> Option<Chain> {
        let entry = self.by_hash.get(&key).filter(|entry| entry.is(follows, tokens))?;
        Some(Chain::After(entry.content))
    }

    /// A content came back to this block; false where it is on the device already, or gone.
    pub fn restore(&mut self, key: Key, id: BlockId) -> bool {
        let Some(entry) = self.by_hash.get_mut(&key).filter(|entry| entry.device.is_none()) else {
            return false;
        };
        entry.device = Some(id);
        true
    }

    /// The device's copy is lost.
    pub fn forget_device(&mut self, key: Key) {
        if let Some(entry) = self.by_hash.get_mut(&key) {
            entry.device = None;
            if entry.host.is_none() {
                self.by_hash.remove(&key);
            }
        }
    }

    pub fn get(&self, key: Key) -> Option<&Entry> {
        self.by_hash.get(&key)
    }

    /// The content is in the host pool now; false where nobody knows it any more.
    pub fn set_host(&mut self, key: Key, id: HostBlockId, stamp: u64) -> bool {
        let Some(entry) = self.by_hash.get_mut(&key).filter(|entry| entry.host.is_none()) else {
            return false;
        };
        entry.host = Some(HostCopy { id, stamp, readers: 0 });
        self.host_order.insert(stamp, key);
        true
    }

    /// A sequence begins to read a host copy, which is used at `stamp`.
    pub fn read_host(&mut self, key: Key, stamp: u64) {
        if let Some(copy) = self.by_hash.get_mut(&key).and_then(|entry| entry.host.as_mut()) {
            self.host_order.remove(&copy.stamp);
            self.host_order.insert(stamp, key);
            copy.stamp = stamp;
            copy.readers += 1;
        }
    }

    /// A sequence has read a host copy.
    pub fn end_read_host(&mut self, key: Key) {
        if let Some(copy) = self.by_hash.get_mut(&key).and_then(|entry| entry.host.as_mut()) {
            copy.readers = copy.readers.saturating_sub(1);
        }
    }

    /// When the host copy that was used longest ago, and that nobody reads, was used.
    pub fn oldest_host(&self) -> Option<u64> {
        let unread =
            |key: &&Key| self.by_hash.get(key).and_then(|e| e.host).is_some_and(|copy| copy.readers == 0);
        self.host_order.iter().find(|(_, key)| unread(key)).map(|(stamp, _)| *stamp)
    }

    /// Gives up the host copy that was used at `stamp`.
    pub fn drop_host(&mut self, stamp: u64) -> Option<HostBlockId> {
        let key = self.host_order.remove(&stamp)?;
        let entry = self.by_hash.get_mut(&key)?;
        let copy = entry.host.take()?;
        if entry.device.is_none() {
            self.by_hash.remove(&key);
        }
        Some(copy.id)
    }

    /// How many contents are in the host pool.
    pub fn host_copies(&self) -> usize {
        self.host_order.len()
    }

    /// Every host block in use here.
    pub fn host_blocks(&self) -> impl Iterator<Item = HostBlockId> {
        self.by_hash.values().filter_map(|entry| entry.host.map(|copy| copy.id))
    }

    /// Every content on the device.
    pub fn on_device(&self) -> impl Iterator<Item = (Key, BlockId)> {
        self.by_hash.iter().filter_map(|(key, entry)| Some((*key, entry.device?)))
    }

    /// Panics where the two orders contradict each other.
    pub fn check(&self) {
        for (key, entry) in &self.by_hash {
            assert!(entry.device.is_some() || entry.host.is_some(), "entry {key} is somewhere");
            if let Some(copy) = entry.host {
                assert_eq!(self.host_order.get(&copy.stamp), Some(key), "host copy of {key} is in order");
            }
        }
        assert_eq!(self.host_blocks().count(), self.host_order.len());
    }
}

impl Entry {
    fn is(&self, follows: Chain, tokens: &[TokenId]) -> bool {
        self.follows == follows && self.tokens == tokens
    }
}

/// FNV-1a over the chain's and the tokens' words (Fowler, Noll, Vo), with a shift for the high bits.
fn hash(follows: Chain, tokens: &[TokenId]) -> Key {
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
        let mut index = PrefixIndex::default();
        let (start, ours, theirs) = (Chain::Start(0), [1, 2], [3, 4]);
        index.publish(BlockId(0), start, &ours);
        // As if both contents had one hash.
        let entry = index.by_hash.remove(&hash(start, &ours)).unwrap();
        index.by_hash.insert(hash(start, &theirs), entry);
        assert_eq!(index.lookup(0, &theirs, 2), []);
        // The other content cannot be found either, and no content is taken for it.
        assert_eq!(index.publish(BlockId(1), start, &theirs), (Chain::After(2), None));
        assert_eq!(index.lookup(0, &theirs, 2), []);
    }

    #[test]
    fn a_content_in_both_places_outlives_either() {
        let mut index = PrefixIndex::default();
        let (after, key) = index.publish(BlockId(0), Chain::Start(0), &[1]);
        let key = key.unwrap();
        assert!(index.set_host(key, HostBlockId(7), 3));
        index.forget_device(key);
        let hit = Hit { key, chain: after, device: None, host: Some(HostBlockId(7)) };
        assert_eq!(index.lookup(0, &[1, 2], 1), [hit]);
        index.read_host(key, 5);
        assert_eq!(index.oldest_host(), None, "somebody reads it");
        index.end_read_host(key);
        assert!(index.restore(key, BlockId(4)) && !index.restore(key, BlockId(5)));
        assert_eq!(index.oldest_host(), Some(5));
        assert_eq!(index.drop_host(5), Some(HostBlockId(7)));
        assert_eq!(index.lookup(0, &[1], 1), [Hit { device: Some(BlockId(4)), host: None, ..hit }]);
        index.check();
    }
}
