//! Cached prefixes in the host pool: copied there before they are lost, and back when a prompt begins with them.
//!
//! When no slab of the device is free any more, idle blocks are next to go. So the least recently used ones are copied to
//! the host pool, a bounded run at a time, whichever model's they are; the device's copy stays until its memory is needed.
//! Sequences that are swapped come first: for them, host copies that were used longest ago are given up.

use std::collections::BTreeMap;

use crate::ids::{BlockId, HostBlockId, ModelId, SwapId};
use crate::memory::Memory;
use crate::plan::{BlockMove, Direction, StepPlan, SwapFailed, SwapOrder};
use crate::scheduler::{Model, Scheduler};

/// Blocks of one order: some milliseconds of copying, so that nothing waits long for their end.
const SAVED_AT_ONCE: usize = 32;

/// Blocks on their way to the host pool.
#[derive(Debug)]
pub(crate) struct Save {
    pub swap: SwapId,
    pub model: ModelId,
    pub blocks: Vec<(BlockId, HostBlockId)>,
}

impl Memory {
    /// Host blocks for a sequence; cached ones make room for it.
    pub fn reserve_host(
        &mut self,
        models: &mut BTreeMap<ModelId, Model>,
        count: usize,
        block_bytes: u64,
    ) -> Option<Vec<HostBlockId>> {
        if block_bytes.saturating_mul(count as u64) > self.host.bytes_max() {
            return None;
        }
        loop {
            if let Some(ids) = self.host.reserve(count, block_bytes) {
                return Some(ids);
            }
            self.drop_oldest_host(models, u64::MAX).then_some(())?;
        }
    }

    /// Gives up the cached host block that was used longest ago, before `stamp`; false where there is none.
    fn drop_oldest_host(&mut self, models: &mut BTreeMap<ModelId, Model>, stamp: u64) -> bool {
        let oldest =
            models.iter().filter_map(|(id, model)| Some((model.pool.prefixes.oldest_host()?, *id))).min();
        let Some((used, id)) = oldest.filter(|(used, _)| *used < stamp) else { return false };
        let dropped = models.get_mut(&id).and_then(|model| model.pool.prefixes.drop_host(used));
        if let Some(host) = dropped {
            self.host.release(&[host]);
        }
        dropped.is_some()
    }
}

impl Scheduler {
    /// Orders the next run of idle blocks to be copied, where the device is full.
    pub(crate) fn plan_save(&mut self, plan: &mut StepPlan) {
        if self.save.is_some() || self.memory.slabs_free() > 0 || self.memory.host.bytes_max() == 0 {
            return;
        }
        let models = self.models.iter().filter(|(_, model)| model.is_moved_sooner_than_computed());
        let oldest = models.filter_map(|(id, model)| Some((model.pool.unsaved().next()?, *id))).min();
        let Some((_, id)) = oldest else { return };
        let Self { memory, models, .. } = self;
        let Some(model) = models.get(&id) else { return };
        let block_bytes = model.setup.block_bytes;
        let candidates: Vec<_> = model.pool.unsaved().take(SAVED_AT_ONCE).collect();
        let mut blocks = Vec::new();
        for (used, block) in candidates {
            let host = loop {
                match memory.host.reserve(1, block_bytes) {
                    Some(ids) => break ids.first().copied(),
                    None if memory.drop_oldest_host(models, used) => {}
                    None => break None,
                }
            };
            let Some(host) = host else { break };
            if let Some(model) = models.get_mut(&id) {
                model.pool.begin_save(block);
            }
            blocks.push((block, host));
        }
        if blocks.is_empty() {
            return;
        }
        let swap = self.next_swap();
        let moves =
            blocks.iter().map(|&(device, host)| BlockMove { device, host, direction: Direction::Out });
        plan.swaps.push(SwapOrder { id: swap, model: id, moves: moves.collect() });
        self.save = Some(Save { swap, model: id, blocks });
    }

    /// The run that is on its way ended.
    pub(crate) fn save_done(&mut self, save: &Save, result: Result<(), SwapFailed>) {
        for &(block, host) in &save.blocks {
            let stamp = self.memory.next_stamp();
            let Some(model) = self.models.get_mut(&save.model) else { continue };
            if !model.pool.end_save(block, result.is_ok().then_some(host), stamp) {
                self.memory.host.release(&[host]);
            }
        }
        if result.is_err()
            && let Some(model) = self.models.get_mut(&save.model)
        {
            // Not again and again: what could not be copied is lost when its memory is needed.
            model.saves_fail = true;
        }
        self.memory.give_back_slabs(&mut self.models, save.model);
    }
}
