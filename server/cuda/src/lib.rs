//! CUDA executor: our own kernels over the driver API, found at run time.
//!
//! One binary contains kernels for several architectures and starts on any machine: [`CudaBackend::new`] says in one line
//! why there is no device. Weights are packed on the host ([`packing`]) and stay there, warm; activating uploads them.
//! A step is a sequence of launches on one stream ([`forward`]), swaps are copies on another ([`kv`]). What kernels do
//! stands in `kernels/*.cu`; the same sources run on the CPU for tests (`shim/`), under a driver that is none
//! (`fake-driver/`).

mod backend;
mod device;
mod draws;
mod executor;
mod forward;
mod graphs;
mod host_bytes;
mod kernels;
mod kv;
mod locked_pool;
mod nvml;
mod orders;
mod packing;
mod pinned;
mod prefill;
mod probe;
mod upload;
mod weights;

pub use backend::{CudaBackend, CudaOptions};
pub use device::{DeviceId, Unavailable};
pub use prefill::{AttentionShape, PrefillAttention, PrefillCall};
pub use probe::{Probe, ProbePlan};
pub use quarry_cuda_layout::{Holding, KvKind};
