//! AVX-512 F, BW, VL, DQ and VNNI: Intel servers from 2019, AMD from Zen 4.

pub mod product;
pub mod unpack;
pub mod vector;
