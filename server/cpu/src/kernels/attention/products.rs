//! The two products of attention over a tile of 32 keys: queries with keys, weights with values.
//!
//! ```text
//! score: for each pair of dimensions i: for each query m: s[m][t] += q[m][2 i] · k[t][2 i] + q[m][2 i + 1] · k[t][2 i + 1]
//! weigh: for each pair of keys t: for each query m: a[m][d] += p[m][2 t] · v[2 t][d] + p[m][2 t + 1] · v[2 t + 1][d]
//! ```
//! Lanes are keys, then dimensions; as many queries at once as have room for their sums, so that a loaded register of
//! keys serves all of them. Operations: 64 · head_dim a query and product; bytes: 64 · head_dim a call and product.
//! Bound: one multiplication of pairs a cycle and port.

use super::{KEYS, WEIGHT_MAX};
use crate::kernels::fixed_point::Word;
use crate::kernels::vector::{LANES, Task, Vector};

/// Sixteen positions of a block.
#[derive(Clone, Copy)]
pub struct Piece {
    pub keys: *const Word,
    pub values: *const Word,
    pub scales: *const f32,
    pub exponents: *const f32,
}

/// A tile's two pieces, and those of the tile after it.
#[derive(Clone, Copy)]
pub struct Tile {
    pub pieces: [Piece; 2],
    pub next: [Piece; 2],
    pub block_tokens: usize,
    pub pairs: usize,
    pub width: usize,
}

/// How many of `left` queries the next micro-kernel takes: as even as they go, `V::QUERIES` at most.
fn share(left: usize, most: usize) -> usize {
    left.div_ceil(left.div_ceil(most))
}

/// Calls `$call::<V, Q>` for a count of 1 to 12; twelve is the most that any instruction set takes at once.
macro_rules! for_count {
    ($n:expr, $call:ident($($args:expr),*)) => {
        match $n {
            12.. => $call::<V, 12>($($args),*),
            11 => $call::<V, 11>($($args),*),
            10 => $call::<V, 10>($($args),*),
            9 => $call::<V, 9>($($args),*),
            8 => $call::<V, 8>($($args),*),
            7 => $call::<V, 7>($($args),*),
            6 => $call::<V, 6>($($args),*),
            5 => $call::<V, 5>($($args),*),
            4 => $call::<V, 4>($($args),*),
            3 => $call::<V, 3>($($args),*),
            2 => $call::<V, 2>($($args),*),
            _ => $call::<V, 1>($($args),*),
        }
    };
}

/// Scores of `count` queries with the tile's keys, `count × 32`.
///
/// # Safety
/// The instruction set exists; there are as many queries, scales and scores, and the tile's pieces are readable.
pub unsafe fn score<V: Vector>(
    count: usize,
    q: *const Word,
    scales: *const f32,
    tile: &Tile,
    scores: *mut f32,
) {
    let mut i = 0;
    while i < count {
        let n = share(count - i, V::QUERIES);
        // SAFETY: the caller's promise; queries i..i + n exist.
        unsafe {
            let (q, scales, s) = (q.add(i * tile.pairs), scales.add(i), scores.add(i * KEYS));
            for_count!(n, score_some(q, scales, tile, s));
        }
        i += n;
    }
}

unsafe fn score_some<V: Vector, const Q: usize>(
    q: *const Word,
    scales: *const f32,
    tile: &Tile,
    scores: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe { V::run(Score::<Q> { q, scales, tile, scores }) }
}

struct Score<'a, const Q: usize> {
    q: *const Word,
    scales: *const f32,
    tile: &'a Tile,
    scores: *mut f32,
}

impl<const Q: usize> Task for Score<'_, Q> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { q, scales, tile, scores } = self;
        // SAFETY: the caller's promise.
        unsafe {
            if V::WIDE {
                score_part::<V, Q, 2>(q, scales, tile, scores, 0);
            } else {
                score_part::<V, Q, 1>(q, scales, tile, scores, 0);
                score_part::<V, Q, 1>(q, scales, tile, scores, 1);
            }
        }
    }
}

