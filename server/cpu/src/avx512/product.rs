//! [`ProductFn`](crate::kernels::product::ProductFn) by `VPDPBUSD` on 512-bit registers.
//!
//! Departures from the pseudo code: (1) 16 output rows are the lanes of a register and 4 columns one dot product, so
//! no sum crosses lanes; (2) unsigned weights are the register operand, activations are broadcast from memory;
//! (3) the offset is folded in as the dot product's start, `offset · −Σ x`; (4) few rows: a group's weights are
//! unpacked into eight registers and meet each row in turn; (5) many rows: a panel is unpacked once, and a strip
//! of 6 rows × 2 tiles keeps 12 dot products and 12 sums in registers: 8 loads for 12 dot products.
//! Bound: one `VPDPBUSD` a cycle; of 10 cycles a fold on the ports that multiply 8 are dot products.

use std::arch::x86_64::*;

use super::unpack::{min, scale, weights};
use crate::kernels::product::{
    AHEAD, BLOCK_GROUPS, DIRECT_ROWS_MAX, PANEL_GROUPS, PANEL_ROWS, Panel, Rows, check, for_form, prefetch,
    prefetch_panel_ahead,
};
use crate::packing::{Form, GROUP, TILE, Tile};

/// Activation rows of a strip.
const STRIP: usize = 6;

/// See [`ProductFn`](crate::kernels::product::ProductFn).
///
/// # Safety
/// AVX-512 F, BW, VL, DQ, VNNI and F16C exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub unsafe fn product(tiles: &[Tile<'_>], x: &Rows<'_>, panel: &mut Panel, out: &mut [f32]) {
    if x.rows == 1 {
        // The same bits, and memory is read 5 to 25 % faster on Zen 4; why is not understood.
        // SAFETY: AVX2, FMA and F16C come with these instructions; the caller's promise.
        unsafe { crate::avx2::product::product(tiles, x, panel, out) };
        return;
    }
    check(tiles, x, out);
    let form = tiles[0].form();
    // SAFETY: `check` proved every slice as long as tiles and rows say; the features are the caller's promise.
    unsafe {
        if x.rows <= DIRECT_ROWS_MAX {
            for (t, tile) in tiles.iter().enumerate() {
                for_form!(form, direct_rows(tile, x, out.as_mut_ptr().add(t * TILE)));
            }
            return;
        }
        for first in (0..x.groups).step_by(PANEL_GROUPS) {
            let count = PANEL_GROUPS.min(x.groups - first);
            for (t, tile) in tiles.iter().enumerate() {
                for_form!(form, unpack(tile, first, count, panel, t));
            }
            let run = (first, count);
            match (tiles.len(), form) {
                (2, Form::K6) => strips::<2, true, false>(panel, x, run, form, out),
                (2, _) if form.has_min() => strips::<2, false, true>(panel, x, run, form, out),
                (2, _) => strips::<2, false, false>(panel, x, run, form, out),
                (_, Form::K6) => strips::<1, true, false>(panel, x, run, form, out),
                (_, _) if form.has_min() => strips::<1, false, true>(panel, x, run, form, out),
                (_, _) => strips::<1, false, false>(panel, x, run, form, out),
            }
        }
    }
}

/// All rows of `x`, at most [`DIRECT_ROWS_MAX`], against one tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn direct_rows<const BITS: usize, const SUPER: bool, const MIN: bool>(
    tile: &Tile<'_>,
    x: &Rows<'_>,
    out: *mut f32,
) {
    let mut done = 0;
    while done < x.rows {
        let rest = x.part(done, x.rows - done);
        // SAFETY: as in `product`; row `done` of the output exists.
        done += unsafe {
            let out = out.add(done * PANEL_ROWS);
            match rest.rows {
                8.. => direct::<BITS, SUPER, MIN, 8>(tile, &rest, out),
                4.. => direct::<BITS, SUPER, MIN, 4>(tile, &rest, out),
                2.. => direct::<BITS, SUPER, MIN, 2>(tile, &rest, out),
                _ => direct::<BITS, SUPER, MIN, 1>(tile, &rest, out),
            }
        };
    }
}

