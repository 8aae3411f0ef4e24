//! One device: its context, two streams, memory, and errors in words.
//!
//! Steps run on the compute stream, swaps on the copy stream, weights come on the upload stream; what must wait for what is
//! said by events. All memory is
//! taken in a few large pieces when an executor or an arena is made, and addressed by bytes.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::sys::{CUdevice_attribute, CUdeviceptr, CUevent_flags, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result};
use quarry_model::backend::BackendError;
use quarry_model::executor::ExecError;

use crate::kernels::{Kernels, KernelsError};
use crate::pinned::Pinned;

/// Why there is no device to compute on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The driver's library is not on this machine.
    #[error("no CUDA driver is installed (libcuda was not found)")]
    NoDriver,
    /// There is a driver, and nothing to drive.
    #[error("the CUDA driver finds no device")]
    NoDevice,
    /// There are devices, and the one that was asked for is none of them.
    #[error("there is no CUDA device {wanted}; there are: {}", .present.join(", "))]
    NoSuchDevice {
        /// Its index, or the beginning of its UUID.
        wanted: String,
        /// Index and UUID of each that is there.
        present: Vec<String>,
    },
    /// The device is older than every kernel that was built.
    #[error("{name} has compute capability {}.{}; {least} or later is needed", .capability.0, .capability.1)]
    TooOld {
        /// The device.
        name: String,
        /// Major and minor.
        capability: (i32, i32),
        /// The oldest that kernels were built for.
        least: String,
    },
    /// The program was built without a CUDA compiler.
    #[error("this program was built without kernels: the CUDA compiler was not there")]
    NoKernels,
    /// The driver failed.
    #[error("the CUDA driver failed: {0}")]
    Driver(String),
}

impl From<KernelsError> for Unavailable {
    fn from(error: KernelsError) -> Self {
        match error {
            KernelsError::NotBuilt => Self::NoKernels,
            KernelsError::Driver(error) => Self::Driver(text(error)),
            KernelsError::TooOld { name, capability, least } => Self::TooOld { name, capability, least },
        }
    }
}

/// Errors after which, as the driver's manual says of each, a process gets the same error for whatever it asks.
const LOST: [CUresult; 10] = [
    CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    CUresult::CUDA_ERROR_ASSERT,
    CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    CUresult::CUDA_ERROR_INVALID_PC,
    CUresult::CUDA_ERROR_LAUNCH_FAILED,
];

/// The driver's name of an error, what it says, and whether anything can be done after it.
pub fn text(error: DriverError) -> String {
    let number = || format!("error {}", error.0 as u32);
    let name = error.error_name().map_or_else(|_| number(), |name| name.to_string_lossy().into());
    let mut text = match error.error_string() {
        Ok(words) if words.to_string_lossy() != name => format!("{name}: {}", words.to_string_lossy()),
        _ => name,
    };
    if LOST.contains(&error.0) {
        text.push_str("; the driver serves this process no more, it has to be started anew");
    }
    text
}

pub fn exec(error: DriverError) -> ExecError {
    ExecError::Device(text(error))
}

pub fn backend(error: DriverError) -> BackendError {
    BackendError::Device(text(error))
}

/// Which device, among those that `CUDA_VISIBLE_DEVICES` leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceId {
    /// The driver's first.
    #[default]
    First,
    /// By the driver's count, from 0.
    Index(usize),
    /// By its UUID as `nvidia-smi -L` prints it (`GPU-…`, `MIG-…`), or as much of its beginning as is no other's.
    Uuid(String),
}

impl DeviceId {
    /// The driver's number of the device.
    fn ordinal(&self) -> Result<usize, Unavailable> {
        let driver = |error: DriverError| match error.0 {
            CUresult::CUDA_ERROR_NO_DEVICE => Unavailable::NoDevice,
            _ => Unavailable::Driver(text(error)),
        };
        let count = usize::try_from(CudaContext::device_count().map_err(driver)?).unwrap_or(0);
        let uuids = || -> Result<Vec<String>, DriverError> {
            let uuid =
                |ordinal| Ok(hexadecimal(&result::device::get_uuid(result::device::get(ordinal)?)?.bytes));
            (0..count as i32).map(uuid).collect()
        };
        let nobody = |wanted: String| {
            let uuids = uuids().unwrap_or_default();
            let present =
                uuids.iter().enumerate().map(|(index, uuid)| format!("{index} (GPU-{uuid})")).collect();
            Unavailable::NoSuchDevice { wanted, present }
        };
        match self {
            _ if count == 0 => Err(Unavailable::NoDevice),
            Self::First => Ok(0),
            Self::Index(index) if *index < count => Ok(*index),
            Self::Index(index) => Err(nobody(index.to_string())),
            Self::Uuid(wanted) => {
                let begin = wanted.to_lowercase();
                let begin = begin.trim_start_matches("gpu-").trim_start_matches("mig-");
                let uuids = uuids().map_err(driver)?;
                let mut found = uuids.iter().enumerate().filter(|(_, uuid)| uuid.starts_with(begin));
                match (found.next(), found.next()) {
                    (Some((index, _)), None) => Ok(index),
                    _ => Err(nobody(wanted.clone())),
                }
            }
        }
    }
}

