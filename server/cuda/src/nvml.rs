//! Temperature, power, clocks and use of the device, from NVIDIA's management library (`libnvidia-ml.so.1`).
//!
//! It comes with the driver, but not into every container: it is looked for at run time, and where it is not there is
//! nothing to tell. Names and types are those of NVIDIA's `nvml.h`. Throughput of PCIe is left out: the library measures
//! it for 20 ms each time it is asked.

use std::ffi::{CString, c_char, c_int, c_uint, c_ulonglong, c_void};

use libloading::Library;
use quarry_model::backend::{DeviceFigures, Monitor};

/// As it is installed.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

type Handle = *mut c_void;
type Number = unsafe extern "C" fn(Handle, *mut c_uint) -> c_int;
type Chosen = unsafe extern "C" fn(Handle, c_uint, *mut c_uint) -> c_int;

const SUCCESS: c_int = 0;
/// `NVML_TEMPERATURE_GPU`, `NVML_CLOCK_SM`, `NVML_CLOCK_MEM`.
const CHIP: c_uint = 0;
const CLOCK_SM: c_uint = 1;
const CLOCK_MEMORY: c_uint = 2;

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
struct MemoryInfo {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlUtilization_t`, per cent.
#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum NoFigures {
    /// Not installed, or not in this container.
    #[error("{LIBRARY} was not found: {0}")]
    NoLibrary(libloading::Error),
    /// It is there and does not work.
    #[error("{function} of {LIBRARY} answers {code}")]
    Refused {
        /// As the library names it.
        function: &'static str,
        /// An `nvmlReturn_t`.
        code: c_int,
    },
}

/// The functions that the library has; an old one may lack some.
struct Functions {
    temperature: Option<Chosen>,
    power: Option<Number>,
    power_limit: Option<Number>,
    memory: Option<unsafe extern "C" fn(Handle, *mut MemoryInfo) -> c_int>,
    utilization: Option<unsafe extern "C" fn(Handle, *mut Utilization) -> c_int>,
    clock: Option<Chosen>,
    shutdown: Option<unsafe extern "C" fn() -> c_int>,
}

/// One device, as the library knows it.
pub struct Nvml {
    name: String,
    uuid: String,
    device: Handle,
    functions: Functions,
    /// Last, for the functions are its own.
    _library: Library,
}

// SAFETY: NVIDIA's manual: the library may be called from several threads at once; the handle is one of its own.
unsafe impl Send for Nvml {}
// SAFETY: as above.
unsafe impl Sync for Nvml {}

impl Nvml {
    /// The device with a UUID (`GPU-…`), by the library of a name.
    ///
    /// # Errors
    /// [`NoFigures`]; never a reason not to compute.
    pub fn open(library: &str, name: &str, uuid: &str) -> Result<Self, NoFigures> {
        // SAFETY: the driver's own library, whose constructors ask nothing of us.
        let library = unsafe { Library::new(library) }.map_err(NoFigures::NoLibrary)?;
        // SAFETY: `nvmlReturn_t nvmlInit_v2(void)`.
        let init = unsafe { library.get::<unsafe extern "C" fn() -> c_int>(b"nvmlInit_v2\0") };
        let init = init.map_err(NoFigures::NoLibrary)?;
        // SAFETY: as declared.
        refuse("nvmlInit_v2", unsafe { init() })?;
        let functions = Functions {
            temperature: find(&library, b"nvmlDeviceGetTemperature\0"),
            power: find(&library, b"nvmlDeviceGetPowerUsage\0"),
            power_limit: find(&library, b"nvmlDeviceGetEnforcedPowerLimit\0"),
            memory: find(&library, b"nvmlDeviceGetMemoryInfo\0"),
            utilization: find(&library, b"nvmlDeviceGetUtilizationRates\0"),
            clock: find(&library, b"nvmlDeviceGetClockInfo\0"),
            shutdown: find(&library, b"nvmlShutdown\0"),
        };
        let mut found = Self {
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            device: std::ptr::null_mut(),
            functions,
            _library: library,
        };
        type ByUuid = unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int;
        let function = "nvmlDeviceGetHandleByUUID";
        let by_uuid: Option<ByUuid> = find(&found._library, b"nvmlDeviceGetHandleByUUID\0");
        let uuid = CString::new(uuid).unwrap_or_default();
        // SAFETY: a text that ends with 0, and room for a handle.
        let code = by_uuid.map_or(-1, |by_uuid| unsafe { by_uuid(uuid.as_ptr(), &mut found.device) });
        refuse(function, code)?;
        Ok(found)
    }

    fn number(&self, function: Option<Number>) -> Option<f64> {
        let mut out = 0;
        // SAFETY: this library's handle, and room for a number.
        let code = unsafe { function?(self.device, &mut out) };
        (code == SUCCESS).then_some(f64::from(out))
    }

    fn chosen(&self, function: Option<Chosen>, which: c_uint) -> Option<f64> {
        let mut out = 0;
        // SAFETY: this library's handle, one of its own choices, and room for a number.
        let code = unsafe { function?(self.device, which, &mut out) };
        (code == SUCCESS).then_some(f64::from(out))
    }
}

impl Monitor for Nvml {
    fn read(&self) -> Vec<DeviceFigures> {
        let Functions { temperature, power, power_limit, memory, utilization, clock, .. } = self.functions;
        let memory = memory.and_then(|memory| {
            let mut out = MemoryInfo::default();
            // SAFETY: this library's handle, and room for what it writes.
            let code = unsafe { memory(self.device, &mut out) };
            (code == SUCCESS).then_some(out)
        });
        let use_now = utilization.and_then(|utilization| {
            let mut out = Utilization::default();
            // SAFETY: as above.
            let code = unsafe { utilization(self.device, &mut out) };
            (code == SUCCESS).then_some(out)
        });
        vec![DeviceFigures {
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            temperature_celsius: self.chosen(temperature, CHIP),
            power_watts: self.number(power).map(|milliwatts| milliwatts / 1e3),
            power_limit_watts: self.number(power_limit).map(|milliwatts| milliwatts / 1e3),
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_total_bytes: memory.as_ref().map(|memory| memory.total),
            utilization: use_now.as_ref().map(|now| f64::from(now.gpu) / 100.0),
            memory_utilization: use_now.as_ref().map(|now| f64::from(now.memory) / 100.0),
            clock_hertz: self.chosen(clock, CLOCK_SM).map(|megahertz| megahertz * 1e6),
            memory_clock_hertz: self.chosen(clock, CLOCK_MEMORY).map(|megahertz| megahertz * 1e6),
        }]
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        if let Some(shutdown) = self.functions.shutdown {
            // SAFETY: `nvmlInit_v2` was called once for this; the library counts.
            let _ = unsafe { shutdown() };
        }
    }
}

fn refuse(function: &'static str, code: c_int) -> Result<(), NoFigures> {
    if code == SUCCESS { Ok(()) } else { Err(NoFigures::Refused { function, code }) }
}

/// A function of the library, of the type that `nvml.h` gives it.
fn find<F: Copy>(library: &Library, name: &[u8]) -> Option<F> {
    // SAFETY: every caller names a function of `nvml.h` and its type there.
    unsafe { library.get::<F>(name) }.ok().map(|function| *function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_there_is_nothing_to_tell() {
        let error = Nvml::open("libnvidia-ml-that-is-not-there.so.1", "card", "GPU-0").err();
        assert!(error.is_some_and(|error| error.to_string().contains("was not found")));
    }
}
