//! Activations as the products want them: int8 with one scale per 128, and minus the sum of each 32 and each 16.
//!
//! ```text
//! per block of 128: scale = max |x| / 127 ; q = round(x · (127 / max |x|)), ties to even ; 0 where the block is 0
//! ```
//! Sums pair with the weights' offsets and minimums; minus, because both are subtracted.

use crate::kernels::product::{BLOCK_GROUPS, Rows};
use crate::packing::GROUP;

/// Rows of quantized activations.
#[derive(Default)]
pub struct Activations {
    rows: usize,
    groups: usize,
    pub(crate) q: Vec<i8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) minus_sums: Vec<i32>,
    pub(crate) minus_half_sums: Vec<i32>,
}

/// One row's part of [`Activations`], to be written.
pub struct RowMut<'a> {
    /// `groups × 32`.
    pub q: &'a mut [i8],
    /// One per block.
    pub scales: &'a mut [f32],
    /// One per group.
    pub minus_sums: &'a mut [i32],
    /// Two per group.
    pub minus_half_sums: &'a mut [i32],
}

impl Activations {
    /// Room for `rows` of `columns`; contents are written before they are read.
    pub fn reset(&mut self, rows: usize, columns: usize) {
        self.rows = rows;
        self.groups = columns.div_ceil(GROUP);
        self.q.resize(rows * self.groups * GROUP, 0);
        self.scales.resize(rows * self.blocks(), 0.0);
        self.minus_sums.resize(rows * self.groups, 0);
        self.minus_half_sums.resize(rows * self.groups * 2, 0);
    }

    /// Groups of 32 of a row.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Blocks of 128 of a row.
    pub fn blocks(&self) -> usize {
        self.groups.div_ceil(BLOCK_GROUPS)
    }

    /// For the products.
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            rows: self.rows,
            groups: self.groups,
            q: &self.q,
            scales: &self.scales,
            minus_sums: &self.minus_sums,
            minus_half_sums: &self.minus_half_sums,
        }
    }

    /// One row, to write.
    pub fn row_mut(&mut self, row: usize) -> RowMut<'_> {
        let (groups, blocks) = (self.groups, self.blocks());
        let of = |each: usize| row * each..(row + 1) * each;
        RowMut {
            q: &mut self.q[of(groups * GROUP)],
            scales: &mut self.scales[of(blocks)],
            minus_sums: &mut self.minus_sums[of(groups)],
            minus_half_sums: &mut self.minus_half_sums[of(2 * groups)],
        }
    }
}
