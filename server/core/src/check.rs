//! The invariants of the whole engine, checked after every simulated step.

use std::collections::BTreeMap;

use crate::ids::{BlockId, ModelId};
use crate::scheduler::Scheduler;
use crate::sequence::Place;

impl Scheduler {
    /// Panics where the state contradicts itself: every block free, held or idle exactly once; every reference
    /// owned by a sequence; every host block counted; tables long enough; nothing pinned that nothing uses.
    pub fn check_invariants(&self) {
        let mut refs: BTreeMap<(ModelId, BlockId), u32> = BTreeMap::new();
        let mut host = 0;
        for (id, sequence) in &self.sequences {
            assert_eq!(*id, sequence.id);
            assert_eq!(self.by_request.get(&sequence.request()), Some(id), "request of {id} is findable");
            let Some(loaded) = self.models.get(&sequence.model()) else {
                panic!("sequence {id} has a loaded model");
            };
            let block_tokens = loaded.pool.block_tokens();
            assert!(sequence.computed as usize <= sequence.tokens.len());
            assert!(sequence.published as usize * block_tokens <= sequence.computed as usize);
            for &block in &sequence.blocks {
                *refs.entry((sequence.model(), block)).or_default() += 1;
            }
            host += sequence.host.len();
            let covered = sequence.blocks.len() * block_tokens >= sequence.computed as usize;
            match sequence.place {
                Place::Waiting => assert!(sequence.blocks.is_empty() && sequence.host.is_empty()),
                Place::Device => assert!(covered && sequence.host.is_empty()),
                Place::Host => assert!(sequence.blocks.is_empty() && !sequence.host.is_empty()),
                Place::SwappingOut(_) | Place::SwappingIn(_) => {
                    assert!(covered && sequence.blocks.len() == sequence.host.len());
                    assert!(sequence.in_step.is_none(), "a moving sequence is in no step");
                }
            }
            if let Some(step) = sequence.in_step {
                assert_eq!(
                    self.in_flight.as_ref().map(|s| s.id),
                    Some(step),
                    "{id} is in the step in flight"
                );
            }
        }
        for (model, loaded) in &self.models {
            loaded.pool.check();
            for index in 0..loaded.pool.total() {
                let block = BlockId(index as u32);
                let owned = refs.get(&(*model, block)).copied().unwrap_or(0);
                assert_eq!(loaded.pool.refs(block), owned, "holders of block {block} of model {model}");
            }
        }
        for model in self.unloading.iter().chain(&self.active) {
            assert!(self.models.contains_key(model), "model {model} is loaded");
        }
        assert_eq!(self.swap_space.blocks(), host, "host blocks are owned by sequences");
        assert!(self.swap_space.bytes() <= self.swap_space.bytes_max());
    }
}
