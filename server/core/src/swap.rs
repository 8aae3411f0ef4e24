//! The host pool as the engine counts it: which block of which model lies where, within a strict bound.
//!
//! The pool is one run of bytes, cut into equal extents. An extent is leased to blocks of one size as they come, and is
//! anybody's again when its last block leaves. A host block is named by where it begins, so that whoever moves it needs
//! no table, and blocks of different models can never overlap.

use std::collections::BTreeMap;

use crate::ids::HostBlockId;
use crate::limits::HOST_UNIT_BYTES;

/// Accounting of host blocks; the bytes themselves are the runtime's.
#[derive(Debug)]
pub struct SwapSpace {
    /// Units of an extent.
    extent_units: u32,
    /// Extents that hold no block, last used last.
    unused: Vec<u32>,
    leased: BTreeMap<u32, Extent>,
    bytes_max: u64,
    held_units: u64,
    blocks: usize,
}

/// Blocks of one size.
#[derive(Debug)]
struct Extent {
    block_units: u32,
    free: Vec<u32>,
    blocks: u32,
}

impl SwapSpace {
    /// An empty pool of at most `bytes_max` bytes in extents of `extent_bytes`; a rest that fills no extent is not used.
    pub fn new(bytes_max: u64, extent_bytes: u64) -> Self {
        let extent_bytes = extent_bytes.min(bytes_max).max(HOST_UNIT_BYTES);
        let extent_units = u32::try_from(extent_bytes / HOST_UNIT_BYTES).unwrap_or(u32::MAX);
        let extents = (bytes_max / HOST_UNIT_BYTES / u64::from(extent_units))
            // Every unit has a number.
            .min(u64::from(u32::MAX / extent_units)) as u32;
        Self {
            extent_units,
            unused: (0..extents).rev().collect(),
            leased: BTreeMap::new(),
            bytes_max,
            held_units: 0,
            blocks: 0,
        }
    }

    /// `count` host blocks of `block_bytes` each, or none.
    pub fn reserve(&mut self, count: usize, block_bytes: u64) -> Option<Vec<HostBlockId>> {
        let block_units = u32::try_from(block_bytes.max(1).div_ceil(HOST_UNIT_BYTES)).ok()?;
        let extent_blocks = self.extent_units / block_units;
        let same = |extent: &&mut Extent| extent.block_units == block_units;
        let begun: usize = self.leased.values_mut().filter(same).map(|extent| extent.free.len()).sum();
        let more = count.saturating_sub(begun);
        if more > 0 && (extent_blocks == 0 || more.div_ceil(extent_blocks as usize) > self.unused.len()) {
            return None;
        }
        let mut ids = Vec::with_capacity(count);
        for extent in self.leased.values_mut().filter(same) {
            let taken = extent.free.len().min(count - ids.len());
            extent.blocks += taken as u32;
            ids.extend(extent.free.drain(extent.free.len() - taken..).rev().map(HostBlockId));
        }
        while ids.len() < count {
            let index = self.unused.pop()?;
            let begin = index * self.extent_units;
            let mut free: Vec<u32> = (0..extent_blocks).rev().map(|i| begin + i * block_units).collect();
            let taken = free.len().min(count - ids.len());
            ids.extend(free.drain(free.len() - taken..).rev().map(HostBlockId));
            self.leased.insert(index, Extent { block_units, free, blocks: taken as u32 });
        }
        self.held_units += count as u64 * u64::from(block_units);
        self.blocks += count;
        Some(ids)
    }

    /// Gives host blocks back.
    pub fn release(&mut self, ids: &[HostBlockId]) {
        for &id in ids {
            let index = id.0 / self.extent_units;
            let Some(extent) = self.leased.get_mut(&index) else {
                debug_assert!(false, "host block {id} is not held");
                continue;
            };
            debug_assert!(!extent.free.contains(&id.0), "host block {id} is not held");
            extent.free.push(id.0);
            extent.blocks -= 1;
            self.held_units -= u64::from(extent.block_units);
            self.blocks -= 1;
            if extent.blocks == 0 {
                self.leased.remove(&index);
                self.unused.push(index);
            }
        }
    }

    /// Bytes of blocks that are held.
    pub fn bytes(&self) -> u64 {
        self.held_units * HOST_UNIT_BYTES
    }

    /// The bound.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Host blocks held.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Panics where `held`, every block in use with its bytes, is not what is counted here, overlaps or exceeds the bound.
    pub fn check(&self, held: impl Iterator<Item = (HostBlockId, u64)>) {
        let mut held: Vec<(u64, u64)> =
            held.map(|(id, bytes)| (u64::from(id.0), bytes.max(1).div_ceil(HOST_UNIT_BYTES))).collect();
        held.sort_unstable();
        assert_eq!(held.len(), self.blocks, "host blocks are owned by sequences");
        assert!(held.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "host blocks overlap");
        let end = held.last().map_or(0, |(begin, units)| begin + units);
        assert!(end * HOST_UNIT_BYTES <= self.bytes_max, "host blocks lie within the bound");
        assert_eq!(held.iter().map(|(_, units)| units).sum::<u64>(), self.held_units);
        let extents = self.bytes_max / HOST_UNIT_BYTES / u64::from(self.extent_units);
        assert!(self.unused.len() + self.leased.len() <= extents as usize, "every extent is used or not");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_serve_one_size_at_a_time_and_come_back() {
        let mut space = SwapSpace::new(1024, 512);
        let small = space.reserve(5, 64).unwrap();
        assert_eq!(small, [0, 1, 2, 3, 4].map(HostBlockId));
        let large = space.reserve(2, 200).unwrap();
        assert_eq!(large, [8, 12].map(HostBlockId), "in an extent of its own");
        assert_eq!(space.reserve(1, 200), None, "no extent is left");
        assert_eq!(space.bytes(), 5 * 64 + 2 * 256);
        space.check(small.iter().map(|id| (*id, 64)).chain(large.iter().map(|id| (*id, 200))));
        space.release(&small);
        assert_eq!(space.reserve(2, 200).map(|ids| ids.len()), Some(2));
        assert_eq!(space.reserve(1, 2000), None);
    }

    #[test]
    fn a_pool_of_nothing_serves_nothing() {
        assert_eq!(SwapSpace::new(0, 1 << 20).reserve(1, 1), None);
        assert_eq!(SwapSpace::new(63, 1 << 20).reserve(1, 1), None);
        assert_eq!(SwapSpace::new(64, 1 << 20).reserve(1, 1).map(|ids| ids.len()), Some(1));
    }
}
