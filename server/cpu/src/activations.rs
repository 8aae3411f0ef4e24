//! Activations as the products want them: int8 with one scale per 32, and minus the sum of each 32 and each 16.
//!
//! ```text
//! per group of 32: scale = max |x| / 127 ; q = round(x · (127 / max |x|)), ties to even ; 0 where the group is 0
//! ```
//! Sums pair with the weights' offsets and minimums; minus, because both are subtracted. One scale per 128 would save
//! one multiplication in ten (see DECISIONS.md, it was tried).

use crate::kernels::product::Rows;
use crate::packing::GROUP;
use crate::threads::Shares;

/// Rows of quantized activations.
#[derive(Default)]
pub struct Activations {
    rows: usize,
    groups: usize,
    pub(crate) q: Vec<i8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) scaled_sums: Vec<f32>,
    pub(crate) minus_sums: Vec<i32>,
    pub(crate) minus_half_sums: Vec<i32>,
}

/// One row's part of [`Activations`] or one group of it, to be written.
pub struct RowMut<'a> {
    /// `groups × 32`.
    pub q: &'a mut [i8],
    /// One per group.
    pub scales: &'a mut [f32],
    /// One per group.
    pub scaled_sums: &'a mut [f32],
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
        self.scales.resize(rows * self.groups, 0.0);
        self.scaled_sums.resize(rows * self.groups, 0.0);
        self.minus_sums.resize(rows * self.groups, 0);
        self.minus_half_sums.resize(rows * self.groups * 2, 0);
    }

    /// For threads of a region, each of which writes parts of its own.
    pub fn shares(&mut self) -> ActivationShares {
        ActivationShares {
            groups: self.groups,
            q: Shares::new(&mut self.q),
            scales: Shares::new(&mut self.scales),
            scaled_sums: Shares::new(&mut self.scaled_sums),
            minus_sums: Shares::new(&mut self.minus_sums),
            minus_half_sums: Shares::new(&mut self.minus_half_sums),
        }
    }

    /// Groups of 32 of a row.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// For the products.
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            rows: self.rows,
            groups: self.groups,
            q: &self.q,
            scales: &self.scales,
            scaled_sums: &self.scaled_sums,
            minus_sums: &self.minus_sums,
            minus_half_sums: &self.minus_half_sums,
        }
    }

    /// One row, to write.
    pub fn row_mut(&mut self, row: usize) -> RowMut<'_> {
        let groups = self.groups;
        let of = |each: usize| row * each..(row + 1) * each;
        RowMut {
            q: &mut self.q[of(groups * GROUP)],
            scales: &mut self.scales[of(groups)],
            scaled_sums: &mut self.scaled_sums[of(groups)],
            minus_sums: &mut self.minus_sums[of(groups)],
            minus_half_sums: &mut self.minus_half_sums[of(2 * groups)],
        }
    }
}

/// [`Activations`] that threads of a region write disjoint parts of.
#[derive(Clone, Copy)]
pub struct ActivationShares {
    groups: usize,
    q: Shares<i8>,
    scales: Shares<f32>,
    scaled_sums: Shares<f32>,
    minus_sums: Shares<i32>,
    minus_half_sums: Shares<i32>,
}

impl ActivationShares {
    /// One row.
    ///
    /// # Safety
    /// The activations outlive the region, and no other thread uses any part of the row while it is held.
    pub unsafe fn row(&self, row: usize) -> RowMut<'_> {
        // SAFETY: the caller's promise.
        unsafe { self.part(row * self.groups, self.groups) }
    }

    /// One group of a row.
    ///
    /// # Safety
    /// The activations outlive the region, and no other thread uses the group while it is held.
    #[inline(always)]
    pub unsafe fn group(&self, row: usize, group: usize) -> RowMut<'_> {
        // SAFETY: the caller's promise.
        unsafe { self.part(row * self.groups + group, 1) }
    }

    #[inline(always)]
    unsafe fn part(&self, first: usize, groups: usize) -> RowMut<'_> {
        // SAFETY: the caller's promise.
        unsafe {
            RowMut {
                q: self.q.slice(first * GROUP, groups * GROUP),
                scales: self.scales.slice(first, groups),
                scaled_sums: self.scaled_sums.slice(first, groups),
                minus_sums: self.minus_sums.slice(first, groups),
                minus_half_sums: self.minus_half_sums.slice(2 * first, 2 * groups),
            }
        }
    }
}
