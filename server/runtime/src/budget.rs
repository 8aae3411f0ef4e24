//! One budget of bytes: what the server takes at most, and what of it is spoken for.
//!
//! ```text
//! weights of models that are loaded  +  KV arena  +  host pool  +  scratch of a step  ≤  bytes_max
//! ```
//! KV arena and host pool are taken as they are used, but counted whole: what was promised once is never missing later.

/// The budget and its fixed parts, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// All of it; `None` where nobody set one: then every model is loaded.
    pub bytes_max: Option<u64>,
    /// The device's KV memory.
    pub kv_bytes: u64,
    /// The bound of the host pool.
    pub host_pool_bytes: u64,
    /// Activations and scratch of the largest step of any model; steps run one after another.
    pub scratch_bytes: u64,
}

impl Budget {
    /// What is spoken for whatever models are loaded.
    fn fixed_bytes(&self) -> u64 {
        self.kv_bytes + self.host_pool_bytes + self.scratch_bytes
    }

    /// Whether `needed` bytes of weights fit beside `held` ones.
    ///
    /// # Errors
    /// What does not fit, in words for the person who set the budget.
    pub fn fits(&self, held: u64, needed: u64) -> Result<(), String> {
        let Some(bytes_max) = self.bytes_max else { return Ok(()) };
        let room = bytes_max.saturating_sub(self.fixed_bytes()).saturating_sub(held);
        if needed <= room {
            return Ok(());
        }
        let Self { kv_bytes, host_pool_bytes, scratch_bytes, .. } = self;
        Err(format!(
            "its weights need {needed} bytes, {room} are left of the memory of {bytes_max}: kv_cache {kv_bytes}, \
             swap_space {host_pool_bytes}, scratch {scratch_bytes}, other weights {held}"
        ))
    }

    /// Says what is planned.
    pub fn log(&self, weight_bytes: u64) {
        tracing::info!(
            memory_bytes_max = self.bytes_max,
            weight_bytes,
            kv_bytes_max = self.kv_bytes,
            swap_space_bytes_max = self.host_pool_bytes,
            scratch_bytes_max = self.scratch_bytes,
            "memory budget"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_counts_before_it_is_used() {
        let budget = Budget { bytes_max: Some(100), kv_bytes: 20, host_pool_bytes: 30, scratch_bytes: 5 };
        assert!(budget.fits(0, 45).is_ok());
        let error = budget.fits(10, 36).unwrap_err();
        assert!(error.contains("need 36 bytes, 35 are left") && error.contains("swap_space 30"), "{error}");
        assert!(Budget { bytes_max: None, ..budget }.fits(1 << 40, 1 << 40).is_ok());
        assert!(Budget { bytes_max: Some(1), ..budget }.fits(0, 0).is_ok(), "nothing always fits");
    }
}
