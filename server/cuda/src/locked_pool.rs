//! The host pool's memory, page-locked as far as it is used, so that swaps run at the link's rate beside the steps.
//!
//! The pool takes memory as blocks are written to it. Page-locking all of it at start would take all of it at once, so it is
//! locked by extents, each when a block in it is first moved. What the system refuses to lock is copied all the same, through
//! the driver's own buffers.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::sys;
use quarry_model::kv::{HostPool, HostPoolGuard};

use crate::device::Device;

/// Bytes that are locked at once.
const EXTENT_BYTES: usize = 64 << 20;

/// What is locked of one pool.
pub struct LockedPool {
    device: Arc<Device>,
    /// Whether each extent could be locked; none where it was not asked for yet.
    extents: Vec<Option<bool>>,
    locked: Vec<Locked>,
    /// Dropped after the extents: they are its memory.
    pool: HostPool,
}

/// A locked extent.
struct Locked(*mut c_void);

// SAFETY: an address that only the driver uses.
unsafe impl Send for Locked {}

impl Drop for LockedPool {
    fn drop(&mut self) {
        let _ = self.device.bind();
        for Locked(address) in self.locked.drain(..) {
            // SAFETY: registered by `lock`, once; the pool's memory is still there.
            let _ = unsafe { sys::cuMemHostUnregister(address) };
        }
    }
}

impl LockedPool {
    pub fn new(device: &Arc<Device>, pool: &HostPool) -> Self {
        let extents = vec![None; pool.bytes_max().div_ceil(EXTENT_BYTES)];
        Self { device: device.clone(), extents, locked: Vec::new(), pool: pool.clone() }
    }

    /// Whether it is this pool's.
    pub fn is_of(&self, pool: &HostPool) -> bool {
        self.pool.is_same(pool)
    }

    /// Whether these bytes of the pool are page-locked now; they are, where the system lets them be.
    pub fn lock(&mut self, range: &Range<usize>, bytes: &mut HostPoolGuard<'_>) -> bool {
        let mut extents = range.start / EXTENT_BYTES..range.end.div_ceil(EXTENT_BYTES);
        extents.all(|extent| self.lock_extent(extent, bytes))
    }

    fn lock_extent(&mut self, extent: usize, bytes: &mut HostPoolGuard<'_>) -> bool {
        if let Some(known) = self.extents[extent] {
            return known;
        }
        let bytes = bytes.bytes_mut();
        let begin = extent * EXTENT_BYTES;
        let extent_bytes = &mut bytes[begin..(begin + EXTENT_BYTES).min(self.pool.bytes_max())];
        let address = extent_bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: memory of the pool, which lives until it is unregistered; extents do not overlap.
        let registered = unsafe { sys::cuMemHostRegister_v2(address, extent_bytes.len(), 0) }.result();
        match &registered {
            Ok(()) => self.locked.push(Locked(address)),
            Err(error) => tracing::warn!(%error, "the host pool cannot be page-locked: swaps are slower"),
        }
        self.extents[extent] = Some(registered.is_ok());
        registered.is_ok()
    }
}
