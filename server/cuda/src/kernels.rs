//! The kernels that were built into the program, loaded for the device at hand, and launched with checked arguments.
//!
//! `build.rs` compiles `kernels/all.cu` for several architectures and embeds what came out. A cubin runs on its own
//! major architecture from its own minor version on; PTX is the last resort for what is newer.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUmodule};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result};

use crate::device::Argument;

/// Compiled for an architecture: `(major · 10 + minor, image)`; 0 is PTX for what is newer than every cubin.
struct Image {
    architecture: i32,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Every kernel by name.
const NAMES: [&str; 36] = [
    "embed_bf16",
    "embed_f16",
    "embed_q4",
    "embed_q8",
    "norm_q8",
    "norm_bf16",
    "norm_f16",
    "norm_f32",
    "round_q8",
    "round_bf16",
    "round_f16",
    "silu_q8",
    "silu_bf16",
    "silu_f16",
    "gemv_q4",
    "gemv_awq",
    "gemv_q8",
    "gemv_bf16",
    "gemv_f16",
    "gemm_q4",
    "gemm_awq",
    "gemm_q8",
    "gemm_bf16",
    "gemm_f16",
    "probe_s8",
    "probe_bf16",
    "rope_store",
    "rope_store_i8",
    "attend",
    "attend_i8",
    "attend_merge",
    "attend_prefill",
    "attend_prefill_i8",
    "gather_rows",
    "take_drawn",
    "sample",
];

/// Why kernels are not there.
pub enum KernelsError {
    NotBuilt,
    TooOld { name: String, capability: (i32, i32), least: String },
    Driver(DriverError),
}

impl From<DriverError> for KernelsError {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// How many blocks of how many threads, and bytes of shared memory beside what the kernel declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub grid: (u32, u32, u32),
    pub block: u32,
    pub shared_bytes: u32,
}

/// A loaded module and its functions.
pub struct Kernels {
    module: CUmodule,
    functions: HashMap<&'static str, CUfunction>,
    /// The module is the context's.
    _context: Arc<CudaContext>,
}

// SAFETY: handles that the driver takes from any thread whose context is bound.
unsafe impl Send for Kernels {}
// SAFETY: as above; nothing is changed after loading.
unsafe impl Sync for Kernels {}

impl Kernels {
    pub fn load(
        context: &Arc<CudaContext>,
        name: &str,
        image: Option<&'static [u8]>,
    ) -> Result<Self, KernelsError> {
        let (major, minor) = context.compute_capability()?;
        let bytes = image.map_or_else(|| choose(major, minor, name), Ok)?;
        context.bind_to_thread()?;
        // SAFETY: an image as the compiler made it, ended by a zero as PTX must be.
        let module = unsafe { result::module::load_data(bytes.as_ptr().cast::<c_void>()) }?;
        let mut functions = HashMap::new();
        for name in NAMES {
            let symbol = CString::new(name).unwrap_or_default();
            // SAFETY: the module was just loaded.
            functions.insert(name, unsafe { result::module::get_function(module, symbol) }?);
        }
        Ok(Self { module, functions, _context: context.clone() })
    }

    /// Queues a kernel.
    ///
    /// # Safety
    /// The arguments are the kernel's own in number, order and kind, and every address is good for what the kernel does
    /// there with this shape (`kernels/*.cu` say what that is).
    pub unsafe fn launch(
        &self,
        name: &'static str,
        shape: Shape,
        arguments: &mut [Argument],
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        let Shape { grid, block, shared_bytes } = shape;
        if grid.0 == 0 || grid.1 == 0 || grid.2 == 0 {
            return Ok(());
        }
        assert!(grid.1 <= 65_535 && grid.2 <= 65_535 && (1..=1024).contains(&block), "{name} {shape:?}");
        let function = self.functions[name];
        let mut pointers: Vec<*mut c_void> = arguments.iter_mut().map(Argument::as_pointer).collect();
        // SAFETY: the caller's promise; arguments outlive the call, in which the driver copies them.
        unsafe {
            result::launch_kernel(
                function,
                grid,
                (block, 1, 1),
                shared_bytes,
                stream.cu_stream(),
                &mut pointers,
            )
        }
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once; a broken context unloads by itself.
        let _ = unsafe { result::module::unload(self.module) };
    }
}

/// The best image for a device.
fn choose(major: i32, minor: i32, name: &str) -> Result<&'static [u8], KernelsError> {
    let capability = major * 10 + minor;
    let same_major = IMAGES.iter().filter(|i| i.architecture / 10 == major && i.architecture <= capability);
    if let Some(image) = same_major.max_by_key(|image| image.architecture) {
        return Ok(image.bytes);
    }
    let least = IMAGES.iter().map(|image| image.architecture).filter(|a| *a > 0).min();
    match (least, IMAGES.iter().find(|image| image.architecture == 0)) {
        (None, None) => Err(KernelsError::NotBuilt),
        (Some(least), _) if capability < least => Err(KernelsError::TooOld {
            name: name.to_owned(),
            capability: (major, minor),
            least: format!("{}.{}", least / 10, least % 10),
        }),
        (_, Some(ptx)) => Ok(ptx.bytes),
        (Some(_), None) => Err(KernelsError::NotBuilt),
    }
}
