//! Budgets of bytes: what the server takes at most, and what of it is spoken for.
//!
//! ```text
//! a device that computes from host memory:
//!     weights in use  +  KV arena  +  host pool  +  scratch of a step  ≤  bytes_max
//! a device with memory of its own:
//!     weights in use  +  KV arena  +  scratch of a step                ≤  device_bytes_max
//!     weights in use and warm  +  host pool                            ≤  bytes_max
//! ```
//! KV arena and host pool are taken as they are used, but counted whole: what was promised once is never missing later.

use quarry_core::limits::{KV_SLABS_DEFAULT, SLAB_BYTES};
use quarry_model::backend::ModelCost;

/// The bounds and their fixed parts, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Host memory; `None` where nobody set a bound.
    pub bytes_max: Option<u64>,
    /// The device's own memory; `None` where it computes from host memory.
    pub device_bytes_max: Option<u64>,
    /// The device's KV memory.
    pub kv_bytes: u64,
    /// The bound of the host pool.
    pub host_pool_bytes: u64,
    /// Activations and scratch of the largest step of any model; steps run one after another.
    pub scratch_bytes: u64,
}

/// Bytes of weights that take memory, or are about to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// Those that the device computes from.
    pub device: u64,
    /// Those in host memory, beside the device's own; 0 where there is one memory for both.
    pub host: u64,
}

impl Budget {
    /// Whether weights that leave the device stay in host memory.
    pub fn keeps_warm(&self) -> bool {
        self.device_bytes_max.is_some()
    }

    /// Whether a model of `needed` bytes can run beside the weights `held`; `is_warm` where it is in host memory already.
    ///
    /// # Errors
    /// What does not fit, in words for the person who set the budget.
    pub fn fits(&self, held: WeightBytes, needed: u64, is_warm: bool) -> Result<(), String> {
        self.fits_device(held.device, needed)?;
        self.fits_host(held.host, if is_warm { 0 } else { needed })
    }

    /// What the device has in all, and what of it is spoken for beside weights; `None` where there is no bound.
    fn device(&self) -> Option<(u64, u64)> {
        let fixed = self.kv_bytes + self.scratch_bytes;
        match self.device_bytes_max {
            Some(bytes_max) => Some((bytes_max, fixed)),
            None => Some((self.bytes_max?, fixed + self.host_pool_bytes)),
        }
    }

    /// Whether the device holds these bytes of weights beside all else.
    pub fn holds(&self, weights: u64) -> bool {
        self.device().is_none_or(|(bytes_max, fixed)| fixed + weights <= bytes_max)
    }

    /// Whether `needed` bytes of weights fit on the device beside `held` ones.
    ///
    /// # Errors
    /// As [`Budget::fits`].
    pub fn fits_device(&self, held: u64, needed: u64) -> Result<(), String> {
        let Some((bytes_max, fixed)) = self.device() else { return Ok(()) };
        room(bytes_max, fixed + held, needed).map_err(|room| {
            let Self { kv_bytes: kv, host_pool_bytes: pool, scratch_bytes: scratch, .. } = self;
            let (memory, pool) = match self.keeps_warm() {
                true => ("device's memory", String::new()),
                false => ("memory", format!("swap_space {pool}, ")),
            };
            format!(
                "its weights need {needed} bytes, {room} are left of the {memory} of {bytes_max}: kv_cache {kv}, \
                 {pool}scratch {scratch}, other weights {held}"
            )
        })
    }

    /// Whether `needed` bytes of weights fit into host memory beside `held` ones, where the device has its own.
    ///
    /// # Errors
    /// As [`Budget::fits`].
    pub fn fits_host(&self, held: u64, needed: u64) -> Result<(), String> {
        let pool = self.host_pool_bytes;
        let Some(bytes_max) = self.bytes_max.filter(|_| self.keeps_warm()) else { return Ok(()) };
        room(bytes_max, pool + held, needed).map_err(|room| {
            format!(
                "its weights need {needed} bytes, {room} are left of the host memory of {bytes_max}: swap_space {pool}, \
                 other weights {held}"
            )
        })
    }

    /// Says what is planned.
    pub fn log(&self, weights: WeightBytes) {
        tracing::info!(
            memory_bytes_max = self.bytes_max,
            device_memory_bytes_max = self.device_bytes_max,
            weight_bytes = weights.device,
            host_weight_bytes = weights.host,
            kv_bytes_max = self.kv_bytes,
            swap_space_bytes_max = self.host_pool_bytes,
            scratch_bytes_max = self.scratch_bytes,
            "memory budget"
        );
    }
}

