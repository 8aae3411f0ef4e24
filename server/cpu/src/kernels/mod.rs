//! The two kernels that take nearly all the time. Each file: pseudo code, the portable form, then the fast one.

pub mod attention;
pub mod gemm;
