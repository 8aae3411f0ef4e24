//! The block pool beside a naive model: who holds what, what may be found, who is evicted.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quarry_core::block_pool::{BlockPool, Chain};
use quarry_core::ids::{BlockId, SlabId, TokenId};

const BLOCK_TOKENS: usize = 2;

#[derive(Clone, Debug)]
enum Op {
    /// A sequence starts: takes what is cached of its tokens, allocates the rest, computes and publishes it.
    Start { salt: u64, tokens: Vec<TokenId> },
    /// A sequence ends; blocks back in reverse, or in order.
    End { which: usize, reverse: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let start = (0..2u64, proptest::collection::vec(0..2u32, 1..12))
        .prop_map(|(salt, tokens)| Op::Start { salt, tokens });
    let end = (any::<usize>(), any::<bool>()).prop_map(|(which, reverse)| Op::End { which, reverse });
    proptest::collection::vec(prop_oneof![start, end], 1..80)
}

/// Everything by name and in full: no hash, no counter, no chain.
#[derive(Default)]
struct Naive {
    holders: BTreeMap<BlockId, u32>,
    /// The salt and all tokens up to the block's end, for cached blocks.
    cached: BTreeMap<BlockId, (u64, Vec<TokenId>)>,
    /// Idle cached blocks, least recently used first.
    idle: Vec<BlockId>,
}

impl Naive {
    fn hits(&self, salt: u64, tokens: &[TokenId]) -> Vec<BlockId> {
        let ends = (BLOCK_TOKENS..=tokens.len()).step_by(BLOCK_TOKENS);
        ends.map_while(|end| {
            let same = |(_, (s, t)): &(&BlockId, &(u64, Vec<TokenId>))| *s == salt && t[..] == tokens[..end];
            self.cached.iter().find(same).map(|(id, _)| *id)
        })
        .collect()
    }

    fn hold(&mut self, id: BlockId) {
        *self.holders.entry(id).or_default() += 1;
        self.idle.retain(|idle| *idle != id);
    }

