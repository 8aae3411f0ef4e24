//! Which device computes: the CPU, or a CUDA device where the program has that back end (feature `cuda`) and the machine
//! has one.

use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_model::backend::{Backend, BackendError};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A CUDA device where there is one, else the CPU.
    #[default]
    Auto,
    /// A CUDA device, or an error.
    Cuda,
    /// The CPU.
    Cpu,
}

/// How the KV cache is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvCacheType {
    /// What loses least on the device.
    #[default]
    Auto,
    /// bfloat16.
    Bf16,
    /// Integers of 8 bits with a scale for each key and value of a head: about half the bytes, slightly other answers.
    Int8,
}

/// Which device, and how it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceOptions {
    /// Which.
    pub choice: DeviceChoice,
    /// How the CPU is used.
    pub cpu: CpuOptions,
    /// Share of a CUDA device's memory that may be taken, above 0 and at most 1.
    pub gpu_memory_utilization: f64,
    /// How the KV cache is held; the CPU has but one way.
    pub kv_cache_type: KvCacheType,
    /// Whether a CUDA device holds heads of 16-bit numbers in 8 bits.
    pub int8_head: bool,
}

/// The device that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Asked for by name, and not there; or the program has no such back end.
    #[error("no CUDA device can be used: {0}; `server.device: cpu` computes on the CPU")]
    NoCuda(String),
    /// A share that is none.
    #[error("server.gpu_memory_utilization is {0}; it must be above 0 and at most 1")]
    Utilization(f64),
    /// What only a CUDA device can do.
    #[error("{0} needs a CUDA device, and the CPU computes; leave it out, or see `server.device`")]
    NeedsCuda(&'static str),
    /// The CPU back end.
    #[error(transparent)]
    Cpu(#[from] BackendError),
}

/// Opens the device and says in the log which it is, and why not another.
///
/// # Errors
/// [`DeviceError`]; never for want of a CUDA device where the choice is [`DeviceChoice::Auto`].
pub fn open(options: DeviceOptions) -> Result<Box<dyn Backend>, DeviceError> {
    let share = options.gpu_memory_utilization;
    if !(share > 0.0 && share <= 1.0) {
        return Err(DeviceError::Utilization(share));
    }
    if options.choice != DeviceChoice::Cpu {
        match cuda(&options) {
            Ok(backend) => return Ok(backend),
            Err(why) if options.choice == DeviceChoice::Cuda => return Err(DeviceError::NoCuda(why)),
            Err(why) => tracing::info!(%why, "computing on the CPU"),
        }
    }
    // Its cache is 16-bit integers, which make attention exact whatever the batch.
    match options.kv_cache_type {
        KvCacheType::Auto => {}
        KvCacheType::Bf16 => return Err(DeviceError::NeedsCuda("server.kv_cache_type: bf16")),
        KvCacheType::Int8 => return Err(DeviceError::NeedsCuda("server.kv_cache_type: int8")),
    }
    if options.int8_head {
        return Err(DeviceError::NeedsCuda("server.int8_head"));
    }
    Ok(Box::new(CpuBackend::new(options.cpu)?))
}

#[cfg(feature = "cuda")]
fn cuda(options: &DeviceOptions) -> Result<Box<dyn Backend>, String> {
    use quarry_cuda::{CudaBackend, CudaOptions, Holding, KvKind};
    let kv = match options.kv_cache_type {
        KvCacheType::Auto | KvCacheType::Bf16 => KvKind::Bf16,
        KvCacheType::Int8 => KvKind::Int8,
    };
    let options = CudaOptions {
        memory_utilization: options.gpu_memory_utilization,
        holding: Holding { kv, int8_head: options.int8_head },
        ..CudaOptions::default()
    };
    let backend = CudaBackend::new(options).map_err(|why| why.to_string())?;
    tracing::info!(device = backend.device_name(), "computing on a CUDA device");
    Ok(Box::new(backend))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: &DeviceOptions) -> Result<Box<dyn Backend>, String> {
    Err("this program was built without it (feature `cuda`)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(choice: DeviceChoice, gpu_memory_utilization: f64) -> DeviceOptions {
        DeviceOptions {
            choice,
            cpu: CpuOptions { threads: 1, isa: None },
            gpu_memory_utilization,
            kv_cache_type: KvCacheType::Auto,
            int8_head: false,
        }
    }

    #[test]
    fn the_processor_computes_where_it_is_asked_for() {
        assert_eq!(open(options(DeviceChoice::Cpu, 0.5)).unwrap().name(), "cpu");
    }

    #[test]
    fn a_share_that_is_none_is_refused() {
        for share in [0.0, -1.0, 1.5, f64::NAN] {
            let error = open(options(DeviceChoice::Cpu, share)).err().map(|error| error.to_string());
            assert!(error.is_some_and(|words| words.contains("gpu_memory_utilization")));
        }
    }

    #[test]
    fn the_processor_refuses_what_it_cannot_do() {
        let plain = options(DeviceChoice::Cpu, 0.5);
        let asked = [
            (DeviceOptions { kv_cache_type: KvCacheType::Bf16, ..plain }, "server.kv_cache_type: bf16"),
            (DeviceOptions { kv_cache_type: KvCacheType::Int8, ..plain }, "server.kv_cache_type: int8"),
            (DeviceOptions { int8_head: true, ..plain }, "server.int8_head"),
        ];
        for (options, key) in asked {
            let error = open(options).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|words| words.contains(key)), "{error:?}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn what_was_not_built_in_cannot_be_asked_for() {
        let error = open(options(DeviceChoice::Cuda, 0.5)).err().map(|error| error.to_string());
        assert!(error.is_some_and(|words| words.contains("feature `cuda`")));
        assert_eq!(open(options(DeviceChoice::Auto, 0.5)).unwrap().name(), "cpu");
    }
}
