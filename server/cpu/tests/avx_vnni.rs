//! AVX-VNNI's own encoding, checked by disassembly where no processor has it: the kernels that `server.isa: avx-vnni` runs
//! are made of VEX-encoded `VPDPBUSD`, which AVX-512 machines do not take for theirs.
#![cfg(target_arch = "x86_64")]

use std::process::Command;

use quarry_cpu::kernels::product::ProductFn;

#[test]
fn its_kernels_are_in_the_encoding_that_those_processors_have() {
    // Taken as an address, so that the linker keeps the kernels in this program.
    let kernel: ProductFn = quarry_cpu::avx_vnni::product;
    assert_ne!(std::hint::black_box(kernel) as usize, 0);
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(program).output();
    let output = output.expect("objdump runs; it comes with the C compiler's package binutils");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8_lossy(&output.stdout);
    let (mut vex, mut wrong) = (0, Vec::new());
    let mut symbol = "";
    for line in listing.lines() {
        if line.ends_with(">:") {
            symbol = line;
        }
        if !symbol.contains("avx_vnni") || !symbol.contains("Vex") {
            continue;
        }
        vex += usize::from(line.contains("{vex}") && line.contains("vpdpbusd"));
        // Registers 16 to 31, masks and 512 bits are AVX-512's alone.
        let evex = line.contains("%zmm") || line.contains("%k1") || line.contains("%ymm16");
        if evex || (line.contains("vpdpbusd") && !line.contains("{vex}")) {
            wrong.push(line);
        }
    }
    assert!(vex > 100, "{vex} VEX-encoded dot products found");
    assert!(wrong.is_empty(), "not for these processors: {wrong:?}");
}