/// As UUIDs are written: 8, 4, 4, 4 and 12 digits.
fn hexadecimal(bytes: &[std::ffi::c_char; 16]) -> String {
    let mut out = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{:02x}", *byte as u8));
    }
    out
}

/// Whether the driver's library can be loaded. cudarc has such a question too, but not where another crate, as candle does
/// for flash-attn, has it link the driver.
fn is_driver_present() -> bool {
    // SAFETY: loads the library, whose constructors are the driver's own, and lets it go.
    ["libcuda.so.1", "libcuda.so"].into_iter().any(|name| unsafe { libloading::Library::new(name) }.is_ok())
}

/// A device that is there, with its kernels.
pub struct Device {
    context: Arc<CudaContext>,
    pub compute: Arc<CudaStream>,
    pub copies: Arc<CudaStream>,
    pub uploads: Arc<CudaStream>,
    pub kernels: Kernels,
    pub name: String,
    /// As NVML knows it: `GPU-…`.
    pub uuid: String,
}

impl Device {
    /// A device; `image` in place of the kernels that were built in.
    ///
    /// # Errors
    /// [`Unavailable`] says why there is none; nothing here panics where libcuda is missing.
    pub fn open(which: &DeviceId, image: Option<&'static [u8]>) -> Result<Self, Unavailable> {
        if !is_driver_present() {
            return Err(Unavailable::NoDriver);
        }
        let context = CudaContext::new(which.ordinal()?).map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_NO_DEVICE | CUresult::CUDA_ERROR_INVALID_DEVICE => Unavailable::NoDevice,
            _ => Unavailable::Driver(text(error)),
        })?;
        let driver = |error| Unavailable::Driver(text(error));
        // SAFETY: no memory here is cudarc's, so its own events between streams guard nothing; ours do.
        unsafe { context.disable_event_tracking() };
        let name = context.name().map_err(driver)?;
        let uuid = format!("GPU-{}", hexadecimal(&context.uuid().map_err(driver)?.bytes));
        let kernels = Kernels::load(&context, &name, image)?;
        let compute = context.new_stream().map_err(driver)?;
        let copies = context.new_stream().map_err(driver)?;
        let uploads = context.new_stream().map_err(driver)?;
        Ok(Self { context, compute, copies, uploads, kernels, name, uuid })
    }

    /// Bytes of its memory, and of these the free ones.
    pub fn memory(&self) -> Result<(u64, u64), DriverError> {
        let (free, total) = self.context.mem_get_info()?;
        Ok((total as u64, free as u64))
    }

    /// Its multiprocessors.
    pub fn multiprocessors(&self) -> Result<usize, DriverError> {
        let count = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        self.context.attribute(count).map(|count| count.max(1) as usize)
    }

    /// The device becomes the calling thread's.
    pub fn bind(&self) -> Result<(), DriverError> {
        self.context.bind_to_thread()
    }

    /// So many bytes, whose content is anything.
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Memory, DriverError> {
        self.bind()?;
        // SAFETY: at least one byte; freed once, when the memory is dropped.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }?;
        Ok(Memory { device: self.clone(), address, bytes })
    }

    /// What the compute stream has been given so far.
    pub fn mark(&self) -> Result<CudaEvent, DriverError> {
        self.mark_on(&self.compute)
    }

    /// What one of its streams has been given so far.
    pub fn mark_on(&self, stream: &CudaStream) -> Result<CudaEvent, DriverError> {
        stream.record_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING))
    }

    /// Waits for everything on the compute stream.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.compute.synchronize()
    }
}

