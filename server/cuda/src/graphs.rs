//! Passes that were recorded once and are launched whole (CUDA graphs): one call of the driver for some hundred launches,
//! which take longer to give than a fast device needs for the work of a few tokens.
//!
//! A [`Bucket`]'s pass runs by itself the first time, when the driver may still have kernels to load, is recorded the second
//! time, and launched from then on. A driver that will not record is left alone from then on.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream, DriverError};

use crate::orders::Bucket;

/// Graphs that are kept, those last used.
const GRAPHS_MAX: usize = 32;
/// Buckets that are remembered for having been seen once.
const SEEN_MAX: usize = 256;

#[derive(Default)]
pub struct Graphs {
    graphs: HashMap<Bucket, Recorded>,
    seen: Vec<Bucket>,
    clock: u64,
    is_refused: bool,
}

struct Recorded {
    graph: CudaGraph,
    used: u64,
}

// SAFETY: a graph may be used by one thread at a time; whoever has this mutably is the only one.
unsafe impl Send for Graphs {}

impl Graphs {
    /// Queues the bucket's pass on the stream: by its graph, or by `pass`, which gives the same launches for every batch of
    /// the bucket.
    ///
    /// # Errors
    /// Those of `pass` or of the graph's launch.
    pub fn run(
        &mut self,
        bucket: Bucket,
        stream: &Arc<CudaStream>,
        pass: &dyn Fn() -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        self.clock += 1;
        if let Some(recorded) = self.graphs.get_mut(&bucket) {
            recorded.used = self.clock;
            return recorded.graph.launch();
        }
        if self.is_refused || self.is_new(bucket) {
            return pass();
        }
        match record(stream, pass) {
            Ok(graph) => {
                graph.launch()?;
                self.make_room();
                self.graphs.insert(bucket, Recorded { graph, used: self.clock });
                Ok(())
            }
            Err(error) => {
                self.is_refused = true;
                tracing::warn!(%error, "the driver records no graphs; steps are launched kernel by kernel");
                pass()
            }
        }
    }

    /// Whether it comes for the first time.
    fn is_new(&mut self, bucket: Bucket) -> bool {
        let is_new = !self.seen.contains(&bucket);
        if is_new {
            if self.seen.len() == SEEN_MAX {
                self.seen.remove(0);
            }
            self.seen.push(bucket);
        }
        is_new
    }

    fn make_room(&mut self) {
        while self.graphs.len() >= GRAPHS_MAX {
            let oldest =
                self.graphs.iter().min_by_key(|(_, recorded)| recorded.used).map(|(bucket, _)| *bucket);
            let Some(oldest) = oldest else { return };
            self.graphs.remove(&oldest);
        }
    }
}

/// Launches nothing: what `pass` queues is written down.
fn record(
    stream: &Arc<CudaStream>,
    pass: &dyn Fn() -> Result<(), DriverError>,
) -> Result<CudaGraph, DriverError> {
    // Only this thread's calls are part of it: swaps go on beside it.
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    let passed = pass();
    // Recording ends whatever the pass says, or the stream could not be used any more.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    passed?;
    let nothing = DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    graph?.ok_or(nothing)
}
