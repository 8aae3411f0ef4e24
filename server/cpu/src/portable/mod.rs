//! Any target: plain loops and an array as vector. Correct everywhere, quick nowhere.
//!
//! Where the target fuses multiply-adds (aarch64, or x86-64 built for it) results have the same bits as on the vector
//! instruction sets; elsewhere a product is rounded before it is added, so last bits differ.

pub mod product;
pub mod vector;

/// `a · b + c`, fused where the target has an instruction for it; a library call a number would cost more than all.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}
