//! The invariants of the whole engine, checked after every simulated step.

use std::collections::BTreeMap;

use crate::ids::{BlockId, ModelId};
use crate::scheduler::Scheduler;
use crate::sequence::KvState;

impl Scheduler {
    /// Panics where the state contradicts itself: every slab with one model or nobody; every block free, held or idle
    /// exactly once; every reference owned by a sequence; host blocks apart from each other and within the bound; tables
    /// long enough; nothing pinned that nothing uses; no model's turn or step that is not there.
    pub fn check_invariants(&self) {
        self.memory.check(&self.models);
        self.check_sequences();
        self.check_blocks();
        self.check_turns();
        let host = self.sequences.values().flat_map(|sequence| {
            let bytes = self.models.get(&sequence.model()).map_or(0, |model| model.setup.block_bytes);
            sequence.host.iter().map(move |id| (*id, bytes))
        });
        let cached = self
            .models
            .values()
            .flat_map(|model| model.pool.prefixes.host_blocks().map(|id| (id, model.setup.block_bytes)));
        let saving = self.save.iter().flat_map(|save| {
            let bytes = self.models.get(&save.model).map_or(0, |model| model.setup.block_bytes);
            save.blocks.iter().map(move |(_, host)| (*host, bytes))
        });
        self.memory.host.check(host.chain(cached).chain(saving));
    }

    fn check_sequences(&self) {
        for (id, sequence) in &self.sequences {
            assert_eq!(*id, sequence.id);
            assert_eq!(self.by_request.get(&sequence.request()), Some(id), "request of {id} is findable");
            let Some(model) = self.models.get(&sequence.model()) else {
                panic!("sequence {id} has a known model");
            };
            let block_tokens = model.pool.block_tokens();
            assert!(sequence.computed as usize <= sequence.tokens.len());
            assert!(sequence.published as usize * block_tokens <= sequence.computed as usize);
            let covered = sequence.blocks.len() * block_tokens >= sequence.computed as usize;
            match sequence.kv {
                KvState::Waiting => assert!(sequence.blocks.is_empty() && sequence.host.is_empty()),
                KvState::Device => assert!(covered && sequence.host.is_empty()),
                KvState::Host => assert!(sequence.blocks.is_empty() && !sequence.host.is_empty()),
                KvState::SwappingOut(_) | KvState::SwappingIn(_) => {
                    let is_moved = sequence.blocks.len() == sequence.host.len();
                    assert!(covered && (is_moved || !sequence.restoring.is_empty()));
                    assert!(sequence.in_step.is_none(), "a moving sequence is in no step");
                }
            }
            if let Some(step) = sequence.in_step {
                let in_flight = self.in_flight.as_ref().map(|s| s.id);
                assert_eq!(in_flight, Some(step), "{id} is in the step in flight");
            }
        }
        assert_eq!(self.by_request.len(), self.sequences.len());
    }

    fn check_blocks(&self) {
        let mut refs: BTreeMap<(ModelId, BlockId), u32> = BTreeMap::new();
        for sequence in self.sequences.values() {
            for &block in &sequence.blocks {
                *refs.entry((sequence.model(), block)).or_default() += 1;
            }
        }
        if let Some(save) = &self.save {
            for (block, _) in &save.blocks {
                *refs.entry((save.model, *block)).or_default() += 1;
            }
        }
        for (id, model) in &self.models {
            model.pool.check();
            assert!(model.pool.empty_slab().is_none(), "model {id} gives back what it does not use");
            for slab in model.pool.slabs() {
                let first = slab.0 * model.pool.slab_blocks() as u32;
                for block in (first..first + model.pool.slab_blocks() as u32).map(BlockId) {
                    let owned = refs.remove(&(*id, block)).unwrap_or(0);
                    assert_eq!(model.pool.refs(block), owned, "holders of block {block} of model {id}");
                }
            }
        }
        assert!(refs.is_empty(), "blocks outside their model's slabs: {refs:?}");
    }

    fn check_turns(&self) {
        let exclusive = self.turns.exclusive.map(|(model, _)| model);
        let switch = self.turns.switch.map(|switch| switch.model);
        for model in exclusive.iter().chain(&switch) {
            assert!(self.models.contains_key(model), "model {model} is known");
        }
        if let Some(holder) = exclusive {
            assert!(self.models[&holder].is_resident, "model {holder} can use its turn");
        }
        if let Some(step) = &self.in_flight {
            assert!(self.models[&step.model].is_resident, "the model of the step in flight is there");
        }
    }
}