/// `M` rows against one tile, weights straight from the packed bits; returns `M`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn direct<const BITS: usize, const SUPER: bool, const MIN: bool, const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<'_>,
    out: *mut f32,
) -> usize {
    let (groups, blocks) = (x.groups, x.blocks());
    let share = tile.layout().bytes / blocks;
    let shift = _mm_cvtsi32_si128(tile.form().offset_log2().unwrap_or(0) as i32);
    let mut acc = [_mm512_setzero_ps(); M];
    // SAFETY: `check` held for the whole call; every index below is within its row, group or block.
    unsafe {
        for b in 0..blocks {
            let parts = tile.parts(b);
            let ahead = tile.bytes().as_ptr().wrapping_add(b * share + AHEAD);
            prefetch(ahead, share);
            for g in b * BLOCK_GROUPS..groups.min((b + 1) * BLOCK_GROUPS) {
                let i = g - b * BLOCK_GROUPS;
                let w = weights::<BITS>(&parts, i);
                let s = scale::<BITS, SUPER>(&parts, i, 0);
                if BITS == 6 {
                    let s1 = scale::<BITS, SUPER>(&parts, i, 1);
                    for m in 0..M {
                        let sums = x.minus_half_sums.as_ptr().add(m * groups * 2 + 2 * g);
                        let d0 = dot4(&w[..4], x, m, g, 0, offset(*sums, shift));
                        let d1 = dot4(&w[4..], x, m, g, 4, offset(*sums.add(1), shift));
                        let xscale = _mm512_set1_ps(*x.scales.as_ptr().add(m * groups + g));
                        let f = _mm512_mul_ps(s, _mm512_cvtepi32_ps(d0));
                        let f = _mm512_fmadd_ps(s1, _mm512_cvtepi32_ps(d1), f);
                        acc[m] = _mm512_fmadd_ps(f, xscale, acc[m]);
                    }
                    continue;
                }
                for m in 0..M {
                    let minus_sum = *x.minus_sums.as_ptr().add(m * groups + g);
                    let start = if MIN { _mm512_setzero_si512() } else { offset(minus_sum, shift) };
                    // Two chains of four: a row alone waits for latencies, not for ports.
                    let d0 = dot4(&w[..4], x, m, g, 0, start);
                    let d1 = dot4(&w[4..], x, m, g, 4, _mm512_setzero_si512());
                    let xscale = _mm512_set1_ps(*x.scales.as_ptr().add(m * groups + g));
                    let d = _mm512_cvtepi32_ps(_mm512_add_epi32(d0, d1));
                    acc[m] = _mm512_fmadd_ps(_mm512_mul_ps(s, xscale), d, acc[m]);
                    if MIN {
                        let sum = _mm512_set1_ps(*x.scaled_sums.as_ptr().add(m * groups + g));
                        acc[m] = _mm512_fmadd_ps(min::<SUPER>(&parts, i), sum, acc[m]);
                    }
                }
            }
        }
        for m in 0..M {
            _mm512_storeu_ps(out.add(m * PANEL_ROWS), acc[m]);
        }
    }
    M
}

/// `offset · −Σ x` in every lane.
#[inline(always)]
unsafe fn offset(minus_sum: i32, shift: __m128i) -> __m512i {
    // SAFETY: the caller runs on AVX-512 F.
    unsafe { _mm512_sll_epi32(_mm512_set1_epi32(minus_sum), shift) }
}

/// Four steps of group `g` of row `m` from step `first`, added to `start`.
#[inline(always)]
unsafe fn dot4(w: &[__m512i], x: &Rows<'_>, m: usize, g: usize, first: usize, start: __m512i) -> __m512i {
    let mut d = start;
    // SAFETY: a group has eight steps of four bytes; reads are unaligned.
    unsafe {
        let xq = x.q.as_ptr().add((m * x.groups + g) * GROUP).cast::<i32>().add(first);
        for (i, w) in w.iter().enumerate().take(4) {
            d = _mm512_dpbusd_epi32(d, *w, _mm512_set1_epi32(xq.add(i).read_unaligned()));
        }
    }
    d
}

