//! The executor conformance suite on a driver that is none: the unchanged back end, its kernels on the CPU.

mod support;

use quarry_conformance::Suite;
use quarry_reference::ReferenceBackend;
use quarry_tiny::TensorType;

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
