//! On a real card (feature `gpu`; `FLASH=1 tests/gpu/run.sh`): the executor's suite with the library's own kernels.

use quarry_conformance::Suite;
use quarry_cuda::{CudaBackend, CudaOptions, PrefillAttention};
use quarry_flash::FlashAttention;
use quarry_model::backend::Backend;
use quarry_reference::ReferenceBackend;
use quarry_tiny::TensorType;

fn device() -> Box<dyn Backend> {
    let prefill_attention = Some(&FlashAttention as &'static dyn PrefillAttention);
    let options = CudaOptions { prefill_attention, ..CudaOptions::default() };
    Box::new(CudaBackend::new(options).expect("a CUDA device"))
}

/// Our own kernels are held to the same bounds by server/cuda/tests/gpu.rs.
#[test]
fn the_suite_passes_with_flash_attention() {
    let suite = Suite {
        subject: &device,
        oracle: &|| Box::new(ReferenceBackend),
        exact: false,
        block_tokens: 32,
        kinds: &TensorType::ALL,
    };
    quarry_conformance::run(&suite).assert_passed();
}