/// Groups `first..first + count` of a tile into slot `t` of the panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn unpack<const BITS: usize, const SUPER: bool, const MIN: bool>(
    tile: &Tile<'_>,
    first: usize,
    count: usize,
    panel: &mut Panel,
    t: usize,
) {
    for i in 0..count {
        let block = (first + i) / BLOCK_GROUPS;
        let parts = tile.parts(block);
        let g = i % BLOCK_GROUPS; // `first` begins a block
        if g == 0 {
            prefetch_panel_ahead(tile, block);
        }
        // SAFETY: `first + count` is at most the tile's groups, and the panel's arrays are as long as written.
        unsafe {
            let to = panel.q[t][i].as_mut_ptr();
            for (step, w) in weights::<BITS>(&parts, g).into_iter().enumerate() {
                _mm512_storeu_si512(to.add(64 * step).cast(), w);
            }
            for half in 0..if BITS == 6 { 2 } else { 1 } {
                let s = scale::<BITS, SUPER>(&parts, g, half);
                _mm512_storeu_ps(panel.scales[t][i][half].as_mut_ptr(), s);
            }
            if MIN {
                _mm512_storeu_ps(panel.mins[t][i].as_mut_ptr(), min::<SUPER>(&parts, g));
            }
        }
    }
}

/// All rows over the panel, added to `out`, which the first panel replaces.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn strips<const N: usize, const SIX: bool, const MIN: bool>(
    panel: &Panel,
    x: &Rows<'_>,
    run: (usize, usize),
    form: Form,
    out: &mut [f32],
) {
    let shift = _mm_cvtsi32_si128(form.offset_log2().unwrap_or(0) as i32);
    for m in (0..x.rows).step_by(STRIP) {
        // SAFETY: as in `product`; rows m to m + M exist.
        unsafe {
            let out = out.as_mut_ptr().add(m * PANEL_ROWS);
            match x.rows - m {
                6.. => strip::<N, 6, SIX, MIN>(panel, x, m, run, shift, out),
                5 => strip::<N, 5, SIX, MIN>(panel, x, m, run, shift, out),
                4 => strip::<N, 4, SIX, MIN>(panel, x, m, run, shift, out),
                3 => strip::<N, 3, SIX, MIN>(panel, x, m, run, shift, out),
                2 => strip::<N, 2, SIX, MIN>(panel, x, m, run, shift, out),
                _ => strip::<N, 1, SIX, MIN>(panel, x, m, run, shift, out),
            }
        }
    }
}

