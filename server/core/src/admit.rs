//! Blocks for sequences: admission with the prefix cache, room for the next row, preemption, return from the host.

use crate::block_pool::{Chain, Hit};
use crate::fairness::queue;
use crate::ids::{HostBlockId, ModelId, SequenceId, SwapId};
use crate::plan::{BlockMove, Direction, StepPlan, SwapOrder};
use crate::scheduler::Scheduler;
use crate::sequence::{KvState, Sequence};

impl Scheduler {
    /// The best-ranked sequence without KV.
    pub(crate) fn next_waiting(&self, model: ModelId) -> Option<SequenceId> {
        let waiting = self.live_of(model).filter(|s| s.kv == KvState::Waiting);
        waiting.min_by_key(|s| s.rank()).map(Sequence::id)
    }

    /// Puts a waiting sequence on the device, with what the prefix cache holds of it. False when the blocks for
    /// all its tokens, beside the `reserved` ones, are not to be had: a newcomer never pushes out who runs, but where
    /// nobody of its model does, other models' sequences may have to make room.
    pub(crate) fn admit(&mut self, id: SequenceId, reserved: usize, plan: &mut StepPlan) -> bool {
        let Some(model) = self.sequences.get(&id).map(Sequence::model) else { return false };
        let is_enough =
            |scheduler: &Self, needed: usize| needed <= scheduler.memory.available(&scheduler.models, model);
        let (mut hits, mut needed) = self.known_prefix(id, reserved);
        if !is_enough(self, needed) {
            if self.is_on_device(model) || !self.displace(model, needed, plan) {
                return false;
            }
            // Who was displaced may have taken the place of cached host blocks.
            (hits, needed) = self.known_prefix(id, reserved);
            if !is_enough(self, needed) {
                return false;
            }
        }
        self.place(id, &hits, plan);
        true
    }

    /// What the prefix cache holds of a waiting sequence, and the blocks that it needs beside the `reserved` ones.
    fn known_prefix(&self, id: SequenceId, reserved: usize) -> (Vec<Hit>, usize) {
        let nothing = (Vec::new(), reserved);
        let Some(sequence) = self.sequences.get(&id) else { return nothing };
        let Some(model) = self.models.get(&sequence.model()) else { return nothing };
        // The last token is always run: its logits are what the sequence waits for.
        let findable = &sequence.tokens[..sequence.tokens.len() - 1];
        let mut hits = model.pool.lookup_all(sequence.parts.cache_salt, findable);
        let is_sharing = |hit: &&Hit| hit.device.is_some();
        if !sequence.swappable || !model.is_moved_sooner_than_computed() {
            hits.truncate(hits.iter().take_while(is_sharing).count());
        }
        let shared = hits.iter().filter_map(|hit| hit.device);
        let idle_hits = shared.clone().filter(|block| model.pool.refs(*block) == 0).count();
        let needed = sequence.tokens.len().div_ceil(model.pool.block_tokens()) - shared.count();
        (hits, needed + idle_hits + reserved)
    }

    /// Gives an admitted sequence the blocks of its known prefix: those on the device are shared, those in the host pool
    /// copied into blocks of its own.
    fn place(&mut self, id: SequenceId, hits: &[Hit], plan: &mut StepPlan) {
        let Self { sequences, models, memory, fairness, .. } = self;
        let Some(sequence) = sequences.get_mut(&id) else { return };
        let model_id = sequence.parts.model;
        let Some(model) = models.get_mut(&model_id) else { return };
        let block_tokens = model.pool.block_tokens();
        // Held first: taking a block may give up idle ones, and host copies of others.
        for hit in hits {
            match hit.device {
                Some(block) => model.pool.share(block),
                None => model.pool.prefixes.read_host(hit.key, memory.next_stamp()),
            }
            sequence.chain = hit.chain;
        }
        sequence.published = hits.len() as u32;
        sequence.computed = (hits.len() * block_tokens) as u32;
        sequence.kv = KvState::Device;
        if !sequence.admitted_once {
            sequence.admitted_once = true;
            sequence.cached_tokens = sequence.computed;
            model.totals.prefix_query_tokens += u64::from(sequence.prompt_tokens);
            model.totals.prefix_hit_tokens += u64::from(sequence.computed);
            fairness.admit(queue(&sequence.parts), sequence.start_tag);
        }
        let mut moves = Vec::new();
        for hit in hits {
            let block = match hit.device {
                Some(block) => block,
                None => {
                    let Some(block) = memory.take_block(models, model_id) else { continue };
                    sequence.restoring.push((sequence.blocks.len(), hit.key));
                    moves.extend(hit.host.map(|host| BlockMove {
                        device: block,
                        host,
                        direction: Direction::In,
                    }));
                    block
                }
            };
            sequence.blocks.push(block);
        }
        if !moves.is_empty() {
            let swap = SwapId(self.last.swap + 1);
            sequence.kv = KvState::SwappingIn(swap);
            self.last.swap += 1;
            plan.swaps.push(SwapOrder { id: swap, model: model_id, moves });
        }
    }

