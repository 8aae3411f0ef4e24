//! Memory for weights: zeroed by the operating system as it is touched, in huge pages where there are.
//!
//! Why: decode streams all weights for every token; with 4 KiB pages a good part of that is address translation.

use memmap2::MmapMut;

/// A run of memory, aligned to a page.
pub struct Storage {
    map: Option<MmapMut>,
}

impl Storage {
    /// `bytes` zeros.
    ///
    /// # Errors
    /// The operating system's, when it gives no memory.
    pub fn zeroed(bytes: usize) -> std::io::Result<Self> {
        if bytes == 0 {
            return Ok(Self { map: None });
        }
        let map = MmapMut::map_anon(bytes)?;
        #[cfg(target_os = "linux")]
        if map.advise(memmap2::Advice::HugePage).is_err() {
            // Only advice: a kernel without huge pages serves the same memory in small ones.
        }
        Ok(Self { map: Some(map) })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// The bytes, to write.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or(&mut [])
    }
}
