//! Blocks for sequences: admission with the prefix cache, room for the next row, preemption, return from the host.

use crate::block_pool::Chain;
use crate::ids::{HostBlockId, ModelId, SequenceId, SwapId};
use crate::plan::{BlockMove, Direction, StepPlan, SwapOrder};
use crate::scheduler::Scheduler;
use crate::sequence::{Place, Sequence};

impl Scheduler {
    /// The best-ranked sequence without KV.
    pub(crate) fn next_waiting(&self, model: ModelId) -> Option<SequenceId> {
        let waits = |s: &&Sequence| s.model() == model && s.place == Place::Waiting && s.end.is_none();
        self.sequences.values().filter(waits).min_by_key(|s| s.rank()).map(Sequence::id)
    }

    /// Puts a waiting sequence on the device, with what the prefix cache holds of it. False when the blocks for
    /// all its tokens, beside the `reserved` ones, are not to be had without preempting: a newcomer never pushes out
    /// who runs.
    pub(crate) fn admit(&mut self, id: SequenceId, reserved: usize) -> bool {
        let Some(sequence) = self.sequences.get_mut(&id) else { return false };
        let Some(loaded) = self.models.get_mut(&sequence.parts.model) else { return false };
        let pool = &mut loaded.pool;
        let block_tokens = pool.block_tokens();
        // The last token is always run: its logits are what the sequence waits for.
        let findable = &sequence.tokens[..sequence.tokens.len() - 1];
        let hits = pool.lookup(sequence.parts.cache_salt, findable);
        let idle_hits = hits.iter().filter(|(block, _)| pool.refs(*block) == 0).count();
        let needed = sequence.tokens.len().div_ceil(block_tokens) - hits.len();
        if needed + idle_hits + reserved > pool.available() {
            return false;
        }
        for &(block, hash) in &hits {
            pool.share(block);
            sequence.blocks.push(block);
            sequence.chain = hash;
        }
        sequence.published = hits.len() as u32;
        sequence.computed = (hits.len() * block_tokens) as u32;
        sequence.place = Place::Device;
        if !sequence.admitted_once {
            sequence.admitted_once = true;
            sequence.cached_tokens = sequence.computed;
            loaded.totals.prefix_query_tokens += u64::from(sequence.prompt_tokens);
            loaded.totals.prefix_hit_tokens += u64::from(sequence.computed);
        }
        true
    }

    /// Whether a sequence in the host pool is to come back before this newcomer takes its room.
    pub(crate) fn outranked_by_host(&self, id: SequenceId) -> bool {
        let Some(newcomer) = self.sequences.get(&id) else { return false };
        let first = |s: &Sequence| {
            s.model() == newcomer.model()
                && s.place == Place::Host
                && s.end.is_none()
                && s.rank() < newcomer.rank()
        };
        self.sequences.values().any(first)
    }

    /// Blocks for `wanted` positions from `start`: all of them, or as many as there is room for, or none (the
    /// sequence then waits until others end or leave).
    pub(crate) fn make_room(
        &mut self,
        id: SequenceId,
        start: u32,
        wanted: u32,
        plan: &mut StepPlan,
    ) -> Option<u32> {
        loop {
            let sequence = self.sequences.get_mut(&id)?;
            let model = sequence.model();
            let loaded = self.models.get_mut(&model)?;
            let block_tokens = loaded.pool.block_tokens() as u32;
            let needed = (start + wanted).div_ceil(block_tokens) as usize;
            while sequence.blocks.len() < needed {
                let Some(block) = loaded.pool.allocate() else { break };
                sequence.blocks.push(block);
            }
            let room = (sequence.blocks.len() as u32 * block_tokens).saturating_sub(start).min(wanted);
            if room > 0 {
                return Some(room);
            }
            // What is on its way out comes free by itself; pushing out more would be too much.
            let leaving = |s: &Sequence| s.model() == model && matches!(s.place, Place::SwappingOut(_));
            if self.sequences.values().any(leaving) {
                return None;
            }
            let victim = self.victim(id, plan)?;
            self.preempt(victim, plan);
            if let Some(loaded) = self.models.get_mut(&model) {
                loaded.totals.preemptions += 1;
            }
        }
    }

    /// The lowest-ranked sequence on the device, ranked below the asking one, that is in no row yet. Nobody yields
    /// to a lower rank, so the best-ranked one always gets its room and everything ends.
    fn victim(&self, asking: SequenceId, plan: &StepPlan) -> Option<SequenceId> {
        let asking = self.sequences.get(&asking)?;
        let free = |s: &&Sequence| {
            s.model() == asking.model()
                && s.place == Place::Device
                && !s.pinned()
                && s.rank() > asking.rank()
                && !plan.rows.iter().any(|row| row.sequence == s.id)
        };
        self.sequences.values().filter(free).max_by_key(|s| s.rank()).map(Sequence::id)
    }

