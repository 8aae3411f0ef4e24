//! Which instructions this machine has, and the kernels made of them: chosen once, then called through a table.

use crate::kernels::{attention, gemm};
use crate::quantize;

/// An instruction set with its own kernels, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F/BW/VL/DQ with VNNI.
    Avx512Vnni,
    /// AVX2 with FMA: the portable kernels, compiled for it.
    Avx2,
    /// Whatever the target guarantees.
    Portable,
}

impl Isa {
    /// Best first.
    pub const ALL: [Self; 3] = [Self::Avx512Vnni, Self::Avx2, Self::Portable];

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512Vnni | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// The best this machine has.
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Self::Portable)
    }

    /// As in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

/// One instruction set's kernels. Owning a table proves that its instructions exist here: [`Kernels::new`] is the
/// only way to one.
#[derive(Clone, Copy)]
pub struct Kernels {
    isa: Isa,
    pub(crate) gemm: gemm::GemmFn,
    pub(crate) attention: attention::AttentionFn,
    pub(crate) quantize: quantize::QuantizeFn,
}

impl Kernels {
    /// The kernels of an instruction set, if this machine has it.
    pub fn new(isa: Isa) -> Option<Self> {
        if !isa.is_available() {
            return None;
        }
        Some(match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => {
                Self { isa, gemm: gemm::avx512, attention: attention::avx512, quantize: quantize::avx512 }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self { isa, gemm: gemm::avx2, attention: attention::avx2, quantize: quantize::avx2 },
            _ => Self {
                isa,
                gemm: gemm::portable,
                attention: attention::portable,
                quantize: quantize::portable,
            },
        })
    }

    /// Which set.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}
