//! Matrix product of one weight tile with some rows of activations.
//!
//! ```text
//! for each activation row m, each group g, each of 16 output rows r:
//!   i = sum over 32 k of q[g][r][k] * x[m][g][k]  -  offset * sum(x[m][g])       (exact, int32)
//!   out[m][r] += (scale[g][r] * xscale[m][g]) * i                                (f32, groups in order)
//!   out[m][r] += min[g][r] * (xscale[m][g] * sum(x[m][g]))                       (where the matrix has mins)
//! ```
//! Departures in the AVX-512 form: (1) 16 rows are the lanes of one register and 4 k one VNNI dot product, so no
//! sum crosses lanes; (2) up to 16 activation rows share a group's eight weight registers; (3) the order of f32
//! additions per (m, r) is that of the pseudo code whatever the number of rows, hence equal bits alone or batched.

use crate::packed::{GROUP, GROUP_BYTES, TILE, Tile};

/// Activation rows one call takes at most.
pub const ROWS_MAX: usize = 16;

/// Some rows of quantized activations, whole groups each.
#[derive(Clone, Copy)]
pub struct ActivationRows<'a> {
    /// `rows × groups × 32`.
    pub q: &'a [i8],
    /// `rows × groups`.
    pub scales: &'a [f32],
    /// `rows × groups`.
    pub sums: &'a [i32],
}

/// Writes `out[m] = tile · x[m]` for each row; `out.len()` is the number of rows, at most [`ROWS_MAX`].
///
/// # Safety
/// The instruction set the function was compiled for exists (it comes from [`crate::isa::Kernels`]).
pub type GemmFn = unsafe fn(tile: Tile<'_>, x: ActivationRows<'_>, out: &mut [[f32; TILE]]);

/// What every form relies on: slices as long as tile and row count say. One check for a whole tile.
#[inline(always)]
fn check(tile: &Tile<'_>, x: &ActivationRows<'_>, rows: usize) -> usize {
    let groups = tile.scales.len() / TILE;
    assert!(rows <= ROWS_MAX, "{rows} rows");
    assert_eq!(tile.q.len(), groups * GROUP_BYTES, "weights of a tile");
    assert!(tile.mins.is_empty() || tile.mins.len() == tile.scales.len(), "mins of a tile");
    assert_eq!(x.q.len(), rows * groups * GROUP, "activations");
    assert_eq!(x.scales.len(), rows * groups, "activation scales");
    assert_eq!(x.sums.len(), rows * groups, "activation sums");
    groups
}

#[inline(always)]
fn plain(tile: Tile<'_>, x: ActivationRows<'_>, out: &mut [[f32; TILE]]) {
    let groups = check(&tile, &x, out.len());
    for (m, out) in out.iter_mut().enumerate() {
        *out = [0.0; TILE];
        for g in 0..groups {
            let at = m * groups + g;
            let xq = &x.q[at * GROUP..(at + 1) * GROUP];
            let wq = &tile.q[g * GROUP_BYTES..(g + 1) * GROUP_BYTES];
            let mut dot = [-tile.offset * x.sums[at]; TILE];
            for (four, w) in xq.as_chunks::<4>().0.iter().zip(wq.as_chunks::<64>().0) {
                for (dot, w) in dot.iter_mut().zip(w.as_chunks::<4>().0) {
                    for k in 0..4 {
                        *dot += i32::from(w[k]) * i32::from(four[k]);
                    }
                }
            }
            let scales = &tile.scales[g * TILE..(g + 1) * TILE];
            for r in 0..TILE {
                out[r] += (scales[r] * x.scales[at]) * dot[r] as f32;
            }
            if !tile.mins.is_empty() {
                let sum = x.scales[at] * x.sums[at] as f32;
                for r in 0..TILE {
                    out[r] += tile.mins[g * TILE + r] * sum;
                }
            }
        }
    }
}

/// See [`GemmFn`].
///
/// # Safety
/// None needed; unsafe only to fit the table.
pub unsafe fn portable(tile: Tile<'_>, x: ActivationRows<'_>, out: &mut [[f32; TILE]]) {
    plain(tile, x, out);
}

/// See [`GemmFn`].
///
/// # Safety
/// AVX2 exists.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub unsafe fn avx2(tile: Tile<'_>, x: ActivationRows<'_>, out: &mut [[f32; TILE]]) {
    plain(tile, x, out);
}

/// See [`GemmFn`].
///
/// # Safety
/// AVX-512 F, BW, VL and VNNI exist.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn avx512(tile: Tile<'_>, x: ActivationRows<'_>, out: &mut [[f32; TILE]]) {
    let groups = check(&tile, &x, out.len());
    let mut done = 0;
    while done < out.len() {
        let at = done * groups;
        let rest = &mut out[done..];
        // SAFETY: `check` proved the slices long enough for every row, and the features are the caller's promise.
        done += unsafe {
            match rest.len() {
                16.. => strip::<16>(tile, x, at, groups, rest),
                8.. => strip::<8>(tile, x, at, groups, rest),
                4.. => strip::<4>(tile, x, at, groups, rest),
                2.. => strip::<2>(tile, x, at, groups, rest),
                _ => strip::<1>(tile, x, at, groups, rest),
            }
        };
    }
}

/// `M` activation rows from group index `at`; returns `M`.
///
/// # Safety
/// AVX-512 F, BW, VL and VNNI exist; `check` holds for the whole call and `out` has at least `M` rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn strip<const M: usize>(
    tile: Tile<'_>,
    x: ActivationRows<'_>,
    at: usize,
    groups: usize,
    out: &mut [[f32; TILE]],
) -> usize {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_ps(); M];
    let offset = -tile.offset;
    for g in 0..groups {
        // SAFETY: g < groups, and `check` proved 512 weight bytes and 16 scales per group.
        let (w, scale) = unsafe {
            let base = tile.q.as_ptr().add(g * GROUP_BYTES);
            let w: [__m512i; 8] = std::array::from_fn(|i| _mm512_loadu_si512(base.add(i * 64).cast()));
            (w, _mm512_loadu_ps(tile.scales.as_ptr().add(g * TILE)))
        };
        let min = if tile.mins.is_empty() {
            None
        } else {
            // SAFETY: mins are as long as scales by `check`.
            Some(unsafe { _mm512_loadu_ps(tile.mins.as_ptr().add(g * TILE)) })
        };
        for m in 0..M {
            let index = at + m * groups + g;
            // SAFETY: index < rows × groups, and `check` proved 32 integers, a scale and a sum for each.
            let (xq, xscale, xsum) = unsafe {
                (
                    x.q.as_ptr().add(index * GROUP).cast::<i32>(),
                    *x.scales.get_unchecked(index),
                    *x.sums.get_unchecked(index),
                )
            };
            let mut dot = _mm512_set1_epi32(offset * xsum);
            for (i, w) in w.iter().enumerate() {
                // SAFETY: eight groups of four bytes lie at xq; reads are unaligned.
                let four = unsafe { _mm512_set1_epi32(xq.add(i).read_unaligned()) };
                dot = _mm512_dpbusd_epi32(dot, *w, four);
            }
            let factor = _mm512_mul_ps(scale, _mm512_set1_ps(xscale));
            sums[m] = _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(dot), sums[m]);
            if let Some(min) = min {
                sums[m] = _mm512_fmadd_ps(min, _mm512_set1_ps(xscale * xsum as f32), sums[m]);
            }
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: a row of `out` is 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
    M
}
