//! No operation of a kernel is a function of its own. One that is was left out of the code that is compiled for its
//! instruction set: right results, a hundred times slower, and no other test would tell.
#![cfg(target_arch = "x86_64")]

use std::process::Command;

use quarry_cpu::isa::{Isa, Kernels};

#[test]
fn every_operation_is_part_of_its_kernel() {
    // So that the linker keeps the kernels in this program, also of sets that this machine lacks.
    let made = Isa::ALL.into_iter().filter_map(|isa| Kernels::new(std::hint::black_box(isa))).count();
    assert!(made > 0);
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("objdump").args(["-t", "-C"]).arg(program).output();
    let output = output.expect("objdump runs; it comes with the C compiler's package binutils");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let symbols = String::from_utf8_lossy(&output.stdout);
    assert!(symbols.contains("quarry_cpu::avx2"), "the table has the kernels' names");
    // Instructions that no other crate here uses; libraries' own searches use integers of these sets.
    let floats = ["_ps", "_epi16", "_dpbusd", "cvtph"];
    let alone =
        |line: &&str| line.contains("core_arch::x86") && floats.iter().any(|part| line.contains(part));
    let alone: Vec<&str> = symbols.lines().filter(alone).collect();
    assert!(alone.is_empty(), "functions of their own: {alone:#?}");
}
