//! `quantization_config`: how a checkpoint's matrices are packed.

use quarry_formats::awq;

use super::config::Config;
use crate::families::FamilyError;

/// What is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantization {
    /// Weights are numbers.
    None,
    /// AWQ, 4 bits, groups of 128 with zero points, version `gemm`.
    Awq,
}

impl Quantization {
    pub(super) fn of(config: &Config<'_>) -> Result<Self, FamilyError> {
        let Some(config) = config.object("quantization_config")? else { return Ok(Self::None) };
        let method = config.text("quant_method")?;
        config.refuse(
            method != Some("awq"),
            "quant_method",
            "of the hub's quantizations only awq is supported",
        )?;
        config.refuse(config.size("bits")? != 4, "bits", "only 4 bits are supported")?;
        config.refuse(
            config.size("group_size")? != awq::GROUP,
            "group_size",
            "only groups of 128 are supported",
        )?;
        config.refuse(config.flag("zero_point")? == Some(false), "zero_point", "must be true")?;
        let version = config.text("version")?.unwrap_or("gemm");
        config.refuse(!version.eq_ignore_ascii_case("gemm"), "version", "only gemm is supported")?;
        Ok(Self::Awq)
    }
}
