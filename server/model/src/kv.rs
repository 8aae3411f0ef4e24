//! KV memory that outlives any executor: the device's arena in equal slabs, and the host pool for swapped blocks.
//!
//! Why here: the scheduler leases slabs to models and names blocks, so nobody else keeps books; what is here only knows
//! where a named block lies. An arena's storage belongs to the back end that made it ([`KvArena::storage`]); back ends
//! whose device is the host share [`HostMemory`].

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{MmapMut, MmapOptions, MmapRaw};
use quarry_core::ids::HostBlockId;
use quarry_core::limits::HOST_UNIT_BYTES;

/// Where slabs begin in bytes: a cache line, and an AVX-512 register.
pub const SLAB_ALIGN: usize = 64;

/// A huge page of x86-64: memory begins at one.
const HUGE_PAGE: usize = 2 << 20;

/// Memory of the host that several threads write at once: zeroed by the operating system as it is touched, in huge pages
/// where there are, for a long context is read in pieces that are far apart.
#[derive(Debug)]
pub struct HostMemory {
    map: MmapRaw,
    skip: usize,
    bytes: usize,
}

/// The system would not map so much memory.
#[derive(Debug, thiserror::Error)]
#[error("{bytes} bytes of memory cannot be had: {source}")]
pub struct NoMemory {
    /// Asked for.
    pub bytes: usize,
    source: std::io::Error,
}

impl HostMemory {
    /// So many bytes, none of them taken before it is touched.
    ///
    /// # Errors
    /// [`NoMemory`] where the system refuses.
    pub fn new(bytes: usize) -> Result<Self, NoMemory> {
        let map = map(bytes.saturating_add(HUGE_PAGE), bytes)?;
        let skip = map.as_ptr().align_offset(HUGE_PAGE).min(HUGE_PAGE);
        Ok(Self { map: map.into(), skip, bytes })
    }

    /// First byte, aligned to [`SLAB_ALIGN`]; valid for [`HostMemory::bytes`] bytes while this lives. Who writes through
    /// it sees to it that nobody else uses those bytes meanwhile.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.skip)
    }

    /// Usable bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Maps `whole` bytes for the `bytes` that were asked for.
fn map(whole: usize, bytes: usize) -> Result<MmapMut, NoMemory> {
    // A promise, not memory: a small machine may promise more than it has, and takes it only as it is used.
    let map = MmapOptions::new().len(whole).no_reserve_swap().map_anon();
    let map = map.map_err(|source| NoMemory { bytes, source })?;
    #[cfg(target_os = "linux")]
    if map.advise(Advice::HugePage).is_err() {
        // Only advice: a kernel without huge pages serves the same memory in small ones.
    }
    Ok(map)
}

/// The device's KV memory in equal slabs, shared by all models. Clones share it.
#[derive(Clone)]
pub struct KvArena {
    slab_bytes: usize,
    slabs: usize,
    storage: Arc<dyn Any + Send + Sync>,
}

impl KvArena {
    /// An arena of a back end's own storage.
    pub fn new(slab_bytes: usize, slabs: usize, storage: Arc<dyn Any + Send + Sync>) -> Self {
        Self { slab_bytes, slabs, storage }
    }

    /// An arena of [`HostMemory`]. A slab that is no multiple of [`SLAB_ALIGN`] is rounded up.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn host(slab_bytes: usize, slabs: usize) -> Result<Self, NoMemory> {
        let slab_bytes = slab_bytes.next_multiple_of(SLAB_ALIGN);
        let memory = HostMemory::new(slab_bytes.saturating_mul(slabs))?;
        Ok(Self::new(slab_bytes, slabs, Arc::new(memory)))
    }

    /// Bytes of one slab.
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }

    /// Slabs in all.
    pub fn slabs(&self) -> usize {
        self.slabs
    }

    /// Blocks of so many bytes that a slab holds; blocks never straddle slabs.
    pub fn slab_blocks(&self, block_bytes: usize) -> usize {
        self.slab_bytes / block_bytes.max(1)
    }

    /// The storage as the back end made it.
    pub fn storage<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.storage.clone().downcast().ok()
    }
}

/// Host memory for swapped blocks, bounded in bytes (`swap_space`), shared by all models: one run of bytes, in which the
/// scheduler says where a block lies. Clones share it.
#[derive(Clone)]
pub struct HostPool {
    bytes_max: usize,
    memory: Arc<Mutex<MmapMut>>,
}

/// A block that does not lie within the host pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host block {block} of {bytes} bytes is outside the pool of {bytes_max}")]
pub struct OutsideHostPool {
    /// The block.
    pub block: HostBlockId,
    /// Its size.
    pub bytes: usize,
    /// The pool's.
    pub bytes_max: usize,
}

impl HostPool {
    /// A pool of `bytes_max` bytes; memory is taken as blocks are written.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn new(bytes_max: usize) -> Result<Self, NoMemory> {
        // A map has at least one byte.
        Ok(Self { bytes_max, memory: Arc::new(Mutex::new(map(bytes_max.max(1), bytes_max)?)) })
    }

    /// The bound.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Whether both are the same pool.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// Where a block of `bytes` bytes lies in [`HostPool::lock`]'s bytes.
    ///
    /// # Errors
    /// [`OutsideHostPool`].
    pub fn range(&self, block: HostBlockId, bytes: usize) -> Result<std::ops::Range<usize>, OutsideHostPool> {
        let outside = OutsideHostPool { block, bytes, bytes_max: self.bytes_max };
        let begin = block.0 as usize * HOST_UNIT_BYTES as usize;
        let end = begin.checked_add(bytes).filter(|end| *end <= self.bytes_max).ok_or(outside)?;
        Ok(begin..end)
    }

    /// The pool for the time of one order; nobody else moves blocks meanwhile.
    pub fn lock(&self) -> HostPoolGuard<'_> {
        // A poisoned lock only means that a panic was answered elsewhere: bytes are bytes.
        HostPoolGuard(self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The bytes of a host pool.
pub struct HostPoolGuard<'a>(MutexGuard<'a, MmapMut>);

impl HostPoolGuard<'_> {
    /// All of them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
