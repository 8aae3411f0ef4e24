//! A fake device: every slot of every block holds a hash of the tokens that produced it, so that a row which reads
//! a block that was overwritten, not swapped in yet or never computed is found out.

use std::collections::BTreeMap;

use quarry_core::ids::{BlockId, HostBlockId, ModelId, TokenId};
use quarry_core::plan::{Direction, ModelSetup, PlanRow, SwapOrder};

use crate::oracle::content;
use crate::rng::Rng;

/// A row with the tokens it had when it was planned, its draft at the end.
pub struct Work {
    pub row: PlanRow,
    pub salt: u64,
    pub tokens: Vec<TokenId>,
}

/// The memory of one slab as the model that wrote it last sees it.
#[derive(Default)]
struct Slab {
    model: Option<ModelId>,
    slots: Vec<u64>,
}

#[derive(Default)]
pub struct Device {
    pub setups: BTreeMap<ModelId, ModelSetup>,
    slabs: Vec<Slab>,
    /// What swaps have written, by model: host blocks are used again by others.
    host: BTreeMap<HostBlockId, (ModelId, Vec<u64>)>,
}

impl Device {
    pub fn new(slabs: u32) -> Self {
        Self { slabs: (0..slabs).map(|_| Slab::default()).collect(), ..Self::default() }
    }

    /// What was in memory may be anything.
    pub fn restart(&mut self, rng: &mut Rng) {
        self.host.clear();
        for slab in &mut self.slabs {
            slab.slots.iter_mut().for_each(|slot| *slot = rng.next());
        }
    }

    pub fn load(&mut self, setup: ModelSetup) {
        self.setups.insert(setup.model, setup);
    }

    /// Runs a row: reads all before it, writes its own positions and its draft's; returns the contents of the last and
    /// of the draft's.
    pub fn run(&mut self, model: ModelId, work: &Work) -> Vec<u64> {
        let mut before = None;
        let mut drawn = Vec::new();
        for position in 0..work.tokens.len() {
            let slot = self.slot(model, &work.row.blocks, position);
            let now = content(model, work.salt, before, work.tokens[position]);
            if position < work.row.start as usize {
                let row = &work.row;
                assert_eq!(*slot, now, "KV of position {position} of {row:?} of model {model}");
            } else {
                *slot = now;
            }
            if position + 1 >= work.row.end as usize {
                drawn.push(now);
            }
            before = Some(now);
        }
        // A step that was started ahead, and that nobody wanted after all, wrote behind the last token.
        let setup = self.setups[&model];
        let next = work.tokens.len();
        let room = work.row.blocks.len() * setup.block_tokens as usize;
        if setup.runs_ahead && work.row.samples && work.row.draft().is_empty() && next < room {
            *self.slot(model, &work.row.blocks, next) = u64::MAX;
        }
        drawn
    }

    /// A row that broke: what it should have written is anything.
    pub fn run_broken(&mut self, model: ModelId, work: &Work, rng: &mut Rng) {
        for position in work.row.start as usize..work.tokens.len() {
            *self.slot(model, &work.row.blocks, position) = rng.next();
        }
    }

    pub fn swap(&mut self, order: &SwapOrder) {
        for step in &order.moves {
            match step.direction {
                Direction::Out => {
                    let slots = self.block(order.model, step.device).to_vec();
                    self.host.insert(step.host, (order.model, slots));
                }
                Direction::In => {
                    let (model, slots) = self.host.get(&step.host).expect("host blocks were written").clone();
                    assert_eq!(model, order.model, "host block {} was written by another model", step.host);
                    self.block(order.model, step.device).copy_from_slice(&slots);
                }
            }
        }
    }

    /// A swap that broke: the destinations hold anything.
    pub fn swap_broken(&mut self, order: &SwapOrder, rng: &mut Rng) {
        for step in &order.moves {
            match step.direction {
                Direction::In => {
                    self.block(order.model, step.device).iter_mut().for_each(|slot| *slot = rng.next())
                }
                Direction::Out => drop(self.host.remove(&step.host)),
            }
        }
    }

    fn slot(&mut self, model: ModelId, table: &[BlockId], position: usize) -> &mut u64 {
        let block_tokens = self.setups[&model].block_tokens as usize;
        &mut self.block(model, table[position / block_tokens])[position % block_tokens]
    }

    /// A block of a model. Whatever another one left in the slab is no content of this one.
    fn block(&mut self, model: ModelId, block: BlockId) -> &mut [u64] {
        let setup = self.setups[&model];
        let slab = &mut self.slabs[(block.0 / setup.slab_blocks) as usize];
        if slab.model != Some(model) {
            slab.model = Some(model);
            slab.slots = vec![u64::MAX; (setup.slab_blocks * setup.block_tokens) as usize];
        }
        let start = (block.0 % setup.slab_blocks * setup.block_tokens) as usize;
        &mut slab.slots[start..start + setup.block_tokens as usize]
    }
}
