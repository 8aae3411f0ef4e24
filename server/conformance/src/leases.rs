//! KV memory is leased from the arena and given back.

use quarry_model::backend::BackendError;
use quarry_model::kv::KvArena;

use crate::Outcome;
use crate::rig::Bench;

/// An arena for one executor serves one at a time, and again after it is gone; one too small serves none.
pub fn leases(bench: &mut Bench<'_>) -> Outcome {
    let arena = bench.arena();
    let memory = |what: &str, outcome: Result<_, BackendError>| match outcome {
        Err(BackendError::Memory { .. }) => Ok(()),
        Err(other) => Err(format!("{what}: {other}, expected too little memory")),
        Ok(_) => Err(format!("{what} was activated")),
    };
    let first = bench.rig_in(&arena)?;
    if arena.slabs_free() != 0 {
        return Err(format!("{} slabs are free beside an executor that needs all", arena.slabs_free()));
    }
    memory("a second executor", bench.activate(&arena).map(drop))?;
    drop(first);
    if arena.slabs_free() != arena.slabs_total() {
        let (free, total) = (arena.slabs_free(), arena.slabs_total());
        return Err(format!("{free} of {total} slabs came back"));
    }
    bench.rig_in(&arena)?;
    let small = KvArena::new(bench.block_bytes.saturating_sub(1), 1000);
    memory("slabs smaller than a block", bench.activate(&small).map(drop))
}
