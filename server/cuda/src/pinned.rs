//! Page-locked host memory: copies from and to it are queued like kernels, and the host goes on meanwhile.
//!
//! Whoever queues a copy waits for it (an event, or the stream) before changing, reading or dropping the memory. A copy that
//! was not waited for leaves wrong numbers in bytes that have no invalid values, nothing worse: the memory is freed by a
//! call that waits for the device.

use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::{DriverError, result};

use crate::device::Device;

pub struct Pinned {
    device: Arc<Device>,
    address: NonNull<u8>,
    bytes: usize,
}

impl Pinned {
    /// So many bytes, all 0.
    ///
    /// # Errors
    /// The driver's, where the host has no such memory left.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Self, DriverError> {
        device.bind()?;
        // SAFETY: at least one byte; freed once, when this is dropped.
        let address = unsafe { result::malloc_host(bytes.max(1), 0) }?.cast::<u8>();
        let Some(address) = NonNull::new(address) else {
            return Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        };
        // SAFETY: just allocated with at least so many bytes.
        unsafe { address.write_bytes(0, bytes) };
        Ok(Self { device: device.clone(), address, bytes })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and initialised for as long as `self`.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.device.bind();
        // SAFETY: from `malloc_host`, and freed here alone.
        let _ = unsafe { result::free_host(self.address.as_ptr().cast()) };
    }
}

// SAFETY: memory that belongs to this value alone, and a context that any thread may bind.
unsafe impl Send for Pinned {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Pinned {}
