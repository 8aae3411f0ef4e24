//! Products on 256-bit registers: one source for AVX2 (`VPMADDUBSW`) and AVX-VNNI (`VPDPBUSD`), by [`Dot`].
//!
//! Departures from the pseudo code: (1) a tile's 16 output rows are two registers of eight int32 lanes, 4 columns a
//! lane; (2) few rows: weights are unpacked step by step, for sixteen registers do not hold a group; (3) many
//! rows: a panel is unpacked once and strips of some rows run over it, so that a weight register is loaded once for
//! all of them. Bound on AVX2: `VPMADDUBSW`, which one port of older cores executes; up to 5 bits sums of several
//! steps stay in 16 bits ([`Maddubs`]), which leaves it one widening multiplication in five or nine.

use std::arch::x86_64::*;

use crate::kernels::product::{DIRECT_ROWS_MAX, PANEL_GROUPS, PANEL_ROWS, Panel, Rows, check, for_form};
use crate::packing::{TILE, Tile};

/// A way to multiply unsigned with signed bytes and add fours into int32 lanes. All methods are inlined into
/// functions compiled for its instructions.
pub trait Dot {
    /// Whether 8-bit weights are taken as signed numbers, so that no offset is left to subtract.
    const SIGNED_EIGHT: bool;
    /// Activation rows of a strip, by what sixteen registers hold.
    const STRIP: usize;

    /// `d[m] += Σ over steps of w[step] · x[m][step]`, exact; steps `FIRST..FIRST + 4` in 6-bit forms, else all eight.
    ///
    /// # Safety
    /// Runs within a function compiled for the instructions; weights are unsigned numbers of `BITS` bits, activations
    /// within -127 to 127, and `x` has `M` rows.
    unsafe fn dot<const BITS: usize, const M: usize, const FIRST: usize, W: Weights>(
        d: &mut [[__m256i; 2]; M],
        w: &W,
        x: Fours,
    );

    /// See [`direct`](super::kernels::direct).
    ///
    /// # Safety
    /// As there.
    unsafe fn direct<const BITS: usize, const SUPER: bool, const MIN: bool, const M: usize>(
        tile: &Tile<'_>,
        x: &Rows<'_>,
        out: *mut f32,
    ) -> usize;
    /// See [`unpack`](super::kernels::unpack).
    ///
    /// # Safety
    /// As there.
    unsafe fn unpack<const BITS: usize, const SUPER: bool, const MIN: bool>(
        tile: &Tile<'_>,
        run: (usize, usize),
        panel: &mut Panel,
        t: usize,
    );
    /// See [`strip`](super::kernels::strip).
    ///
    /// # Safety
    /// As there.
    unsafe fn strip<const BITS: usize, const MIN: bool, const M: usize>(
        panel: &Panel,
        t: usize,
        x: &Rows<'_>,
        m0: usize,
        run: (usize, usize),
        out: *mut f32,
    );
}

/// A group's weights, step by step: a step is 4 columns of 16 rows. The step is a constant, so that no shift by a
/// variable and no call is left once this is inlined.
pub trait Weights {
    /// Unsigned bytes of both halves of the tile.
    ///
    /// # Safety
    /// Runs within a function compiled for AVX2; the group exists.
    unsafe fn step<const STEP: usize>(&self) -> [__m256i; 2];
}

/// A group of some rows of activations: row m's step s is the four bytes at `from + m · stride + s`.
#[derive(Clone, Copy)]
pub struct Fours {
    /// The first row's first step.
    pub from: *const i32,
    /// Fours from row to row.
    pub stride: usize,
}

impl Fours {
    /// Row `m`'s step `s` in every lane.
    ///
    /// # Safety
    /// Runs within a function compiled for AVX2; the row and the step exist.
    #[inline(always)]
    pub unsafe fn at(self, m: usize, s: usize) -> __m256i {
        // SAFETY: the caller's promise; reads are unaligned.
        unsafe { _mm256_set1_epi32(self.from.add(m * self.stride + s).read_unaligned()) }
    }
}

/// `VPMADDUBSW` and `VPMADDWD`.
pub struct Maddubs;