/// A piece of device memory, freed when it is dropped: whoever drops it has seen to it that no stream uses it any more.
pub struct Memory {
    device: Arc<Device>,
    address: CUdeviceptr,
    bytes: usize,
}

impl Memory {
    pub fn address(&self) -> CUdeviceptr {
        self.address
    }

    /// Address of the byte at `offset`, from which at least `bytes` belong to this memory.
    pub fn at(&self, offset: usize, bytes: usize) -> CUdeviceptr {
        let end = offset.checked_add(bytes);
        assert!(end.is_some_and(|end| end <= self.bytes), "{bytes} bytes at {offset} of {}", self.bytes);
        self.address + offset as u64
    }

    /// Copies to the device on a stream. From pageable memory the source is read before this returns.
    pub fn write(&self, offset: usize, from: &[u8], stream: &CudaStream) -> Result<(), DriverError> {
        if from.is_empty() {
            return Ok(());
        }
        let to = self.at(offset, from.len());
        // SAFETY: the range is this memory's; the source is pageable, so that the driver has read it on return.
        unsafe { result::memcpy_htod_async(to, from, stream.cu_stream()) }
    }

    /// Copies from the device and waits for it.
    pub fn read(&self, offset: usize, to: &mut [u8], stream: &CudaStream) -> Result<(), DriverError> {
        if to.is_empty() {
            return Ok(());
        }
        let from = self.at(offset, to.len());
        // SAFETY: the range is this memory's, and the stream is waited for before the borrow of `to` ends.
        unsafe { result::memcpy_dtoh_async(to, from, stream.cu_stream()) }?;
        stream.synchronize()
    }

    /// Queues a copy to the device, which reads the source when it comes to it.
    pub fn write_late(
        &self,
        offset: usize,
        from: &Pinned,
        range: Range<usize>,
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        // SAFETY: `Pinned` says who waits before the source is changed or freed.
        unsafe { self.write_queued(offset, &from.bytes()[range], stream) }
    }

    /// Queues a copy to the start of `to`, whose bytes are there once the stream has come so far.
    pub fn read_late(
        &self,
        range: Range<usize>,
        to: &mut Pinned,
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        // SAFETY: `Pinned` says who waits before the target is read or freed.
        unsafe { self.read_queued(range.start, &mut to.bytes_mut()[..range.len()], stream) }
    }

    /// Queues a copy from page-locked memory.
    ///
    /// # Safety
    /// The source stays as it is until the stream has been waited for.
    pub unsafe fn write_queued(
        &self,
        offset: usize,
        from: &[u8],
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        if from.is_empty() {
            return Ok(());
        }
        // SAFETY: the range is this memory's, and the caller's promise.
        unsafe { result::memcpy_htod_async(self.at(offset, from.len()), from, stream.cu_stream()) }
    }

    /// Queues a copy to page-locked memory.
    ///
    /// # Safety
    /// The target stays where it is and is not looked at until the stream has been waited for.
    pub unsafe fn read_queued(
        &self,
        offset: usize,
        to: &mut [u8],
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: the range is this memory's, and the caller's promise.
        unsafe { result::memcpy_dtoh_async(to, self.at(offset, to.len()), stream.cu_stream()) }
    }

    /// Copies within this memory; the ranges do not overlap.
    pub fn copy_within(
        &self,
        from: usize,
        to: usize,
        bytes: usize,
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        let (from, to) = (self.at(from, bytes), self.at(to, bytes));
        // SAFETY: both ranges are this memory's.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A context in which nothing works any more frees its memory by itself.
        let _ = self.device.bind();
        // SAFETY: from `malloc_sync`, and freed here alone.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

// SAFETY: an address, and a context that any thread may bind.
unsafe impl Send for Memory {}
// SAFETY: its methods only hand orders to streams, which the driver takes from any thread.
unsafe impl Sync for Memory {}

/// An argument of a launch: kept where the driver reads it.
#[derive(Clone, Copy)]
pub enum Argument {
    Address(CUdeviceptr),
    Int(i32),
    Float(f32),
}

impl Argument {
    pub fn as_pointer(&mut self) -> *mut c_void {
        match self {
            Self::Address(value) => (value as *mut CUdeviceptr).cast(),
            Self::Int(value) => (value as *mut i32).cast(),
            Self::Float(value) => (value as *mut f32).cast(),
        }
    }
}
