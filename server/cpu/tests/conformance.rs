//! Every instruction set of this machine keeps the rules of an executor, bit for bit.

use quarry_conformance::Suite;
use quarry_cpu::isa::Isa;
use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_reference::ReferenceBackend;
use quarry_tiny::TensorType;

fn conforms(isa: Isa, threads: usize) {
    quarry_conformance::run(&Suite {
        subject: &|| Box::new(CpuBackend::new(CpuOptions { threads, isa: Some(isa) }).expect("is available")),
        oracle: &|| Box::new(ReferenceBackend),
        exact: true,
        block_tokens: 32,
        kinds: &TensorType::ALL,
    })
    .assert_passed();
}

#[test]
fn every_instruction_set_conforms() {
    let available = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    for isa in available {
        conforms(isa, 2);
    }
}

#[test]
fn one_thread_conforms() {
    conforms(Isa::detect(), 1);
}
