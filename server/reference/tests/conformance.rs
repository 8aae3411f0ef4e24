//! The oracle keeps the rules it is the oracle of.

use quarry_conformance::Suite;
use quarry_reference::ReferenceBackend;
use quarry_tiny::TensorType;

#[test]
fn reference_conforms() {
    for block_tokens in [16, 10] {
        quarry_conformance::run(&Suite {
            subject: &|| Box::new(ReferenceBackend),
            oracle: &|| Box::new(ReferenceBackend),
            exact: false,
            block_tokens,
            kinds: &TensorType::ALL,
        })
        .assert_passed();
    }
}
