//! A fake device: every slot of every block holds a hash of the tokens that produced it, so that a row which reads
//! a block that was overwritten, not swapped in yet or never computed is found out.

use std::collections::BTreeMap;

use quarry_core::ids::{BlockId, HostBlockId, ModelId, TokenId};
use quarry_core::plan::{Direction, ModelSetup, PlanRow, SwapOrder};

use crate::oracle::content;
use crate::rng::Rng;

pub struct Pool {
    pub setup: ModelSetup,
    slots: Vec<u64>,
}

/// A row with the tokens it had when it was planned, its draft at the end.
pub struct Work {
    pub row: PlanRow,
    pub tokens: Vec<TokenId>,
}

#[derive(Default)]
pub struct Device {
    pub pools: BTreeMap<ModelId, Pool>,
    /// Host blocks that the scheduler holds; empty until a swap has written them.
    pub host: BTreeMap<HostBlockId, Vec<u64>>,
}

impl Device {
    pub fn load(&mut self, setup: ModelSetup, rng: &mut Rng) {
        let slots = (0..setup.blocks * setup.block_tokens).map(|_| rng.next()).collect();
        self.pools.insert(setup.model, Pool { setup, slots });
    }

    /// The contents are lost.
    pub fn poison(&mut self, model: ModelId, rng: &mut Rng) {
        if let Some(pool) = self.pools.get_mut(&model) {
            pool.slots.iter_mut().for_each(|slot| *slot = rng.next());
        }
    }

    /// Runs a row: reads all before it, writes its own positions and its draft's; returns the contents of the last and
    /// of the draft's.
    pub fn run(&mut self, model: ModelId, work: &Work) -> Vec<u64> {
        let pool = self.pools.get_mut(&model).expect("rows run on loaded models");
        let mut before = None;
        let mut drawn = Vec::new();
        for position in 0..work.tokens.len() {
            let slot = pool.slot(&work.row.blocks, position);
            let now = content(model, before, work.tokens[position]);
            if position < work.row.start as usize {
                let row = &work.row;
                assert_eq!(pool.slots[slot], now, "KV of position {position} of {row:?} of model {model}");
            } else {
                pool.slots[slot] = now;
            }
            if position + 1 >= work.row.end as usize {
                drawn.push(now);
            }
            before = Some(now);
        }
        drawn
    }

    /// A row that broke: what it should have written is anything.
    pub fn run_broken(&mut self, model: ModelId, work: &Work, rng: &mut Rng) {
        let pool = self.pools.get_mut(&model).expect("rows run on loaded models");
        for position in work.row.start as usize..work.tokens.len() {
            let slot = pool.slot(&work.row.blocks, position);
            pool.slots[slot] = rng.next();
        }
    }

    pub fn swap(&mut self, order: &SwapOrder) {
        let pool = self.pools.get_mut(&order.model).expect("swaps are of loaded models");
        for step in &order.moves {
            let range = pool.block(step.device);
            let host = self.host.get_mut(&step.host).expect("host blocks in use are held");
            match step.direction {
                Direction::Out => *host = pool.slots[range].to_vec(),
                Direction::In => {
                    assert!(!host.is_empty(), "host block {} was written", step.host);
                    pool.slots[range].copy_from_slice(host);
                }
            }
        }
    }

    /// A swap that broke: the destinations hold anything.
    pub fn swap_broken(&mut self, order: &SwapOrder, rng: &mut Rng) {
        let pool = self.pools.get_mut(&order.model).expect("swaps are of loaded models");
        for step in order.moves.iter().filter(|step| step.direction == Direction::In) {
            let range = pool.block(step.device);
            pool.slots[range].iter_mut().for_each(|slot| *slot = rng.next());
        }
    }
}

impl Pool {
    fn slot(&self, table: &[BlockId], position: usize) -> usize {
        let block_tokens = self.setup.block_tokens as usize;
        self.block(table[position / block_tokens]).start + position % block_tokens
    }

    fn block(&self, block: BlockId) -> std::ops::Range<usize> {
        let block_tokens = self.setup.block_tokens as usize;
        let start = block.0 as usize * block_tokens;
        start..start + block_tokens
    }
}