#[inline(always)]
unsafe fn score_part<V: Vector, const Q: usize, const N: usize>(
    q: *const Word,
    scales: *const f32,
    tile: &Tile,
    scores: *mut f32,
    first: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::no_integers(); N]; Q];
        for i in 0..tile.pairs {
            let k: [V::Integers; N] = std::array::from_fn(|n| {
                let row = i * tile.block_tokens;
                V::prefetch(tile.next[first + n].keys.wrapping_add(row));
                V::load_integers(tile.pieces[first + n].keys.add(row))
            });
            for (m, sums) in sums.iter_mut().enumerate() {
                let q = V::splat_integer(*q.add(m * tile.pairs + i));
                for n in 0..N {
                    sums[n] = V::add_products(sums[n], q, k[n]);
                }
            }
        }
        for n in 0..N {
            let piece = &tile.pieces[first + n];
            let (scale, exponent) = (V::load(piece.scales), V::load(piece.exponents));
            V::prefetch(tile.next[first + n].scales.cast());
            V::prefetch(tile.next[first + n].exponents.cast());
            for (m, sums) in sums.iter().enumerate() {
                let scale = V::splat(*scales.add(m)).mul(scale);
                let score = V::from_integers(sums[n]).fma(scale, exponent);
                score.store(scores.add(m * KEYS + (first + n) * LANES));
            }
        }
    }
}

/// `acc = acc · c + f / 8191 · p V` of `count` queries.
///
/// # Safety
/// As [`score`], for weights, factors and rows of `acc`.
pub unsafe fn weigh<V: Vector>(
    count: usize,
    p: *const Word,
    [corrections, factors]: [*const f32; 2],
    acc: *mut f32,
    tile: &Tile,
) {
    let mut i = 0;
    while i < count {
        let n = share(count - i, V::QUERIES);
        // SAFETY: the caller's promise; queries i..i + n exist.
        unsafe {
            let (p, acc) = (p.add(i * KEYS / 2), acc.add(i * tile.width));
            let by = [corrections.add(i), factors.add(i)];
            for_count!(n, weigh_some(p, by, acc, tile));
        }
        i += n;
    }
}

unsafe fn weigh_some<V: Vector, const Q: usize>(
    p: *const Word,
    by: [*const f32; 2],
    acc: *mut f32,
    tile: &Tile,
) {
    // SAFETY: the caller's promise.
    unsafe { V::run(Weigh::<Q> { p, by, acc, tile }) }
}

struct Weigh<'a, const Q: usize> {
    p: *const Word,
    by: [*const f32; 2],
    acc: *mut f32,
    tile: &'a Tile,
}

impl<const Q: usize> Task for Weigh<'_, Q> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { p, by, acc, tile } = self;
        let mut d = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while V::WIDE && d + 2 * LANES <= tile.width {
                weigh_part::<V, Q, 2>(p, by, acc, tile, d);
                d += 2 * LANES;
            }
            while d < tile.width {
                weigh_part::<V, Q, 1>(p, by, acc, tile, d);
                d += LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn weigh_part<V: Vector, const Q: usize, const N: usize>(
    p: *const Word,
    [corrections, factors]: [*const f32; 2],
    acc: *mut f32,
    tile: &Tile,
    d: usize,
) {
    const PAIRS: usize = LANES / 2;
    // SAFETY: the caller's promise; d + 16 N <= width.
    unsafe {
        let mut sums = [[V::no_integers(); N]; Q];
        for t in 0..2 * PAIRS {
            let row = t % PAIRS * tile.width + d;
            let values = tile.pieces[t / PAIRS].values.add(row);
            let next = tile.next[t / PAIRS].values.wrapping_add(row);
            let v: [V::Integers; N] = std::array::from_fn(|n| {
                V::prefetch(next.wrapping_add(n * LANES));
                V::load_integers(values.add(n * LANES))
            });
            for (m, sums) in sums.iter_mut().enumerate() {
                let p = V::splat_integer(*p.add(m * 2 * PAIRS + t));
                for n in 0..N {
                    sums[n] = V::add_products(sums[n], p, v[n]);
                }
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            let c = V::splat(*corrections.add(m));
            let f = V::splat(*factors.add(m) * (1.0 / WEIGHT_MAX as f32));
            for (n, sum) in sums.iter().enumerate() {
                let at = acc.add(m * tile.width + d + n * LANES);
                V::from_integers(*sum).fma(f, V::load(at).mul(c)).store(at);
            }
        }
    }
}