    /// What a sequence read from cached host blocks is on the device now, or was not to be had.
    pub(crate) fn end_restore(&mut self, sequence: &mut Sequence, has_arrived: bool) {
        let Some(model) = self.models.get_mut(&sequence.parts.model) else { return };
        if !has_arrived && !sequence.restoring.is_empty() {
            sequence.swappable = false;
            sequence.cached_tokens = 0;
        }
        for (index, key) in sequence.restoring.drain(..) {
            model.pool.prefixes.end_read_host(key);
            if has_arrived {
                model.pool.restore(sequence.blocks[index], key);
            }
        }
    }

    /// Whether a sequence of the model has, or is about to have, KV on the device.
    fn is_on_device(&self, model: ModelId) -> bool {
        let here = |s: &Sequence| !matches!(s.kv, KvState::Waiting | KvState::Host);
        self.sequences.values().any(|s| s.model() == model && here(s))
    }

    /// Whether a sequence in the host pool is to come back before this newcomer takes its room.
    pub(crate) fn outranked_by_host(&self, id: SequenceId) -> bool {
        let Some(newcomer) = self.sequences.get(&id) else { return false };
        let first = |s: &Sequence| {
            s.model() == newcomer.model()
                && s.kv == KvState::Host
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
            let Self { sequences, models, memory, .. } = self;
            let sequence = sequences.get_mut(&id)?;
            let model = sequence.model();
            let block_tokens = models.get(&model)?.pool.block_tokens() as u32;
            let needed = (start + wanted).div_ceil(block_tokens) as usize;
            while sequence.blocks.len() < needed {
                let Some(block) = memory.take_block(models, model) else { break };
                sequence.blocks.push(block);
            }
            let room = (sequence.blocks.len() as u32 * block_tokens).saturating_sub(start).min(wanted);
            if room > 0 {
                return Some(room);
            }
            // What is on its way out comes free by itself; pushing out more would be too much.
            if self.is_leaving(|s| s.model() == model) {
                return None;
            }
            if self.may_displace(model) {
                if self.displace(model, 1, plan) {
                    continue;
                }
                if self.is_leaving(|_| true) {
                    return None;
                }
            }
            let victim = self.victim(id, plan)?;
            self.preempt(victim, plan);
        }
    }

    /// The lowest-ranked sequence on the device, ranked below the asking one, that is in no row yet. Nobody yields
    /// to a lower rank, so the best-ranked one always gets its room and everything ends.
    fn victim(&self, asking: SequenceId, plan: &StepPlan) -> Option<SequenceId> {
        let asking = self.sequences.get(&asking)?;
        let free = |s: &&Sequence| {
            s.model() == asking.model()
                && s.is_movable()
                && s.rank() > asking.rank()
                && !plan.rows.iter().any(|row| row.sequence == s.id)
        };
        self.sequences.values().filter(free).max_by_key(|s| s.rank()).map(Sequence::id)
    }