/// `M` rows from `m0` over the panel's groups, added to `out`, which the first group replaces.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn strip<const N: usize, const M: usize, const SIX: bool, const MIN: bool>(
    panel: &Panel,
    x: &Rows<'_>,
    m0: usize,
    (first, count): (usize, usize),
    shift: __m128i,
    out: *mut f32,
) {
    let groups = x.groups;
    // SAFETY: `check` held for the whole call; rows m0..m0 + M and groups first..first + count exist.
    unsafe {
        let at = m0 * groups + first;
        let xq = x.q.as_ptr().add(at * GROUP).cast::<i32>();
        let (xscales, scaled) = (x.scales.as_ptr().add(at), x.scaled_sums.as_ptr().add(at));
        let starts: [Starts; M] = if MIN {
            [Starts([0; 2 * PANEL_GROUPS]); M]
        } else {
            std::array::from_fn(|m| {
                let at = at + m * groups;
                if SIX {
                    starts(&x.minus_half_sums[2 * at..2 * (at + count)], shift)
                } else {
                    starts(&x.minus_sums[at..at + count], shift)
                }
            })
        };
        let mut acc: [[__m512; N]; M] = std::array::from_fn(|m| {
            std::array::from_fn(|n| match first {
                0 => _mm512_setzero_ps(),
                _ => _mm512_loadu_ps(out.add(m * PANEL_ROWS + n * TILE)),
            })
        });
        for i in 0..count {
            let xq = xq.add(i * 8);
            let weights: [*const u8; N] = std::array::from_fn(|n| panel.q[n][i].as_ptr());
            let scale = |n: usize, half: usize| _mm512_load_ps(panel.scales[n][i][half].as_ptr());
            let start = |m: usize, half: usize| {
                if MIN {
                    return _mm512_setzero_si512();
                }
                _mm512_set1_epi32(starts[m].0[if SIX { 2 * i + half } else { i }])
            };
            if SIX {
                let d = dots::<N, M, 0, 4>(weights, xq, groups, std::array::from_fn(|m| start(m, 0)));
                let s: [__m512; N] = std::array::from_fn(|n| scale(n, 0));
                let f: [[__m512; N]; M] = std::array::from_fn(|m| {
                    std::array::from_fn(|n| _mm512_mul_ps(s[n], _mm512_cvtepi32_ps(d[m][n])))
                });
                let d = dots::<N, M, 4, 4>(weights, xq, groups, std::array::from_fn(|m| start(m, 1)));
                let s: [__m512; N] = std::array::from_fn(|n| scale(n, 1));
                for m in 0..M {
                    let xscale = _mm512_set1_ps(*xscales.add(m * groups + i));
                    for n in 0..N {
                        let f = _mm512_fmadd_ps(s[n], _mm512_cvtepi32_ps(d[m][n]), f[m][n]);
                        acc[m][n] = _mm512_fmadd_ps(f, xscale, acc[m][n]);
                    }
                }
                continue;
            }
            let d = dots::<N, M, 0, 8>(weights, xq, groups, std::array::from_fn(|m| start(m, 0)));
            let s: [__m512; N] = std::array::from_fn(|n| scale(n, 0));
            for m in 0..M {
                let xscale = _mm512_set1_ps(*xscales.add(m * groups + i));
                for n in 0..N {
                    let f = _mm512_mul_ps(s[n], xscale);
                    acc[m][n] = _mm512_fmadd_ps(f, _mm512_cvtepi32_ps(d[m][n]), acc[m][n]);
                }
            }
            if MIN {
                for n in 0..N {
                    let low = _mm512_load_ps(panel.mins[n][i].as_ptr());
                    for m in 0..M {
                        let sum = _mm512_set1_ps(*scaled.add(m * groups + i));
                        acc[m][n] = _mm512_fmadd_ps(low, sum, acc[m][n]);
                    }
                }
            }
        }
        for m in 0..M {
            for n in 0..N {
                _mm512_storeu_ps(out.add(m * PANEL_ROWS + n * TILE), acc[m][n]);
            }
        }
    }
}

/// What a row's dot products of a panel's folds start with.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Starts([i32; 2 * PANEL_GROUPS]);

/// `offset · −Σ x` for the folds whose sums are given.
#[inline(always)]
unsafe fn starts(minus_sums: &[i32], shift: __m128i) -> Starts {
    let mut out = Starts([0; 2 * PANEL_GROUPS]);
    for (from, to) in minus_sums.chunks(TILE).zip(out.0.as_chunks_mut::<TILE>().0) {
        // SAFETY: the caller runs on AVX-512 F; the mask has a bit for each element of a part of sixteen at most.
        unsafe {
            let mask = (1u32 << from.len()).wrapping_sub(1) as u16;
            let sums = _mm512_maskz_loadu_epi32(mask, from.as_ptr());
            _mm512_store_si512(to.as_mut_ptr().cast(), _mm512_sll_epi32(sums, shift));
        }
    }
    out
}

/// Steps `FIRST..FIRST + STEPS` of a group of `M` rows, `groups` apart, added to each row's start.
#[inline(always)]
unsafe fn dots<const N: usize, const M: usize, const FIRST: usize, const STEPS: usize>(
    weights: [*const u8; N],
    xq: *const i32,
    groups: usize,
    starts: [__m512i; M],
) -> [[__m512i; N]; M] {
    let mut d: [[__m512i; N]; M] = std::array::from_fn(|m| [starts[m]; N]);
    // SAFETY: the caller's promise: the group has eight steps of 64 bytes a tile and four bytes a row.
    unsafe {
        for step in FIRST..FIRST + STEPS {
            let w: [__m512i; N] =
                std::array::from_fn(|n| _mm512_load_si512(weights[n].add(64 * step).cast()));
            for m in 0..M {
                let four = _mm512_set1_epi32(xq.add(m * groups * 8 + step).read_unaligned());
                for n in 0..N {
                    d[m][n] = _mm512_dpbusd_epi32(d[m][n], w[n], four);
                }
            }
        }
    }
    d
}
