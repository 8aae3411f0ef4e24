//! AVX2 with FMA and F16C: most desktops and laptops of the last ten years. Its product is also AVX-VNNI's source.

pub mod kernels;
pub mod product;
pub mod vector;
