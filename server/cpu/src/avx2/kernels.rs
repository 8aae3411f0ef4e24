//! The inner loops of the 256-bit products; see [`super::product`]. All are inlined into functions compiled for the
//! instructions of their [`Dot`].

use std::arch::x86_64::*;

use super::product::{Dot, Fours, Weights};
use crate::kernels::product::{AHEAD, BLOCK_GROUPS, PANEL_ROWS, Panel, Rows, prefetch, prefetch_panel_ahead};
use crate::packing::{GROUP, PartPointers, TILE, Tile};

/// Rows of a register.
const HALF: usize = TILE / 2;

#[inline(always)]
unsafe fn load(from: *const u8) -> __m256i {
    // SAFETY: the caller's promise: 32 bytes lie there.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// A group as packed.
struct Packed<const BITS: usize> {
    low: *const u8,
    high: *const u8,
}

impl<const BITS: usize> Packed<BITS> {
    /// Group `g` of a tile.
    #[inline(always)]
    unsafe fn new(p: &PartPointers, g: usize) -> Self {
        let (low, high) = match BITS {
            8 => (512, 0),
            6 => (256, 128),
            5 => (256, 64),
            _ => (256, 0),
        };
        // SAFETY: the caller's promise: the group exists.
        unsafe { Self { low: p.low.add(g * low), high: p.high.add(g * high) } }
    }

    #[inline(always)]
    unsafe fn half<const STEP: usize>(&self, n: usize) -> __m256i {
        // SAFETY: a group's bytes lie where `Form` draws them, and STEP < 8.
        unsafe {
            if BITS == 8 {
                return load(self.low.add(STEP * 64 + n * 32));
            }
            let packed = load(self.low.add(STEP % 4 * 64 + n * 32));
            let shifted = if STEP < 4 { packed } else { _mm256_srli_epi16::<4>(packed) };
            let nibble = _mm256_and_si256(shifted, _mm256_set1_epi8(15));
            match BITS {
                4 => nibble,
                5 => {
                    let high = load(self.high.add(n * 32));
                    let moved = match STEP {
                        0 => _mm256_slli_epi16::<4>(high),
                        1 => _mm256_slli_epi16::<3>(high),
                        2 => _mm256_slli_epi16::<2>(high),
                        3 => _mm256_slli_epi16::<1>(high),
                        4 => high,
                        5 => _mm256_srli_epi16::<1>(high),
                        6 => _mm256_srli_epi16::<2>(high),
                        _ => _mm256_srli_epi16::<3>(high),
                    };
                    _mm256_or_si256(nibble, _mm256_and_si256(moved, _mm256_set1_epi8(16)))
                }
                _ => {
                    let high = load(self.high.add(STEP / 4 * 64 + n * 32));
                    let moved = match STEP % 4 {
                        0 => _mm256_slli_epi16::<4>(high),
                        1 => _mm256_slli_epi16::<2>(high),
                        2 => high,
                        _ => _mm256_srli_epi16::<2>(high),
                    };
                    _mm256_or_si256(nibble, _mm256_and_si256(moved, _mm256_set1_epi8(48)))
                }
            }
        }
    }
}

impl<const BITS: usize> Weights for Packed<BITS> {
    #[inline(always)]
    unsafe fn step<const STEP: usize>(&self) -> [__m256i; 2] {
        // SAFETY: the caller's promise.
        unsafe { [self.half::<STEP>(0), self.half::<STEP>(1)] }
    }
}

/// A group as unpacked in a panel.
struct Unpacked(*const u8);

impl Weights for Unpacked {
    #[inline(always)]
    unsafe fn step<const STEP: usize>(&self) -> [__m256i; 2] {
        // SAFETY: a group of a panel is 512 bytes.
        unsafe { [load(self.0.add(64 * STEP)), load(self.0.add(64 * STEP + 32))] }
    }
}

#[inline(always)]
unsafe fn halves(plane: *const u8, index: usize) -> [__m256; 2] {
    // SAFETY: the caller's promise: sixteen f16 lie there.
    unsafe {
        let from = plane.add(index * TILE * 2);
        [
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.add(2 * HALF).cast())),
        ]
    }
}

