//! Every instruction set of this machine keeps the rules of an executor, bit for bit.

use std::io::Write as _;

use quarry_conformance::Suite;
use quarry_cpu::isa::Isa;
use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_reference::ReferenceBackend;
use quarry_tiny::TensorType;

/// Packing is the same for all instruction sets, so two types (a block's and a super-block's) tell the others apart.
const TYPES: [TensorType; 2] = [TensorType::F32, TensorType::Q4K];

fn conforms(isa: Isa, threads: usize, kinds: &[TensorType]) {
    quarry_conformance::run(&Suite {
        subject: &|| Box::new(CpuBackend::new(CpuOptions { threads, isa: Some(isa) }).expect("is available")),
        oracle: &|| Box::new(ReferenceBackend),
        exact: true,
        block_tokens: 32,
        kinds,
    })
    .assert_passed();
}

#[test]
fn every_instruction_set_conforms() {
    let best = Isa::detect();
    let missing: Vec<&str> =
        Isa::ALL.iter().filter(|isa| !isa.is_available()).map(|isa| isa.name()).collect();
    // Past the test's capture, so that every run says what it did not prove.
    let _ =
        writeln!(std::io::stderr(), "instruction sets that this machine cannot run: {}", missing.join(", "));
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        conforms(isa, 2, if isa == best { &TensorType::ALL } else { &TYPES });
    }
}

#[test]
fn one_thread_conforms() {
    conforms(Isa::detect(), 1, &TYPES);
}