    /// Swaps a sequence out, or drops its KV where recomputing is cheaper or the host pool is full.
    pub(crate) fn preempt(&mut self, id: SequenceId, plan: &mut StepPlan) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        if let Some(model) = self.models.get_mut(&sequence.model()) {
            model.totals.preemptions += 1;
        }
        let setup = self.models.get(&sequence.model()).map(|model| model.setup);
        let (block_bytes, block_tokens) = setup.map_or((0, 1), |s| (s.block_bytes, s.block_tokens));
        // Only whole computed positions travel; a block past them holds nothing yet.
        let used = sequence.computed.div_ceil(block_tokens.max(1)) as usize;
        self.memory.trim(&mut self.models, &mut sequence, used);
        let host = if used > 0 && sequence.swappable && self.swap_is_cheaper(&sequence, block_bytes) {
            self.memory.reserve_host(&mut self.models, used, block_bytes)
        } else {
            None
        };
        match host {
            Some(host) => {
                let swap = self.next_swap();
                let moves = moves(&sequence, 0, &host, Direction::Out);
                plan.swaps.push(SwapOrder { id: swap, model: sequence.model(), moves });
                sequence.host = host;
                sequence.kv = KvState::SwappingOut(swap);
            }
            None => self.forget_kv(&mut sequence),
        }
        self.sequences.insert(id, sequence);
    }

    pub(crate) fn next_swap(&mut self) -> SwapId {
        self.last.swap += 1;
        SwapId(self.last.swap)
    }

    fn swap_is_cheaper(&self, sequence: &Sequence, block_bytes: u64) -> bool {
        let rates = self.models.get(&sequence.model()).and_then(|model| model.rates);
        let Some(rates) = rates else { return true };
        let Some(swap_bytes_per_s) = rates.swap_bytes_per_s else { return true };
        let bytes = block_bytes as f64 * sequence.blocks.len() as f64;
        // Out and back in.
        2.0 * bytes / swap_bytes_per_s.max(1.0)
            <= f64::from(sequence.computed) / rates.prefill_tokens_per_s.max(1.0)
    }

    /// Brings swapped sequences back, best rank first, while their blocks and one more fit. What the prefix cache still
    /// holds of them is shared, not moved.
    pub(crate) fn resume_swapped(&mut self, model: ModelId, plan: &mut StepPlan) {
        let swapped = self.live_of(model).filter(|s| s.kv == KvState::Host);
        let mut ids: Vec<_> = swapped.map(|s| (s.rank(), s.id)).collect();
        ids.sort_unstable();
        for (_, id) in ids {
            let Some(needed) = self.sequences.get(&id).map(|s| s.host.len()) else { continue };
            // Else it would be pushed out again for them, and come back, and so on.
            let needed = needed + self.better_without_room(id);
            let available = self.memory.available(&self.models, model);
            let all = self.models.get(&model).map_or(0, |known| self.memory.blocks_max(known));
            if needed > all {
                return;
            }
            if available <= needed && available < all {
                // Best rank first: who is behind waits too.
                let wanted = all.min(needed + 1);
                if self.is_on_device(model) || !self.displace(model, wanted, plan) {
                    return;
                }
            }
            self.swap_in(id, plan);
        }
    }

    /// Sequences of the model on the device, ranked above this one, that need a block for their next position.
    fn better_without_room(&self, id: SequenceId) -> usize {
        let Some(sequence) = self.sequences.get(&id) else { return 0 };
        let block_tokens = self.models.get(&sequence.model()).map_or(1, |model| model.pool.block_tokens());
        let is_without = |s: &&Sequence| {
            s.is_runnable()
                && s.rank() < sequence.rank()
                && s.computed as usize >= s.blocks.len() * block_tokens
        };
        self.live_of(sequence.model()).filter(is_without).count()
    }

    /// Takes the blocks and orders the moves; there is room for all of them.
    fn swap_in(&mut self, id: SequenceId, plan: &mut StepPlan) {
        let swap = self.next_swap();
        let Self { sequences, models, memory, .. } = self;
        let Some(sequence) = sequences.get_mut(&id) else { return };
        let id = sequence.parts.model;
        let Some(model) = models.get_mut(&id) else { return };
        // At least one block moves, so that there is a swap to wait for.
        let full = (sequence.computed as usize / model.pool.block_tokens()).min(sequence.host.len() - 1);
        let findable = &sequence.tokens[..full * model.pool.block_tokens()];
        let hits = model.pool.lookup(sequence.parts.cache_salt, findable);
        sequence.chain = Chain::Start(sequence.parts.cache_salt);
        for &(block, chain) in &hits {
            model.pool.share(block);
            sequence.blocks.push(block);
            sequence.chain = chain;
        }
        sequence.published = hits.len() as u32;
        while sequence.blocks.len() < sequence.host.len() {
            let Some(block) = memory.take_block(models, id) else { break };
            sequence.blocks.push(block);
        }
        sequence.kv = KvState::SwappingIn(swap);
        let moves = moves(sequence, hits.len(), &sequence.host, Direction::In);
        plan.swaps.push(SwapOrder { id: swap, model: id, moves });
    }

    /// Back to the start: KV dropped, tokens kept; recomputed when admitted again.
    pub(crate) fn forget_kv(&mut self, sequence: &mut Sequence) {
        self.memory.trim(&mut self.models, sequence, 0);
        sequence.computed = 0;
        sequence.published = 0;
        sequence.chain = Chain::Start(sequence.parts.cache_salt);
        sequence.kv = KvState::Waiting;
    }

    pub(crate) fn free_host(&mut self, sequence: &mut Sequence) {
        self.memory.host.release(&sequence.host);
        sequence.host.clear();
    }
}

/// The sequence's blocks from `first` on and where they are in the host pool.
fn moves(sequence: &Sequence, first: usize, host: &[HostBlockId], direction: Direction) -> Vec<BlockMove> {
    let pairs = sequence.blocks.iter().zip(host).skip(first);
    pairs.map(|(&device, &host)| BlockMove { device, host, direction }).collect()
}