/// `super · sub` for eight rows each.
#[inline(always)]
unsafe fn scaled(halves: [__m256; 2], sub: *const u8, signed: bool) -> [__m256; 2] {
    // SAFETY: the caller's promise: sixteen bytes lie at `sub`.
    unsafe {
        let (low, high) = (_mm_loadl_epi64(sub.cast()), _mm_loadl_epi64(sub.add(HALF).cast()));
        let (low, high) = if signed {
            (_mm256_cvtepi8_epi32(low), _mm256_cvtepi8_epi32(high))
        } else {
            (_mm256_cvtepu8_epi32(low), _mm256_cvtepu8_epi32(high))
        };
        [
            _mm256_mul_ps(halves[0], _mm256_cvtepi32_ps(low)),
            _mm256_mul_ps(halves[1], _mm256_cvtepi32_ps(high)),
        ]
    }
}

#[inline(always)]
unsafe fn scale<const BITS: usize, const SUPER: bool>(
    p: &PartPointers,
    g: usize,
    half: usize,
) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        match (SUPER, BITS) {
            (false, _) => halves(p.scale, g),
            (true, 6) => scaled(halves(p.scale, 0), p.sub.add((2 * g + half) * TILE), true),
            (true, _) => scaled(halves(p.scale, 0), p.sub.add(g * TILE), false),
        }
    }
}

#[inline(always)]
unsafe fn min<const SUPER: bool>(p: &PartPointers, g: usize) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    unsafe { if SUPER { scaled(halves(p.min, 0), p.sub_min.add(g * TILE), false) } else { halves(p.min, g) } }
}

/// What is left to subtract for the weights' offset, as the dot products' start.
#[inline(always)]
unsafe fn start<D: Dot, const BITS: usize, const MIN: bool>(minus_sum: i32) -> __m256i {
    // SAFETY: the caller runs on AVX2.
    unsafe {
        if MIN || (BITS == 8 && D::SIGNED_EIGHT) {
            _mm256_setzero_si256()
        } else {
            _mm256_set1_epi32(minus_sum << (BITS - 1))
        }
    }
}

/// Numbers of some rows, `stride` apart.
#[derive(Clone, Copy)]
struct Strided<T> {
    from: *const T,
    stride: usize,
}

impl<T: Copy> Strided<T> {
    /// Row `m`'s.
    #[inline(always)]
    unsafe fn at(self, m: usize) -> T {
        // SAFETY: the caller's promise: the row exists.
        unsafe { *self.from.add(m * self.stride) }
    }
}

/// Minus the sums of what one fold covers, for the first and the second fold of group `at` (counted from the first
/// row's first group); forms with one fold a group have the same twice.
#[inline(always)]
unsafe fn sums<const BITS: usize>(x: &Rows<'_>, at: usize) -> (Strided<i32>, Strided<i32>) {
    // SAFETY: the caller's promise: the group exists.
    unsafe {
        if BITS == 6 {
            let from = x.minus_half_sums.as_ptr().add(2 * at);
            let stride = 2 * x.groups;
            return (Strided { from, stride }, Strided { from: from.add(1), stride });
        }
        let one = Strided { from: x.minus_sums.as_ptr().add(at), stride: x.groups };
        (one, one)
    }
}

/// Dot products of one fold as floats.
#[inline(always)]
unsafe fn dots<D: Dot, const BITS: usize, const MIN: bool, const M: usize, const FIRST: usize, W: Weights>(
    w: &W,
    x: Fours,
    minus_sums: Strided<i32>,
) -> [[__m256; 2]; M] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut d = [[_mm256_setzero_si256(); 2]; M];
        for m in 0..M {
            d[m] = [start::<D, BITS, MIN>(minus_sums.at(m)); 2];
        }
        D::dot::<BITS, M, FIRST, W>(&mut d, w, x);
        let mut floats = [[_mm256_setzero_ps(); 2]; M];
        for m in 0..M {
            floats[m] = [_mm256_cvtepi32_ps(d[m][0]), _mm256_cvtepi32_ps(d[m][1])];
        }
        floats
    }
}

