//! On a real card (feature `gpu`; tests/gpu/run.sh): the executor conformance suite with the kernels that are built in.

use quarry_conformance::Suite;
use quarry_cuda::{CudaBackend, CudaOptions, Holding, KvKind};
use quarry_model::backend::Backend;
use quarry_reference::ReferenceBackend;
use quarry_tiny::TensorType;

fn device_with(holding: Holding) -> Box<dyn Backend> {
    let device = CudaBackend::new(CudaOptions { holding, ..CudaOptions::default() }).expect("a CUDA device");
    println!("{}", device.device_name());
    Box::new(device)
}

fn device() -> Box<dyn Backend> {
    device_with(Holding::default())
}

fn suite(kinds: &[TensorType]) -> Suite<'_> {
    Suite { subject: &device, oracle: &|| Box::new(ReferenceBackend), exact: true, block_tokens: 16, kinds }
}

#[test]
fn the_suite_passes_on_the_device() {
    quarry_conformance::run(&suite(&TensorType::ALL)).assert_passed();
}

#[test]
fn the_suite_passes_with_int8_keys_values_and_heads() {
    let subject = || device_with(Holding { kv: KvKind::Int8, int8_head: true });
    quarry_conformance::run(&Suite { subject: &subject, ..suite(&TensorType::ALL) }).assert_passed();
}

/// Short enough for compute-sanitizer.
#[test]
fn a_model_answers_on_the_device() {
    quarry_conformance::run(&suite(&[TensorType::Q4K])).assert_passed();
}
