//! Which device computes: the CPU, or a CUDA device where the program has that back end (feature `cuda`) and the machine
//! has one.

use std::fmt;
use std::str::FromStr;

use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_model::backend::{Backend, BackendError};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device where there is one, else the CPU.
    #[default]
    Auto,
    /// A CUDA device, or an error.
    Cuda(CudaDevice),
    /// The CPU.
    Cpu,
}

/// Which CUDA device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CudaDevice {
    /// The driver's first.
    First,
    /// By the driver's count, from 0.
    Index(usize),
    /// By its UUID (`GPU-…`), or the beginning of it.
    Uuid(String),
}

/// A device in words that are none.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no device; write auto, cuda, cuda:INDEX, cuda:GPU-UUID (as nvidia-smi -L prints it) or cpu"
)]
pub struct NoDevice(String);

impl FromStr for DeviceChoice {
    type Err = NoDevice;

    fn from_str(text: &str) -> Result<Self, NoDevice> {
        let which = match text.to_lowercase().as_str() {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(CudaDevice::First)),
            other => {
                other.strip_prefix("cuda:").map(str::to_owned).ok_or_else(|| NoDevice(text.to_owned()))?
            }
        };
        if let Ok(index) = which.parse() {
            return Ok(Self::Cuda(CudaDevice::Index(index)));
        }
        let digits = which.strip_prefix("gpu-").or_else(|| which.strip_prefix("mig-")).unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(NoDevice(text.to_owned()));
        }
        Ok(Self::Cuda(CudaDevice::Uuid(format!("{}-{digits}", which[..3].to_uppercase()))))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(CudaDevice::First) => f.write_str("cuda"),
            Self::Cuda(CudaDevice::Index(index)) => write!(f, "cuda:{index}"),
            Self::Cuda(CudaDevice::Uuid(uuid)) => write!(f, "cuda:{uuid}"),
        }
    }
}

/// What computes attention of prompts on a CUDA device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefillChoice {
    /// Our own kernel: the bits of decode, whatever a batch is made of.
    #[default]
    Own,
    /// FlashAttention-2, where it is built in (feature `flash-attn`).
    FlashAttn,
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
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceOptions {
    /// Which.
    pub choice: DeviceChoice,
    /// How the CPU is used.
    pub cpu: CpuOptions,
    /// Share of a CUDA device's memory that may be taken, above 0 and at most 1.
    pub gpu_memory_utilization: f64,
    /// Attention of prompts on a CUDA device.
    pub prefill_attention: PrefillChoice,
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
    /// Attention that the program does not have.
    #[error(
        "server.prefill_attention is flash-attn, and this program was built without it (feature `flash-attn`); \
         `own` is in every program"
    )]
    NoFlashAttn,
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
    if options.prefill_attention == PrefillChoice::FlashAttn && !cfg!(feature = "flash-attn") {
        return Err(DeviceError::NoFlashAttn);
    }
    match &options.choice {
        DeviceChoice::Cpu => {}
        DeviceChoice::Cuda(which) => return cuda(which, &options).map_err(DeviceError::NoCuda),
        DeviceChoice::Auto => match cuda(&CudaDevice::First, &options) {
            Ok(backend) => return Ok(backend),
            Err(why) => tracing::info!(%why, "computing on the CPU"),
        },
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
fn cuda(which: &CudaDevice, options: &DeviceOptions) -> Result<Box<dyn Backend>, String> {
    use quarry_cuda::{CudaBackend, CudaOptions, DeviceId, Holding, KvKind};
    let device = match which {
        CudaDevice::First => DeviceId::First,
        CudaDevice::Index(index) => DeviceId::Index(*index),
        CudaDevice::Uuid(uuid) => DeviceId::Uuid(uuid.clone()),
    };
    let prefill_attention = match options.prefill_attention {
        #[cfg(feature = "flash-attn")]
        PrefillChoice::FlashAttn => Some(&quarry_flash::FlashAttention as _),
        _ => None,
    };
    let kv = match options.kv_cache_type {
        KvCacheType::Auto | KvCacheType::Bf16 => KvKind::Bf16,
        KvCacheType::Int8 => KvKind::Int8,
    };
    let options = CudaOptions {
        device,
        memory_utilization: options.gpu_memory_utilization,
        holding: Holding { kv, int8_head: options.int8_head },
        prefill_attention,
        image: None,
    };
    let backend = CudaBackend::new(options).map_err(|why| why.to_string())?;
    let (device, uuid) = (backend.device_name(), backend.device_uuid());
    tracing::info!(device, uuid, memory_bytes_max = backend.own_memory_bytes(), "computing on a CUDA device");
    Ok(Box::new(backend))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: &CudaDevice, _: &DeviceOptions) -> Result<Box<dyn Backend>, String> {
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
            prefill_attention: PrefillChoice::Own,
        }
    }

    #[test]
    fn the_processor_computes_where_it_is_asked_for() {
        assert_eq!(open(options(DeviceChoice::Cpu, 0.5)).unwrap().name(), "cpu");
    }

    #[test]
    fn devices_are_named_as_people_write_them() {
        for text in ["auto", "cpu", "cuda", "cuda:1", "cuda:GPU-66616b65-2043", "cuda:MIG-0a"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("CUDA:gpu-0A".parse::<DeviceChoice>().unwrap().to_string(), "cuda:GPU-0a");
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:GPU-", "cuda:GPU-xyz", "cuda:1,2"] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("cuda:INDEX"), "{error}");
        }
    }

    #[test]
    fn a_share_that_is_none_is_refused() {
        for share in [0.0, -1.0, 1.5, f64::NAN] {
            let error = open(options(DeviceChoice::Cpu, share)).err().map(|error| error.to_string());
            assert!(error.is_some_and(|words| words.contains("gpu_memory_utilization")));
        }
    }

    #[cfg(not(feature = "flash-attn"))]
    #[test]
    fn attention_that_was_not_built_in_cannot_be_asked_for() {
        let flash =
            DeviceOptions { prefill_attention: PrefillChoice::FlashAttn, ..options(DeviceChoice::Auto, 0.5) };
        let error = open(flash).err().map(|error| error.to_string());
        assert!(error.is_some_and(|words| words.contains("feature `flash-attn`")));
    }

    #[test]
    fn the_processor_refuses_what_it_cannot_do() {
        let plain = || options(DeviceChoice::Cpu, 0.5);
        let asked = [
            (DeviceOptions { kv_cache_type: KvCacheType::Bf16, ..plain() }, "server.kv_cache_type: bf16"),
            (DeviceOptions { kv_cache_type: KvCacheType::Int8, ..plain() }, "server.kv_cache_type: int8"),
            (DeviceOptions { int8_head: true, ..plain() }, "server.int8_head"),
        ];
        for (options, key) in asked {
            let error = open(options).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|words| words.contains(key)), "{error:?}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn what_was_not_built_in_cannot_be_asked_for() {
        let error =
            open(options(DeviceChoice::Cuda(CudaDevice::First), 0.5)).err().map(|error| error.to_string());
        assert!(error.is_some_and(|words| words.contains("feature `cuda`")));
        assert_eq!(open(options(DeviceChoice::Auto, 0.5)).unwrap().name(), "cpu");
    }
}
