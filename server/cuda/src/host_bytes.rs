//! A model's packed bytes in host memory: page-locked where the system gives such memory, so that they travel at the link's
//! full rate while the host goes on.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::device::Device;
use crate::pinned::Pinned;

/// A page: less is not locked by itself.
const PINNED_BYTES_MIN: usize = 4 << 10;

pub enum HostBytes {
    Pinned(Pinned),
    Plain(Vec<u8>),
}

impl HostBytes {
    /// So many zeros; plain memory where `device` is none, or has no more of the other kind.
    pub fn zeroed(device: Option<&Arc<Device>>, bytes: usize) -> Self {
        let pinned = device.filter(|_| bytes >= PINNED_BYTES_MIN).and_then(|device| {
            match Pinned::new(device, bytes) {
                Ok(pinned) => Some(pinned),
                Err(error) => {
                    tracing::debug!(bytes, %error, "no page-locked memory: weights are copied more slowly");
                    None
                }
            }
        });
        pinned.map_or_else(|| Self::Plain(vec![0; bytes]), Self::Pinned)
    }
}

impl Deref for HostBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pinned(pinned) => pinned.bytes(),
            Self::Plain(bytes) => bytes,
        }
    }
}

impl DerefMut for HostBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Pinned(pinned) => pinned.bytes_mut(),
            Self::Plain(bytes) => bytes,
        }
    }
}