    /// Swaps a sequence out, or drops its KV where recomputing is cheaper or the host pool is full.
    pub(crate) fn preempt(&mut self, id: SequenceId, plan: &mut StepPlan) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        let block_bytes = self.models.get(&sequence.model()).map_or(0, |m| m.setup.block_bytes);
        // Only whole computed positions travel; a block past them holds nothing yet.
        let block_tokens = self.models.get(&sequence.model()).map_or(1, |m| m.setup.block_tokens);
        let used = sequence.computed.div_ceil(block_tokens.max(1)) as usize;
        self.trim(&mut sequence, used);
        let host = if used > 0 && sequence.swappable && self.swap_is_cheaper(&sequence, block_bytes) {
            self.swap_space.reserve(used, block_bytes)
        } else {
            None
        };
        match host {
            Some(host) => {
                self.next_swap += 1;
                let swap = SwapId(self.next_swap);
                let moves = moves(&sequence, &host, Direction::Out);
                plan.swaps.push(SwapOrder { id: swap, model: sequence.model(), moves });
                sequence.host = host;
                sequence.place = Place::SwappingOut(swap);
            }
            None => self.forget_kv(&mut sequence),
        }
        self.sequences.insert(id, sequence);
    }

    fn swap_is_cheaper(&self, sequence: &Sequence, block_bytes: u64) -> bool {
        let rates = self.models.get(&sequence.model()).and_then(|loaded| loaded.rates);
        let Some(rates) = rates else { return true };
        let Some(swap_bytes_per_s) = rates.swap_bytes_per_s else { return true };
        let bytes = block_bytes as f64 * sequence.blocks.len() as f64;
        // Out and back in.
        2.0 * bytes / swap_bytes_per_s.max(1.0)
            <= f64::from(sequence.computed) / rates.prefill_tokens_per_s.max(1.0)
    }

    /// Brings swapped sequences back, best rank first, while their blocks and one more fit.
    pub(crate) fn resume_swapped(&mut self, model: ModelId, plan: &mut StepPlan) {
        let swapped = |s: &&Sequence| s.model() == model && s.place == Place::Host && s.end.is_none();
        let mut ids: Vec<_> = self.sequences.values().filter(swapped).map(|s| (s.rank(), s.id)).collect();
        ids.sort_unstable();
        for (_, id) in ids {
            let Some(sequence) = self.sequences.get_mut(&id) else { continue };
            let Some(loaded) = self.models.get_mut(&model) else { return };
            if loaded.pool.available() < sequence.host.len() + 1
                && loaded.pool.available() < loaded.pool.total()
            {
                return; // best rank first: who is behind waits too
            }
            while sequence.blocks.len() < sequence.host.len() {
                let Some(block) = loaded.pool.allocate() else { break };
                sequence.blocks.push(block);
            }
            self.next_swap += 1;
            let swap = SwapId(self.next_swap);
            sequence.place = Place::SwappingIn(swap);
            let moves = moves(sequence, &sequence.host, Direction::In);
            plan.swaps.push(SwapOrder { id: swap, model, moves });
        }
    }

    /// Back to the start: KV dropped, tokens kept; recomputed when admitted again.
    pub(crate) fn forget_kv(&mut self, sequence: &mut Sequence) {
        self.free_device(sequence);
        sequence.computed = 0;
        sequence.published = 0;
        sequence.chain = Chain::Start(sequence.parts.cache_salt);
        sequence.place = Place::Waiting;
    }

    pub(crate) fn free_device(&mut self, sequence: &mut Sequence) {
        self.trim(sequence, 0);
    }

    /// Gives back the blocks past the first `keep`. In reverse, so that of a cached chain the end goes first.
    fn trim(&mut self, sequence: &mut Sequence, keep: usize) {
        if let Some(loaded) = self.models.get_mut(&sequence.parts.model) {
            while sequence.blocks.len() > keep {
                if let Some(block) = sequence.blocks.pop() {
                    loaded.pool.release(block);
                }
            }
        }
    }

    pub(crate) fn free_host(&mut self, sequence: &mut Sequence, plan: &mut StepPlan) {
        self.swap_space.release(&sequence.host);
        plan.host_released.append(&mut sequence.host);
    }
}

fn moves(sequence: &Sequence, host: &[HostBlockId], direction: Direction) -> Vec<BlockMove> {
    let pairs = sequence.blocks.iter().zip(host);
    pairs.map(|(&device, &host)| BlockMove { device, host, direction }).collect()
}