/// Group `at` (counted from the first row's first group) of the pseudo code, its minimums left out.
#[inline(always)]
unsafe fn group<D: Dot, const BITS: usize, const MIN: bool, const M: usize, W: Weights>(
    acc: &mut [[__m256; 2]; M],
    w: &W,
    x: &Rows<'_>,
    at: usize,
    scales: [[__m256; 2]; 2],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let fours = Fours { from: x.q.as_ptr().add(at * GROUP).cast::<i32>(), stride: x.groups * 8 };
        let xscales = Strided { from: x.scales.as_ptr().add(at), stride: x.groups };
        let (sums0, sums1) = sums::<BITS>(x, at);
        let mut d = dots::<D, BITS, MIN, M, 0, W>(w, fours, sums0);
        if BITS != 6 {
            for m in 0..M {
                let xscale = _mm256_set1_ps(xscales.at(m));
                for n in 0..2 {
                    let f = _mm256_mul_ps(scales[0][n], xscale);
                    acc[m][n] = _mm256_fmadd_ps(f, d[m][n], acc[m][n]);
                }
            }
            return;
        }
        for m in 0..M {
            for n in 0..2 {
                d[m][n] = _mm256_mul_ps(scales[0][n], d[m][n]);
            }
        }
        let second = dots::<D, BITS, MIN, M, 4, W>(w, fours, sums1);
        for m in 0..M {
            let xscale = _mm256_set1_ps(xscales.at(m));
            for n in 0..2 {
                let f = _mm256_fmadd_ps(scales[1][n], second[m][n], d[m][n]);
                acc[m][n] = _mm256_fmadd_ps(f, xscale, acc[m][n]);
            }
        }
    }
}

/// `M` rows against one tile, weights straight from the packed bits; returns `M`.
///
/// # Safety
/// The instructions of `D` exist; [`check`](crate::kernels::product::check) held for the whole call and `x` has at
/// least `M` rows.
#[inline(always)]
pub unsafe fn direct<D: Dot, const BITS: usize, const SUPER: bool, const MIN: bool, const M: usize>(
    tile: &Tile<'_>,
    x: &Rows<'_>,
    out: *mut f32,
) -> usize {
    let (groups, blocks) = (x.groups, x.blocks());
    let share = tile.layout().bytes / blocks;
    // SAFETY: the caller's promise; every index below is within its row, group or block.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); 2]; M];
        for b in 0..blocks {
            let parts = tile.parts(b);
            let ahead = tile.bytes().as_ptr().wrapping_add(b * share + AHEAD);
            prefetch(ahead, share);
            for g in b * BLOCK_GROUPS..groups.min((b + 1) * BLOCK_GROUPS) {
                let i = g - b * BLOCK_GROUPS;
                let w = Packed::<BITS>::new(&parts, i);
                let s = scale::<BITS, SUPER>(&parts, i, 0);
                let s = [s, if BITS == 6 { scale::<BITS, SUPER>(&parts, i, 1) } else { s }];
                group::<D, BITS, MIN, M, _>(&mut acc, &w, x, g, s);
                if MIN {
                    let low = min::<SUPER>(&parts, i);
                    for m in 0..M {
                        let sum = _mm256_set1_ps(*x.scaled_sums.as_ptr().add(m * groups + g));
                        for n in 0..2 {
                            acc[m][n] = _mm256_fmadd_ps(low[n], sum, acc[m][n]);
                        }
                    }
                }
            }
        }
        for m in 0..M {
            for n in 0..2 {
                _mm256_storeu_ps(out.add(m * PANEL_ROWS + n * HALF), acc[m][n]);
            }
        }
    }
    M
}

