//! Real model files for the tests of other crates.

use std::path::PathBuf;

use crate::{Registry, cache_dir_from};

/// The file of a known model in the user's cache, pulled if it is not there.
///
/// # Panics
/// With the reason, where it cannot be got: a test that needs a model fails without it.
pub fn model_path(name: &str) -> PathBuf {
    let cache = cache_dir_from(|key| std::env::var_os(key)).expect("QUARRY_CACHE or HOME is set");
    match Registry::new(cache).pull(name, None, &mut |_| {}) {
        Ok(pulled) => pulled.path,
        Err(error) => panic!("{error}"),
    }
}