    fn release(&mut self, id: BlockId) {
        let holders = self.holders.get_mut(&id).expect("held");
        *holders -= 1;
        if *holders == 0 {
            self.holders.remove(&id);
            if self.cached.contains_key(&id) {
                self.idle.push(id);
            }
        }
    }
}

/// So many blocks, in slabs of one.
fn pool(blocks: u32, block_tokens: u32) -> BlockPool {
    let mut pool = BlockPool::new(1, block_tokens);
    (0..blocks).map(SlabId).for_each(|slab| pool.add_slab(slab));
    pool
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_naive_model(ops in ops(), blocks in 1..12u32) {
        let mut pool = pool(blocks, BLOCK_TOKENS as u32);
        let mut stamp = 0;
        let mut naive = Naive::default();
        let mut sequences: Vec<Vec<BlockId>> = Vec::new();
        for op in ops {
            match op {
                Op::Start { salt, tokens } => {
                    let held = start(&mut pool, &mut naive, salt, &tokens)?;
                    sequences.push(held);
                }
                Op::End { which, reverse } if !sequences.is_empty() => {
                    let mut held = sequences.swap_remove(which % sequences.len());
                    if reverse {
                        held.reverse();
                    }
                    for id in held {
                        stamp += 1;
                        pool.release(id, stamp);
                        naive.release(id);
                    }
                }
                Op::End { .. } => {}
            }
            pool.check();
            prop_assert_eq!(pool.idle(), naive.idle.len());
            prop_assert_eq!(pool.available(), blocks as usize - naive.holders.len());
            for id in (0..blocks).map(BlockId) {
                prop_assert_eq!(pool.refs(id), naive.holders.get(&id).copied().unwrap_or(0));
            }
        }
    }
}

fn start(
    pool: &mut BlockPool,
    naive: &mut Naive,
    salt: u64,
    tokens: &[TokenId],
) -> Result<Vec<BlockId>, TestCaseError> {
    let hits = pool.lookup(salt, tokens);
    let mut held: Vec<BlockId> = hits.iter().map(|(id, _)| *id).collect();
    let findable = naive.hits(salt, tokens);
    // A parent evicted before its child makes the child unfindable for good, so fewer is allowed only then.
    prop_assert_eq!(&held[..], &findable[..held.len()], "a hit is the block with these very tokens");
    prop_assert!(!held.is_empty() || findable.is_empty(), "the first block is found whenever it is cached");
    for &id in &held {
        pool.share(id);
        naive.hold(id);
    }
    let mut follows = hits.last().map_or(Chain::Start(salt), |(_, after)| *after);
    for (index, full) in tokens.chunks(BLOCK_TOKENS).enumerate().skip(held.len()) {
        let Some(id) = pool.allocate() else {
            prop_assert_eq!(naive.holders.len(), pool.total(), "refused only when all is held");
            break;
        };
        prop_assert!(!naive.holders.contains_key(&id), "nobody holds a fresh block");
        if naive.cached.remove(&id).is_some() {
            prop_assert_eq!(naive.idle.first(), Some(&id), "the least recently used one goes");
            let known: BTreeSet<BlockId> = naive.holders.keys().chain(&naive.idle).copied().collect();
            prop_assert_eq!(known.len(), pool.total(), "and only when none is free");
        }
        naive.hold(id);
        held.push(id);
        if full.len() == BLOCK_TOKENS {
            follows = pool.publish(id, follows, full);
            let known = &tokens[..(index + 1) * BLOCK_TOKENS];
            if pool.lookup(salt, known).last().is_some_and(|(found, _)| *found == id) {
                naive.cached.insert(id, (salt, known.to_vec()));
            }
        }
    }
    Ok(held)
}

#[test]
fn the_salt_parts_equal_prompts() {
    let mut pool = pool(4, 2);
    let block = pool.allocate().unwrap();
    let after = pool.publish(block, Chain::Start(1), &[5, 6]);
    assert_eq!(pool.lookup(1, &[5, 6, 7]), [(block, after)]);
    assert_eq!(pool.lookup(2, &[5, 6, 7]), []);
}

#[test]
fn the_same_tokens_after_others_are_another_content() {
    let mut pool = pool(4, 1);
    let blocks = [pool.allocate().unwrap(), pool.allocate().unwrap(), pool.allocate().unwrap()];
    let a = pool.publish(blocks[0], Chain::Start(0), &[1]);
    pool.publish(blocks[1], Chain::Start(0), &[2]);
    pool.publish(blocks[2], a, &[3]);
    assert_eq!(pool.lookup(0, &[1, 3]).len(), 2);
    assert_eq!(pool.lookup(0, &[2, 3]).len(), 1);
    assert_eq!(pool.lookup(0, &[3]).len(), 0);
}

#[test]
fn a_slab_is_given_up_with_its_prefixes_and_comes_back_empty() {
    let mut pool = BlockPool::new(2, 1);
    pool.add_slab(SlabId(3));
    pool.add_slab(SlabId(5));
    let blocks: Vec<BlockId> = (0..3).map(|_| pool.allocate().unwrap()).collect();
    assert_eq!(blocks, [6, 7, 10].map(BlockId), "low numbers first");
    let mut follows = Chain::Start(0);
    for (block, token) in blocks.iter().zip([1, 2, 3]) {
        follows = pool.publish(*block, follows, &[token]);
    }
    assert_eq!((pool.unused_slabs(), pool.empty_slab()), (0, None));
    pool.release(blocks[2], 1);
    assert_eq!((pool.oldest_unused_slab(), pool.empty_slab()), (Some((1, SlabId(5))), None));
    pool.remove_slab(SlabId(5));
    assert_eq!((pool.lookup(0, &[1, 2, 3]).len(), pool.total()), (2, 2));
    pool.add_slab(SlabId(0));
    assert_eq!(pool.empty_slab(), Some(SlabId(0)));
    pool.check();
}
