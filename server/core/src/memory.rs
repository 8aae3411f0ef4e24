//! Where blocks come from: the device's slabs, leased to models as they need them, and other models' sequences that make
//! room.
//!
//! ```text
//! a block    free in a slab of the model, else a slab of nobody, else the least recently used cached prefix: one of the
//!            model's own blocks, or a slab of another model that holds nothing but such
//! a slab     goes back when nothing in it is held or cached
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{BlockId, ModelId, SequenceId, SlabId};
use crate::limits::SchedulerLimits;
use crate::plan::StepPlan;
use crate::scheduler::{Model, Scheduler};
use crate::sequence::{KvState, Sequence};
use crate::swap::SwapSpace;

/// The ledger of slabs and host blocks.
#[derive(Debug)]
pub(crate) struct Memory {
    free_slabs: BTreeSet<SlabId>,
    slabs_total: u32,
    pub host: SwapSpace,
    /// Counts releases, all models together: what was used last has the largest stamp.
    clock: u64,
}

impl Memory {
    pub fn new(limits: &SchedulerLimits) -> Self {
        Self {
            free_slabs: (0..limits.kv_slabs).map(SlabId).collect(),
            slabs_total: limits.kv_slabs,
            host: SwapSpace::new(limits.swap_space_bytes, limits.swap_extent_bytes),
            clock: 0,
        }
    }

    pub fn slabs_total(&self) -> u32 {
        self.slabs_total
    }

    pub fn slabs_free(&self) -> usize {
        self.free_slabs.len()
    }

    /// A block for the model, if it can be had without pushing a sequence off the device.
    pub fn take_block(&mut self, models: &mut BTreeMap<ModelId, Model>, id: ModelId) -> Option<BlockId> {
        let pool = &mut models.get_mut(&id)?.pool;
        if let Some(block) = pool.allocate_free() {
            return Some(block);
        }
        if let Some(slab) = self.free_slabs.pop_first() {
            pool.add_slab(slab);
            return pool.allocate_free();
        }
        let own = pool.oldest_idle().unwrap_or(u64::MAX);
        let others = models.iter().filter(|(other, _)| **other != id);
        let oldest =
            others.filter_map(|(other, model)| Some((model.pool.oldest_unused_slab()?, *other))).min();
        if let Some(((stamp, slab), other)) = oldest.filter(|((stamp, _), _)| *stamp < own) {
            debug_assert!(stamp <= self.clock);
            models.get_mut(&other)?.pool.remove_slab(slab);
            let pool = &mut models.get_mut(&id)?.pool;
            pool.add_slab(slab);
            return pool.allocate_free();
        }
        models.get_mut(&id)?.pool.allocate()
    }

    /// Blocks that [`Memory::take_block`] can give.
    pub fn available(&self, models: &BTreeMap<ModelId, Model>, id: ModelId) -> usize {
        let Some(model) = models.get(&id) else { return 0 };
        let others = models.iter().filter(|(other, _)| **other != id);
        let unused: usize = others.map(|(_, other)| other.pool.unused_slabs()).sum();
        model.pool.available() + (self.free_slabs.len() + unused) * model.pool.slab_blocks()
    }

    /// Blocks that the model would have if it had all slabs.
    pub fn blocks_max(&self, model: &Model) -> usize {
        self.slabs_total as usize * model.pool.slab_blocks()
    }

    /// Gives back the sequence's blocks past the first `keep`. In reverse, so that of a cached chain the end goes first.
    pub fn trim(&mut self, models: &mut BTreeMap<ModelId, Model>, sequence: &mut Sequence, keep: usize) {
        let Some(model) = models.get_mut(&sequence.model()) else { return };
        while sequence.blocks.len() > keep
            && let Some(block) = sequence.blocks.pop()
        {
            self.clock += 1;
            model.pool.release(block, self.clock);
        }
        self.give_back_slabs(models, sequence.model());
    }

    /// Takes back the model's slabs that hold nothing.
    pub fn give_back_slabs(&mut self, models: &mut BTreeMap<ModelId, Model>, id: ModelId) {
        let Some(model) = models.get_mut(&id) else { return };
        while let Some(slab) = model.pool.empty_slab() {
            model.pool.remove_slab(slab);
            self.free_slabs.insert(slab);
        }
    }

    /// Larger than any before.
    pub fn next_stamp(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Panics where a slab is not in exactly one place.
    pub fn check(&self, models: &BTreeMap<ModelId, Model>) {
        let leased = models.values().flat_map(|model| model.pool.slabs());
        let mut all: Vec<SlabId> = leased.chain(self.free_slabs.iter().copied()).collect();
        all.sort_unstable();
        assert!(
            all.iter().copied().eq((0..self.slabs_total).map(SlabId)),
            "slabs in one place each: {all:?}"
        );
    }
}

impl Scheduler {
    /// Whether the model can have `needed` blocks; where others' sequences may have to make room for it, they are told
    /// to, and the blocks are there in a later step.
    pub(crate) fn displace(&mut self, model: ModelId, needed: usize, plan: &mut StepPlan) -> bool {
        loop {
            if self.memory.available(&self.models, model) >= needed {
                return true;
            }
            if !self.may_displace(model) || self.is_leaving(|s| s.model() != model) {
                return false;
            }
            let Some(victim) = self.model_to_displace(model) else { return false };
            self.turns.has_displaced = true;
            let movable = |s: &&Sequence| s.model() == victim && s.is_movable();
            let ids: Vec<SequenceId> = self.sequences.values().filter(movable).map(Sequence::id).collect();
            if let Some(known) = self.models.get_mut(&victim) {
                known.totals.displacements += ids.len() as u64;
            }
            for id in ids {
                self.preempt(id, plan);
            }
        }
    }

    /// Whether a sequence of those is on its way to the host: its blocks come free by themselves.
    pub(crate) fn is_leaving(&self, of: impl Fn(&Sequence) -> bool) -> bool {
        self.sequences.values().any(|s| matches!(s.kv, KvState::SwappingOut(_)) && of(s))
    }

    /// Of other models with sequences that can be moved one that cannot run, else the one that had the most time.
    fn model_to_displace(&self, model: ModelId) -> Option<ModelId> {
        let others = self.sequences.values().filter(|s| s.model() != model && s.is_movable());
        let key = |id: ModelId| self.models.get(&id).map(|m| (!m.is_resident, m.service_us, id));
        others.filter_map(|s| key(s.model())).max().map(|(.., id)| id)
    }
}