/// Steps whose sums fit 16 bits: `2 · 127 · (2^bits − 1)` each. 8-bit weights are halved by taking their sign.
pub const fn steps_in_16_bits(bits: usize) -> usize {
    match bits {
        4 => 8,
        5 => 4,
        6 => 2,
        _ => 1,
    }
}
/// The largest sum of `steps` steps of two products each; -128 of 8 bits has a magnitude of 128.
const fn largest_sum(bits: usize, steps: usize) -> usize {
    let weight = if bits == 8 { 128 } else { (1 << bits) - 1 };
    2 * 127 * weight * steps
}
const _: () = {
    let bits = [4, 5, 6, 8];
    let mut i = 0;
    while i < bits.len() {
        assert!(largest_sum(bits[i], steps_in_16_bits(bits[i])) < 1 << 15, "a sum leaves 16 bits");
        i += 1;
    }
};

/// The kernels of a [`Dot`], compiled for its instructions.
macro_rules! compiled_for {
    ($features:literal) => {
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn direct<const BITS: usize, const SUPER: bool, const MIN: bool, const M: usize>(
            tile: &Tile<'_>,
            x: &Rows<'_>,
            out: *mut f32,
        ) -> usize {
            // SAFETY: the caller's promise.
            unsafe { $crate::avx2::kernels::direct::<Self, BITS, SUPER, MIN, M>(tile, x, out) }
        }

        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn unpack<const BITS: usize, const SUPER: bool, const MIN: bool>(
            tile: &Tile<'_>,
            run: (usize, usize),
            panel: &mut Panel,
            t: usize,
        ) {
            // SAFETY: the caller's promise.
            unsafe { $crate::avx2::kernels::unpack::<BITS, SUPER, MIN>(tile, run, panel, t) }
        }

        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn strip<const BITS: usize, const MIN: bool, const M: usize>(
            panel: &Panel,
            t: usize,
            x: &Rows<'_>,
            m0: usize,
            run: (usize, usize),
            out: *mut f32,
        ) {
            // SAFETY: the caller's promise.
            unsafe { $crate::avx2::kernels::strip::<Self, BITS, MIN, M>(panel, t, x, m0, run, out) }
        }
    };
}
pub(crate) use compiled_for;

impl Dot for Maddubs {
    const SIGNED_EIGHT: bool = true;
    const STRIP: usize = 4;

    #[inline(always)]
    unsafe fn dot<const BITS: usize, const M: usize, const FIRST: usize, W: Weights>(
        d: &mut [[__m256i; 2]; M],
        w: &W,
        x: Fours,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut h = [[_mm256_setzero_si256(); 2]; M];
            macro_rules! step {
                ($($step:literal)*) => {$(
                    if $step >= FIRST && (BITS != 6 || $step < FIRST + 4) {
                        maddubs::<BITS, M, $step, W>(&mut h, w, x);
                        if usize::is_multiple_of($step + 1, steps_in_16_bits(BITS)) {
                            widen(d, &h);
                        }
                    }
                )*};
            }
            step!(0 1 2 3 4 5 6 7);
        }
    }

    compiled_for!("avx2,fma,f16c");
}

/// The same number, made at this place. LLVM would otherwise sum a whole group row after row, and copy its sixteen
/// registers of weights to the stack for that; with every sum made in the order of this source a step's two registers
/// are loaded once for all rows. Not `pure`: only then does the order hold.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pinned(mut v: __m256i) -> __m256i {
    // SAFETY: a comment is no instruction, and on AVX2 the register exists.
    unsafe { std::arch::asm!("/* {} */", inout(ymm_reg) v, options(nomem, nostack, preserves_flags)) };
    v
}

/// Products of one step, in 16 bits; the first of a run replaces what `h` holds.
#[inline(always)]
unsafe fn maddubs<const BITS: usize, const M: usize, const STEP: usize, W: Weights>(
    h: &mut [[__m256i; 2]; M],
    w: &W,
    x: Fours,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut w = w.step::<STEP>();
        let mut signed = w;
        if BITS == 8 {
            let flip = _mm256_set1_epi8(-128);
            signed = [_mm256_xor_si256(w[0], flip), _mm256_xor_si256(w[1], flip)];
            w = [_mm256_abs_epi8(signed[0]), _mm256_abs_epi8(signed[1])];
        }
        for m in 0..M {
            let x = x.at(m, STEP);
            for n in 0..2 {
                let x = if BITS == 8 { _mm256_sign_epi8(x, signed[n]) } else { x };
                let product = _mm256_maddubs_epi16(w[n], x);
                let first = STEP.is_multiple_of(steps_in_16_bits(BITS));
                h[m][n] = pinned(if first { product } else { _mm256_add_epi16(h[m][n], product) });
            }
        }
    }
}