/// Groups `first..first + count` of a tile into slot `t` of the panel.
///
/// # Safety
/// AVX2 and F16C exist; the tile has those groups, at most as many as a panel holds.
#[inline(always)]
pub unsafe fn unpack<const BITS: usize, const SUPER: bool, const MIN: bool>(
    tile: &Tile<'_>,
    (first, count): (usize, usize),
    panel: &mut Panel,
    t: usize,
) {
    let store = |to: &mut [f32; TILE], v: [__m256; 2]| {
        // SAFETY: sixteen floats are two registers.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(HALF), v[1]);
        }
    };
    for i in 0..count {
        let block = (first + i) / BLOCK_GROUPS;
        let parts = tile.parts(block);
        let g = i % BLOCK_GROUPS; // `first` begins a block
        if g == 0 {
            prefetch_panel_ahead(tile, block);
        }
        // SAFETY: the caller's promise; the panel's arrays are as long as written.
        unsafe {
            let to = panel.q[t][i].as_mut_ptr();
            let w = Packed::<BITS>::new(&parts, g);
            macro_rules! keep {
                ($($step:literal)*) => {$(
                    let [low, high] = w.step::<$step>();
                    _mm256_storeu_si256(to.add(64 * $step).cast(), low);
                    _mm256_storeu_si256(to.add(64 * $step + 32).cast(), high);
                )*};
            }
            keep!(0 1 2 3 4 5 6 7);
            for half in 0..if BITS == 6 { 2 } else { 1 } {
                store(&mut panel.scales[t][i][half], scale::<BITS, SUPER>(&parts, g, half));
            }
            if MIN {
                store(&mut panel.mins[t][i], min::<SUPER>(&parts, g));
            }
        }
    }
}

/// `M` rows from `m0` over slot `t` of the panel, added to `out`, which the first group replaces.
///
/// # Safety
/// The instructions of `D` exist; [`check`](crate::kernels::product::check) held for the whole call, the panel holds
/// groups `first..first + count`, and `x` has at least `m0 + M` rows.
#[inline(always)]
pub unsafe fn strip<D: Dot, const BITS: usize, const MIN: bool, const M: usize>(
    panel: &Panel,
    t: usize,
    x: &Rows<'_>,
    m0: usize,
    (first, count): (usize, usize),
    out: *mut f32,
) {
    let groups = x.groups;
    // SAFETY: the caller's promise.
    unsafe {
        let at = m0 * groups + first;
        let scaled = x.scaled_sums.as_ptr().add(at);
        let mut acc = [[_mm256_setzero_ps(); 2]; M];
        if first > 0 {
            for m in 0..M {
                for n in 0..2 {
                    acc[m][n] = _mm256_loadu_ps(out.add(m * PANEL_ROWS + n * HALF));
                }
            }
        }
        for i in 0..count {
            let w = Unpacked(panel.q[t][i].as_ptr());
            let scale = |half: usize| {
                let s = panel.scales[t][i][half].as_ptr();
                [_mm256_loadu_ps(s), _mm256_loadu_ps(s.add(HALF))]
            };
            let s = [scale(0), if BITS == 6 { scale(1) } else { scale(0) }];
            group::<D, BITS, MIN, M, _>(&mut acc, &w, x, at + i, s);
            if MIN {
                let low = panel.mins[t][i].as_ptr();
                for m in 0..M {
                    let sum = _mm256_set1_ps(*scaled.add(m * groups + i));
                    for n in 0..2 {
                        acc[m][n] = _mm256_fmadd_ps(_mm256_loadu_ps(low.add(n * HALF)), sum, acc[m][n]);
                    }
                }
            }
        }
        for m in 0..M {
            for n in 0..2 {
                _mm256_storeu_ps(out.add(m * PANEL_ROWS + n * HALF), acc[m][n]);
            }
        }
    }
}
