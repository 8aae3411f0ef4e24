//! The host pool as the engine counts it: ids and bytes, bounded, shared by all models.

use crate::ids::HostBlockId;

/// Accounting of host blocks; the bytes themselves are the runtime's.
#[derive(Debug)]
pub struct SwapSpace {
    bytes_max: u64,
    bytes: u64,
    held: Vec<u64>,
    free: Vec<HostBlockId>,
}

impl SwapSpace {
    /// An empty pool of at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, held: Vec::new(), free: Vec::new() }
    }

    /// `count` host blocks of `block_bytes` each, or none.
    pub fn reserve(&mut self, count: usize, block_bytes: u64) -> Option<Vec<HostBlockId>> {
        let bytes = block_bytes.checked_mul(count as u64)?;
        if self.bytes.checked_add(bytes)? > self.bytes_max {
            return None;
        }
        self.bytes += bytes;
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            let id = self.free.pop().unwrap_or_else(|| {
                self.held.push(0);
                HostBlockId(self.held.len() as u32 - 1)
            });
            self.held[id.0 as usize] = block_bytes.max(1);
            ids.push(id);
        }
        Some(ids)
    }

    /// Gives host blocks back.
    pub fn release(&mut self, ids: &[HostBlockId]) {
        for &id in ids {
            let bytes = std::mem::take(&mut self.held[id.0 as usize]);
            debug_assert!(bytes > 0, "host block {id} is not held");
            self.bytes -= bytes.min(self.bytes);
            self.free.push(id);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bound.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Host blocks held.
    pub fn blocks(&self) -> usize {
        self.held.len() - self.free.len()
    }
}
