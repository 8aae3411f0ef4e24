//! What every instruction set computes: one algorithm over [`vector::Vector`] where the sets agree, and the matrix
//! product's pseudo code with its naive twin where they do not.

pub mod attention;
pub mod elementwise;
pub mod fixed_point;
pub mod product;
pub mod vector;
