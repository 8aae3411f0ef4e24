//! Weights on their way to the device: everything is queued at once, in the order in which a pass needs it, and a pass that
//! begins meanwhile waits for each layer where it comes to it.

use std::sync::Arc;

use cudarc::driver::{CudaEvent, DriverError};
use quarry_cuda_layout::Places;

use crate::device::{Device, Memory};
use crate::host_bytes::HostBytes;

/// Where a model's parts end: the embedding, each layer, the head.
pub struct Arrivals {
    parts: Vec<CudaEvent>,
}

impl Arrivals {
    /// The compute stream goes on when this part has come: 0 the embedding, then each layer, then the head.
    pub fn wait(&self, device: &Device, part: usize) -> Result<(), DriverError> {
        device.compute.wait(&self.parts[part])
    }
}

/// What takes a model's pieces one after another.
pub trait Pieces {
    /// A piece; its address, where it gets one.
    fn put(&mut self, piece: Piece<'_>) -> u64;
    /// The pieces so far are a part of their own.
    fn end_part(&mut self) {}
}

/// A piece of a model in host memory.
pub enum Piece<'a> {
    Large(&'a HostBytes),
    Small(&'a [u8]),
}

impl Piece<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Large(bytes) => bytes.len(),
            Self::Small(bytes) => bytes.len(),
        }
    }
}

/// Counts the bytes.
impl Pieces for Places {
    fn put(&mut self, piece: Piece<'_>) -> u64 {
        self.add(piece.len()) as u64
    }
}

/// Queues the pieces' copies on the device's upload stream.
pub struct Upload<'a> {
    device: &'a Arc<Device>,
    memory: &'a Memory,
    places: Places,
    parts: Vec<CudaEvent>,
    result: Result<(), DriverError>,
}

impl<'a> Upload<'a> {
    pub fn new(device: &'a Arc<Device>, memory: &'a Memory) -> Self {
        Self { device, memory, places: Places::default(), parts: Vec::new(), result: Ok(()) }
    }

    /// Page-locked pieces have to stay as they are until the last part has come.
    pub fn finish(self) -> Result<Arrivals, DriverError> {
        self.result.map(|()| Arrivals { parts: self.parts })
    }
}

impl Pieces for Upload<'_> {
    fn put(&mut self, piece: Piece<'_>) -> u64 {
        let at = self.places.add(piece.len());
        let stream = &self.device.uploads;
        if self.result.is_ok() {
            self.result = match piece {
                Piece::Large(HostBytes::Pinned(pinned)) => {
                    self.memory.write_late(at, pinned, 0..pinned.bytes().len(), stream)
                }
                Piece::Large(HostBytes::Plain(bytes)) => self.memory.write(at, bytes, stream),
                Piece::Small(bytes) => self.memory.write(at, bytes, stream),
            };
        }
        self.memory.at(at, piece.len())
    }

    fn end_part(&mut self) {
        match self.device.mark_on(&self.device.uploads) {
            Ok(event) => self.parts.push(event),
            Err(error) => self.result = self.result.and(Err(error)),
        }
    }
}
