//! KV memory that outlives any executor: the device arena in equal slabs, and the host pool for swapped blocks.
//!
//! Why here: executors lease, they never own, so suspended KV survives an unloaded executor.
//! How: [`KvArena::lease`] hands out [`Slab`]s behind a guard that returns them on drop; a block id maps to
//! (slab, offset) by [`SlabLease::locate`]. [`HostPool`] holds one buffer per host block, bounded in bytes, and
//! pinned memory for a GPU is a matter of the allocator passed to it later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use quarry_core::ids::{BlockId, HostBlockId};

/// Alignment of slab memory in bytes: a cache line, and an AVX-512 register.
pub const SLAB_ALIGN: usize = 64;

/// A piece of KV memory on a host-addressable device: zeroed by the operating system as it is touched, in huge pages
/// where there are, for a long context is read in pieces that are far apart.
#[derive(Debug)]
pub struct Slab {
    memory: Memory,
    skip: usize,
    bytes: usize,
}

/// Mapped, or from the allocator where the system would not map.
#[derive(Debug)]
enum Memory {
    Mapped(MmapMut),
    Allocated(Vec<u8>),
}

/// A huge page of x86-64: slabs begin at one where they are mapped.
const HUGE_PAGE: usize = 2 << 20;

impl Slab {
    fn new(bytes: usize) -> Self {
        if let Ok(map) = MmapMut::map_anon(bytes + HUGE_PAGE) {
            #[cfg(target_os = "linux")]
            if map.advise(Advice::HugePage).is_err() {
                // Only advice: a kernel without huge pages serves the same memory in small ones.
            }
            let skip = map.as_ptr().align_offset(HUGE_PAGE).min(HUGE_PAGE);
            return Self { memory: Memory::Mapped(map), skip, bytes };
        }
        let memory = vec![0; bytes + SLAB_ALIGN];
        let skip = memory.as_ptr().align_offset(SLAB_ALIGN);
        Self { memory: Memory::Allocated(memory), skip, bytes }
    }

    /// First byte, aligned to [`SLAB_ALIGN`]; valid for [`Slab::bytes`] bytes while the slab lives.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        match &mut self.memory {
            Memory::Mapped(map) => map[self.skip..].as_mut_ptr(),
            Memory::Allocated(bytes) => bytes[self.skip..].as_mut_ptr(),
        }
    }

    /// Usable bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The device's KV memory in equal slabs. Clones share it.
#[derive(Clone, Debug)]
pub struct KvArena {
    slab_bytes: usize,
    slabs_total: usize,
    free: Arc<Mutex<FreeSlabs>>,
}

#[derive(Debug)]
struct FreeSlabs {
    slabs: Vec<Slab>,
    unmade: usize,
}

/// The arena has too few free slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the KV arena has {free} free slabs, {needed} are needed")]
pub struct ArenaFull {
    /// Asked for.
    pub needed: usize,
    /// Left.
    pub free: usize,
}

impl KvArena {
    /// `slabs` slabs of `slab_bytes` each; memory is taken when a slab is first leased.
    pub fn new(slab_bytes: usize, slabs: usize) -> Self {
        let free = FreeSlabs { slabs: Vec::new(), unmade: slabs };
        Self { slab_bytes, slabs_total: slabs, free: Arc::new(Mutex::new(free)) }
    }

    /// Bytes of one slab.
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }

    /// Slabs in all.
    pub fn slabs_total(&self) -> usize {
        self.slabs_total
    }

    /// Slabs not leased.
    pub fn slabs_free(&self) -> usize {
        let free = lock(&self.free);
        free.slabs.len() + free.unmade
    }

    /// Leases room for `blocks` blocks of `block_bytes`; blocks never straddle slabs.
    ///
    /// # Errors
    /// [`ArenaFull`]; nothing is leased then.
    pub fn lease(&self, blocks: usize, block_bytes: usize) -> Result<SlabLease, ArenaFull> {
        let blocks_per_slab = self.slab_bytes / block_bytes.max(1);
        let needed = if blocks_per_slab == 0 { usize::MAX } else { blocks.div_ceil(blocks_per_slab) };
        let mut free = lock(&self.free);
        let available = free.slabs.len() + free.unmade;
        if needed > available {
            return Err(ArenaFull { needed, free: available });
        }
        let mut slabs = Vec::with_capacity(needed);
        for _ in 0..needed {
            slabs.push(free.slabs.pop().unwrap_or_else(|| {
                free.unmade -= 1;
                Slab::new(self.slab_bytes)
            }));
        }
        drop(free);
        Ok(SlabLease { slabs, blocks_per_slab, block_bytes, arena: self.clone() })
    }
}

