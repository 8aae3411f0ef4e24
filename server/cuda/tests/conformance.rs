//! The executor conformance suite on a driver that is none: the unchanged back end, its kernels on the CPU.

mod support;

use quarry_conformance::Suite;
use quarry_cuda::{Holding, KvKind};
use quarry_reference::ReferenceBackend;
use quarry_tiny::{TensorType, TinyModel};

#[test]
fn the_suite_passes_on_the_fake_driver() {
    let suite = Suite {
        subject: &|| Box::new(support::backend()),
        oracle: &|| Box::new(ReferenceBackend),
        exact: true,
        block_tokens: 16,
        kinds: &TensorType::ALL,
    };
    quarry_conformance::run(&suite).assert_passed();
}

/// Whatever a model is held in, its bits do not depend on how work is arranged. Heads of dimension 64 and 128, a head of its
/// own and a tied one: what the kernels and the head distinguish.
#[test]
fn the_suite_passes_with_int8_keys_values_and_heads() {
    let holding = Holding { kv: KvKind::Int8, int8_head: true };
    let suite = Suite {
        subject: &|| Box::new(support::backend_holding(holding)),
        oracle: &|| Box::new(ReferenceBackend),
        exact: true,
        block_tokens: 16,
        kinds: &[TensorType::F32],
    };
    quarry_conformance::run_on(&[TinyModel::qwen3(), TinyModel::qwen3_tied()], &suite).assert_passed();
}