/// Slabs of KV memory that a device with `device_bytes_max` bytes of its own has room for: all that weights and the scratch
/// of the largest step leave. Every model's weights keep their place where [`KV_SLABS_DEFAULT`] slabs are left beside
/// them, so that none has to leave for another; else the largest model's do, and the models take turns.
pub fn kv_slabs(device_bytes_max: u64, models: &[ModelCost]) -> u32 {
    let scratch = models.iter().map(|cost| cost.scratch_bytes as u64).max().unwrap_or(0);
    let weights = models.iter().map(|cost| cost.weight_bytes as u64);
    let beside = |weights: u64| {
        let left = device_bytes_max.saturating_sub(scratch).saturating_sub(weights);
        u32::try_from(left / SLAB_BYTES as u64).unwrap_or(u32::MAX)
    };
    match beside(weights.clone().sum()) {
        enough @ KV_SLABS_DEFAULT.. => enough,
        _ => beside(weights.max().unwrap_or(0)),
    }
}

/// `Err` with what is left where `needed` bytes are more than that. Nothing always fits.
fn room(bytes_max: u64, taken: u64, needed: u64) -> Result<(), u64> {
    let room = bytes_max.saturating_sub(taken);
    if needed <= room { Ok(()) } else { Err(room) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: WeightBytes = WeightBytes { device: 10, host: 0 };

    #[test]
    fn what_is_promised_counts_before_it_is_used() {
        let budget = Budget {
            bytes_max: Some(100),
            device_bytes_max: None,
            kv_bytes: 20,
            host_pool_bytes: 30,
            scratch_bytes: 5,
        };
        assert!(budget.fits(WeightBytes::default(), 45, false).is_ok() && !budget.keeps_warm());
        let error = budget.fits(HELD, 36, false).unwrap_err();
        assert!(error.contains("need 36 bytes, 35 are left") && error.contains("swap_space 30"), "{error}");
        assert!(Budget { bytes_max: None, ..budget }.fits(HELD, 1 << 40, false).is_ok());
        assert!(Budget { bytes_max: Some(1), ..budget }.fits(HELD, 0, false).is_ok(), "nothing always fits");
    }

    #[test]
    fn kv_memory_is_what_weights_and_scratch_leave() {
        let gib = |n: usize| n << 30;
        let of = |weight_bytes| ModelCost { weight_bytes, block_bytes: 1 << 20, scratch_bytes: gib(1) };
        let slabs = |bytes: usize| (bytes / SLAB_BYTES) as u32;
        let bytes_max = gib(16) as u64;
        assert_eq!(kv_slabs(bytes_max, &[of(gib(5))]), slabs(gib(10)));
        assert_eq!(
            kv_slabs(bytes_max, &[of(gib(5)), of(gib(8))]),
            slabs(gib(2)),
            "both fit, and 2 GiB are left"
        );
        assert_eq!(kv_slabs(bytes_max, &[of(gib(5)), of(gib(8) + 1)]), slabs(gib(7)) - 1, "they take turns");
        assert_eq!(kv_slabs(bytes_max, &[of(gib(16))]), 0);
        let budget = Budget {
            device_bytes_max: Some(bytes_max),
            kv_bytes: gib(10) as u64,
            scratch_bytes: gib(1) as u64,
            ..Budget::default()
        };
        assert!(budget.fits_device(0, gib(5) as u64).is_ok(), "what is promised fits the same books");
    }

    #[test]
    fn a_device_with_memory_of_its_own_has_its_own_budget() {
        let budget = Budget {
            bytes_max: Some(100),
            device_bytes_max: Some(50),
            kv_bytes: 20,
            host_pool_bytes: 30,
            scratch_bytes: 5,
        };
        let held = WeightBytes { device: 10, host: 50 };
        assert!(budget.fits(held, 15, false).is_ok() && budget.keeps_warm());
        let error = budget.fits(held, 16, true).unwrap_err();
        assert!(
            error.contains("15 are left of the device's memory of 50: kv_cache 20, scratch 5"),
            "{error}"
        );
        let full = WeightBytes { host: 60, ..held };
        let error = budget.fits(full, 15, false).unwrap_err();
        assert!(error.contains("10 are left of the host memory of 100: swap_space 30"), "{error}");
        assert!(budget.fits(full, 15, true).is_ok(), "it is there already");
        assert!(Budget { bytes_max: None, ..budget }.fits(full, 15, false).is_ok());
    }
}
