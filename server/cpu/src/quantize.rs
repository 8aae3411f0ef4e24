//! Activations as the matrix kernels want them: int8 with a scale per 32, and each group's sum.

use crate::packed::GROUP;

/// Rows of quantized activations.
#[derive(Default)]
pub struct Activations {
    pub(crate) q: Vec<i8>,
    pub(crate) scales: Vec<f32>,
    /// Sum of a group's integers: pairs with the weights' offset and min.
    pub(crate) sums: Vec<i32>,
    groups: usize,
}

impl Activations {
    /// Room for `rows` of `columns`; contents are written by [`QuantizeFn`] before they are read.
    pub fn reset(&mut self, rows: usize, columns: usize) {
        self.groups = columns.div_ceil(GROUP);
        self.q.resize(rows * self.groups * GROUP, 0);
        self.scales.resize(rows * self.groups, 0.0);
        self.sums.resize(rows * self.groups, 0);
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.groups
    }
}

/// Quantizes one row: `q` has whole groups (padded with zeros), `scales` and `sums` one entry per group.
///
/// # Safety
/// The instruction set the function was compiled for exists (it comes from [`crate::isa::Kernels`]).
pub type QuantizeFn = unsafe fn(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i32]);

#[inline(always)]
fn quantize(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    for (((x, q), scale), sum) in x.chunks(GROUP).zip(q.as_chunks_mut::<GROUP>().0).zip(scales).zip(sums) {
        let max = x.iter().fold(0f32, |m, v| m.max(v.abs()));
        *scale = max / 127.0;
        let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
        *q = [0; GROUP];
        let mut total = 0;
        for (q, v) in q.iter_mut().zip(x) {
            let rounded = (v * inverse).round_ties_even() as i32;
            *q = rounded as i8;
            total += rounded;
        }
        *sum = total;
    }
}

/// See [`QuantizeFn`].
///
/// # Safety
/// None needed; unsafe only to fit the table.
pub unsafe fn portable(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    quantize(x, q, scales, sums);
}

/// See [`QuantizeFn`].
///
/// # Safety
/// AVX2 exists.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub unsafe fn avx2(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    quantize(x, q, scales, sums);
}

/// See [`QuantizeFn`].
///
/// # Safety
/// AVX-512 F, BW and VL exist.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub unsafe fn avx512(x: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    quantize(x, q, scales, sums);
}