/// Slabs on loan to one executor; they return to the arena on drop.
#[derive(Debug)]
pub struct SlabLease {
    slabs: Vec<Slab>,
    blocks_per_slab: usize,
    block_bytes: usize,
    arena: KvArena,
}

impl SlabLease {
    /// Slab index and byte offset of a block.
    pub fn locate(&self, block: BlockId) -> (usize, usize) {
        let index = block.0 as usize;
        (index / self.blocks_per_slab, index % self.blocks_per_slab * self.block_bytes)
    }

    /// The slabs, for the executor that maps blocks to addresses once at start.
    pub fn slabs_mut(&mut self) -> &mut [Slab] {
        &mut self.slabs
    }
}

impl Drop for SlabLease {
    fn drop(&mut self) {
        lock(&self.arena.free).slabs.append(&mut self.slabs);
    }
}

/// One swapped-out block's bytes; shared with a swap in flight.
pub type HostBuffer = Arc<Mutex<Box<[u8]>>>;

/// Host memory for swapped blocks, bounded in bytes (`swap_space`), shared by all models. Clones share it.
#[derive(Clone, Debug)]
pub struct HostPool {
    bytes_max: usize,
    inner: Arc<Mutex<HostBuffers>>,
}

#[derive(Debug, Default)]
struct HostBuffers {
    bytes: usize,
    buffers: HashMap<HostBlockId, HostBuffer>,
}

/// The host pool's bound is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host pool holds {used_bytes} of {max_bytes} bytes, {needed_bytes} more do not fit")]
pub struct HostPoolFull {
    /// Asked for.
    pub needed_bytes: usize,
    /// Held.
    pub used_bytes: usize,
    /// The bound.
    pub max_bytes: usize,
}

impl HostPool {
    /// An empty pool of at most `bytes_max` bytes; memory is taken block by block.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Arc::default() }
    }

    /// The bound.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes held.
    pub fn bytes_used(&self) -> usize {
        lock(&self.inner).bytes
    }

    /// The buffer of `id`, made with `bytes` bytes if it is not there.
    ///
    /// # Errors
    /// [`HostPoolFull`] when it must be made and does not fit.
    pub fn buffer(&self, id: HostBlockId, bytes: usize) -> Result<HostBuffer, HostPoolFull> {
        let mut inner = lock(&self.inner);
        if let Some(buffer) = inner.buffers.get(&id) {
            return Ok(buffer.clone());
        }
        if inner.bytes + bytes > self.bytes_max {
            return Err(HostPoolFull {
                needed_bytes: bytes,
                used_bytes: inner.bytes,
                max_bytes: self.bytes_max,
            });
        }
        inner.bytes += bytes;
        let buffer: HostBuffer = Arc::new(Mutex::new(vec![0; bytes].into_boxed_slice()));
        inner.buffers.insert(id, buffer.clone());
        Ok(buffer)
    }

    /// The buffer of `id` if it is there.
    pub fn get(&self, id: HostBlockId) -> Option<HostBuffer> {
        lock(&self.inner).buffers.get(&id).cloned()
    }

    /// Frees the buffer of `id`.
    pub fn release(&self, id: HostBlockId) {
        let mut inner = lock(&self.inner);
        if let Some(buffer) = inner.buffers.remove(&id) {
            inner.bytes -= lock(&buffer).len();
        }
    }
}

/// A poisoned lock only means that a panic was answered elsewhere; the data here is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