/// Adds pairs of 16-bit sums to `d`.
#[inline(always)]
unsafe fn widen<const M: usize>(d: &mut [[__m256i; 2]; M], h: &[[__m256i; 2]; M]) {
    // SAFETY: the caller's promise.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        for m in 0..M {
            for n in 0..2 {
                d[m][n] = pinned(_mm256_add_epi32(d[m][n], _mm256_madd_epi16(h[m][n], ones)));
            }
        }
    }
}

/// See [`ProductFn`](crate::kernels::product::ProductFn).
///
/// # Safety
/// AVX2, FMA and F16C exist.
pub unsafe fn product(tiles: &[Tile<'_>], x: &Rows<'_>, panel: &mut Panel, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { product_by::<Maddubs>(tiles, x, panel, out) }
}

/// [`product`] by any [`Dot`].
///
/// # Safety
/// The instructions of `D` exist.
pub unsafe fn product_by<D: Dot>(tiles: &[Tile<'_>], x: &Rows<'_>, panel: &mut Panel, out: &mut [f32]) {
    check(tiles, x, out);
    let form = tiles[0].form();
    // SAFETY: `check` proved every slice as long as tiles and rows say; the instructions are the caller's promise.
    unsafe {
        if x.rows <= DIRECT_ROWS_MAX {
            for (t, tile) in tiles.iter().enumerate() {
                let out = out.as_mut_ptr().add(t * TILE);
                for_form!(form, direct_rows[D](tile, x, out));
            }
            return;
        }
        for first in (0..x.groups).step_by(PANEL_GROUPS) {
            let run = (first, PANEL_GROUPS.min(x.groups - first));
            for (t, tile) in tiles.iter().enumerate() {
                for_form!(form, unpack_run[D](tile, run, panel, t));
                let out = out.as_mut_ptr().add(t * TILE);
                match (form.bits(), form.has_min()) {
                    (4, false) => strips::<D, 4, false>(panel, t, x, run, out),
                    (4, true) => strips::<D, 4, true>(panel, t, x, run, out),
                    (5, false) => strips::<D, 5, false>(panel, t, x, run, out),
                    (5, true) => strips::<D, 5, true>(panel, t, x, run, out),
                    (6, _) => strips::<D, 6, false>(panel, t, x, run, out),
                    _ => strips::<D, 8, false>(panel, t, x, run, out),
                }
            }
        }
    }
}

/// All rows of `x`, at most [`DIRECT_ROWS_MAX`], against one tile.
unsafe fn direct_rows<D: Dot, const BITS: usize, const SUPER: bool, const MIN: bool>(
    tile: &Tile<'_>,
    x: &Rows<'_>,
    out: *mut f32,
) {
    let mut done = 0;
    while done < x.rows {
        let rest = x.part(done, x.rows - done);
        // SAFETY: the caller's promise; row `done` of the output exists.
        done += unsafe {
            let out = out.add(done * PANEL_ROWS);
            match rest.rows {
                4.. => D::direct::<BITS, SUPER, MIN, 4>(tile, &rest, out),
                2.. => D::direct::<BITS, SUPER, MIN, 2>(tile, &rest, out),
                _ => D::direct::<BITS, SUPER, MIN, 1>(tile, &rest, out),
            }
        };
    }
}

unsafe fn unpack_run<D: Dot, const BITS: usize, const SUPER: bool, const MIN: bool>(
    tile: &Tile<'_>,
    run: (usize, usize),
    panel: &mut Panel,
    t: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { D::unpack::<BITS, SUPER, MIN>(tile, run, panel, t) }
}

/// All rows over slot `t` of the panel, added to `out`, which the first panel replaces.
unsafe fn strips<D: Dot, const BITS: usize, const MIN: bool>(
    panel: &Panel,
    t: usize,
    x: &Rows<'_>,
    run: (usize, usize),
    out: *mut f32,
) {
    let mut m = 0;
    while m < x.rows {
        // SAFETY: the caller's promise; row m of the output exists.
        unsafe {
            let out = out.add(m * PANEL_ROWS);
            match D::STRIP.min(x.rows - m) {
                4 => D::strip::<BITS, MIN, 4>(panel, t, x, m, run, out),
                3 => D::strip::<BITS, MIN, 3>(panel, t, x, m, run, out),
                2 => D::strip::<BITS, MIN, 2>(panel, t, x, m, run, out),
                _ => D::strip::<BITS, MIN, 1>(panel, t, x, m, run, out),
            }
        }
        m += D::STRIP.min(x.rows - m);
    }
}
