//! Memory for weights: zeroed by the operating system as it is touched, in huge pages where there are.
//!
//! Why: decode streams all weights for every token; in 4 KiB pages a good part of that is address translation (on a
//! virtual machine of 2026 20 GB/s instead of 33). How: one large mapping, aligned to a huge page, is cut into the
//! matrices' parts, for many of them are smaller than a huge page.

use std::sync::Arc;

use memmap2::MmapMut;

/// Bytes of a mapping at least: many matrices, and little beside any model worth serving.
const CHUNK_BYTES: usize = 128 << 20;
/// A huge page of x86-64.
const HUGE_PAGE: usize = 2 << 20;
/// Parts begin at cache lines.
const LINE: usize = 64;

/// Where parts are cut from.
#[derive(Default)]
pub struct Arena {
    chunk: Option<Arc<Chunk>>,
    used: usize,
}

/// One mapping.
struct Chunk {
    start: *mut u8,
    bytes: usize,
    /// Owns the memory that `start` points into.
    _map: MmapMut,
}

// SAFETY: the memory is only reached through `Storage`, whose parts are disjoint.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// A run of memory, aligned to a cache line.
pub struct Storage {
    chunk: Option<Arc<Chunk>>,
    start: usize,
    bytes: usize,
}

impl Arena {
    /// `bytes` zeros.
    ///
    /// # Errors
    /// The operating system's, when it gives no memory.
    pub fn zeroed(&mut self, bytes: usize) -> std::io::Result<Storage> {
        if bytes == 0 {
            return Ok(Storage { chunk: None, start: 0, bytes: 0 });
        }
        let left = self.chunk.as_ref().map_or(0, |chunk| chunk.bytes - self.used);
        if left < bytes {
            self.chunk = Some(Arc::new(Chunk::new(bytes.max(CHUNK_BYTES))?));
            self.used = 0;
        }
        let start = self.used;
        let capacity = self.chunk.as_ref().map_or(0, |chunk| chunk.bytes);
        self.used = (start + bytes).next_multiple_of(LINE).min(capacity);
        Ok(Storage { chunk: self.chunk.clone(), start, bytes })
    }
}

impl Chunk {
    fn new(bytes: usize) -> std::io::Result<Self> {
        let bytes = bytes.next_multiple_of(HUGE_PAGE);
        let mut map = MmapMut::map_anon(bytes + HUGE_PAGE)?;
        #[cfg(target_os = "linux")]
        if map.advise(memmap2::Advice::HugePage).is_err() {
            // Only advice: a kernel without huge pages serves the same memory in small ones.
        }
        let skip = map.as_ptr().align_offset(HUGE_PAGE).min(HUGE_PAGE);
        let start = map[skip..].as_mut_ptr();
        Ok(Self { start, bytes, _map: map })
    }
}

impl Storage {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        let Some(chunk) = &self.chunk else { return &[] };
        // SAFETY: `Arena::zeroed` cut the part from within the chunk, for this storage alone.
        unsafe { std::slice::from_raw_parts(chunk.start.add(self.start), self.bytes) }
    }

    /// The bytes, to write.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let Some(chunk) = &self.chunk else { return &mut [] };
        // SAFETY: as in `as_slice`; `&mut self` excludes every other access to the part.
        unsafe { std::slice::from_raw_parts_mut(chunk.start.add(self.start), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_zero_aligned_and_apart() {
        let mut arena = Arena::default();
        let mut parts: Vec<Storage> =
            [1, 63, 0, 64, 1 << 20, CHUNK_BYTES, 5].iter().map(|&n| arena.zeroed(n).unwrap()).collect();
        for (i, part) in parts.iter_mut().enumerate() {
            assert!(part.as_slice().iter().all(|&b| b == 0));
            assert!(part.as_slice().is_empty() || part.as_slice().as_ptr().align_offset(LINE) == 0);
            part.as_mut_slice().fill(i as u8 + 1);
        }
        for (i, part) in parts.iter().enumerate() {
            assert!(part.as_slice().iter().all(|&b| b == i as u8 + 1), "part {i}");
        }
    }
}
