//! Attention of one KV head: all its query heads, of one position or of a tile of positions.
//!
//! ```text
//! for each span of 512 keys:  m = -inf ; l = 0 (16 lanes) ; acc = 0
//!   for each tile of 32 keys up to the query's position (see `fixed_point` for q, k, v, scale and e):
//!     s[t] = Σ_d q[d] · k[t][d] · scale_q · scale_k[t] + e[t]     -inf past the query's position
//!     n    = max s ; w[t] = 2^(s[t] − n) ; p[t] = round(8191 w[t]) ; m' = max(m, n) ; c = 2^(m − m') ; f = 2^(n − m')
//!     l    = l · c + f · Σ w[t] · 2^-e[t] ; acc = acc · c + f / 8191 · Σ p[t] · v[t]
//!   merge: M' = max(M, m) ; L = L · 2^(M − M') + l · 2^(m − M') ; A likewise
//! out = A / L                                                    (Milakov and Gimelshein 2018, arXiv:1805.02867)
//! ```
//! Sums over d and t are exact integers. Tiles and spans begin at absolute positions and each query's arithmetic is its
//! own: neither the chunk, the queries beside it, who computes a span, nor `block_tokens` changes a bit.
//! Operations: 4 · head_dim a query and key; bytes: 4 · head_dim a key. Bound: 16-bit multiply-adds in prefill.

mod products;

use super::fixed_point::{VALUE_MAX, Word};
use super::vector::{LANES, Task, Vector, exp2};

use products::{Piece, Tile, score, weigh};

/// Keys of a tile.
pub const KEYS: usize = 32;
/// Keys whose softmax is computed apart and then merged; threads may take different spans of one query.
pub const SPAN: usize = 512;
const _: () = assert!(SPAN.is_multiple_of(KEYS) && KEYS == 2 * LANES);
/// A weight of 1 as an integer.
const WEIGHT_MAX: i32 = 8191;
const _: () = assert!(KEYS as i64 * WEIGHT_MAX as i64 * VALUE_MAX as i64 <= i32::MAX as i64);

/// The queries of one call and where their keys are.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// `positions.len() × group × pairs`, by [`by_norm`](super::fixed_point::by_norm); a score is in powers of two.
    pub q: &'a [Word],
    /// One per query.
    pub scales: &'a [f32],
    /// Position of each token, ascending; its `group` queries see keys `0..=position`.
    pub positions: &'a [usize],
    /// Query heads of the KV head.
    pub group: usize,
    /// The head's part of each block, as [`HeadLayout`] draws it.
    pub blocks: &'a [*const Word],
    /// Of the blocks.
    pub layout: HeadLayout,
}

/// How a block keeps one head's keys and values, in words of 32 bits:
///
/// ```text
/// K         [pairs][block_tokens]      word (i, t): dimensions 2 i and 2 i + 1 of key t
/// V         [block_tokens / 2][width]  word (t, d): dimension d of the values 2 t and 2 t + 1
/// scale     [block_tokens]             f32: what a key's integers are multiplied by
/// exponent  [block_tokens]             f32, whole: a value's integers are multiplied by 2 to this power
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLayout {
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Positions of a block, a multiple of 16.
    pub block_tokens: usize,
}

impl HeadLayout {
    /// Pairs of dimensions.
    pub fn pairs(&self) -> usize {
        self.head_dim.div_ceil(2)
    }

    /// `head_dim` up to whole sixteens: elements of a value, of `acc` and of the output.
    pub fn width(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Where V begins.
    pub fn values(&self) -> usize {
        self.pairs() * self.block_tokens
    }

    /// Where the keys' scales begin; the values' exponents follow.
    pub fn scales(&self) -> usize {
        self.values() + self.block_tokens / 2 * self.width()
    }

    /// Words in all.
    pub fn words(&self) -> usize {
        self.scales() + 2 * self.block_tokens
    }
}

impl Queries<'_> {
    /// Queries in all.
    pub fn count(&self) -> usize {
        self.positions.len() * self.group
    }

    /// Keys of the tile at `start` that query `i` sees.
    #[inline(always)]
    fn seen(&self, i: usize, start: usize) -> usize {
        (self.positions[i / self.group] + 1 - start).min(KEYS)
    }

    /// First query that sees key `key`; all after it do too.
    fn first_seeing(&self, key: usize) -> usize {
        self.positions.partition_point(|&position| position < key) * self.group
    }
}

/// Softmax over some keys, not yet divided: maxima, sums and weighted values of each query.
#[derive(Default)]
pub struct Partial {
    /// Per query.
    pub max: Vec<f32>,
    /// Per query.
    pub sum: Vec<f32>,
    /// Per query, `width` each.
    pub acc: Vec<f32>,
}

impl Partial {
    /// For `count` queries that have seen no key.
    pub fn reset(&mut self, count: usize, width: usize) {
        self.max.clear();
        self.max.resize(count, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(count, 0.0);
        self.acc.clear();
        self.acc.resize(count * width, 0.0);
    }
}

/// Memory of one thread, reused between calls.
#[derive(Default)]
pub struct Scratch {
    scores: Vec<f32>,
    /// Pairs.
    weights: Vec<Word>,
    softmax: Softmax,
    /// The span at hand.
    span: Partial,
    /// Everything before it.
    total: Partial,
}

/// Of a span's queries, up to whole sixteens; sums have sixteen lanes each.
#[derive(Default)]
struct Softmax {
    /// So far.
    maxima: Vec<f32>,
    /// Of the tile at hand.
    tile_maxima: Vec<f32>,
    /// What older sums are multiplied by.
    corrections: Vec<f32>,
    /// What the tile's sums are multiplied by.
    factors: Vec<f32>,
    sums: Vec<f32>,
}

impl Softmax {
    fn reset(&mut self, count: usize) {
        let whole = count.next_multiple_of(LANES);
        for lanes in [&mut self.maxima, &mut self.tile_maxima, &mut self.corrections, &mut self.factors] {
            lanes.clear();
            lanes.resize(whole, f32::NEG_INFINITY);
        }
        self.sums.clear();
        self.sums.resize(count * LANES, 0.0);
    }
}

/// Runs all keys of the queries; `out` gets `count × width`.
///
/// # Safety
/// The instruction set exists; `blocks` covers the largest position, and each points to `layout.words()` readable words
/// that nobody writes meanwhile.
pub type AttentionFn = unsafe fn(queries: &Queries<'_>, scratch: &mut Scratch, out: &mut [f32]);

/// Runs one span of the queries into `out`.
///
/// # Safety
/// As [`AttentionFn`].
pub type SpanFn = unsafe fn(queries: &Queries<'_>, span: usize, scratch: &mut Scratch, out: &mut Partial);

/// See [`AttentionFn`].
///
/// # Safety
/// As [`AttentionFn`].
pub unsafe fn attend<V: Vector>(queries: &Queries<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    let (count, width) = (queries.count(), queries.layout.width());
    assert_eq!(out.len(), count * width, "output of attention");
    let Some(&last) = queries.positions.last() else { return };
    let mut total = std::mem::take(&mut scratch.total);
    total.reset(count, width);
    let mut part = std::mem::take(&mut scratch.span);
    for span in 0..=last / SPAN {
        // SAFETY: the caller's promise.
        unsafe {
            attend_span::<V>(queries, span, scratch, &mut part);
            V::call(|| merge::<V>(&mut total, &part, width, queries.first_seeing(span * SPAN)));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { V::call(|| divide::<V>(&total, width, out)) };
    scratch.total = total;
    scratch.span = part;
}

/// `total` and `part` become one; queries before `first` have nothing in `part`.
///
/// # Safety
/// As [`AttentionFn`]; both are of equally many queries.
#[inline(always)]
pub unsafe fn merge<V: Vector>(total: &mut Partial, part: &Partial, width: usize, first: usize) {
    for i in first..total.max.len() {
        if total.max[i] == f32::NEG_INFINITY {
            (total.max[i], total.sum[i]) = (part.max[i], part.sum[i]);
            total.acc[i * width..(i + 1) * width].copy_from_slice(&part.acc[i * width..(i + 1) * width]);
            continue;
        }
        let max = total.max[i].max(part.max[i]);
        // SAFETY: the caller's promise; rows of acc are whole vectors.
        unsafe {
            let old = exp2(V::splat(total.max[i] - max));
            let new = exp2(V::splat(part.max[i] - max));
            let (a, b) = (old.lanes()[0], new.lanes()[0]);
            total.sum[i] = total.sum[i] * a + part.sum[i] * b;
            total.max[i] = max;
            for d in (i * width..(i + 1) * width).step_by(LANES) {
                let scaled = V::load(part.acc.as_ptr().add(d)).mul(new);
                let to = total.acc.as_mut_ptr().add(d);
                V::load(to).fma(old, scaled).store(to);
            }
        }
    }
}

/// `out = acc / sum`.
///
/// # Safety
/// As [`AttentionFn`]; `out` is as long as `total.acc`.
#[inline(always)]
pub unsafe fn divide<V: Vector>(total: &Partial, width: usize, out: &mut [f32]) {
    for (i, &sum) in total.sum.iter().enumerate() {
        for d in (i * width..(i + 1) * width).step_by(LANES) {
            // SAFETY: rows are whole vectors.
            unsafe {
                V::load(total.acc.as_ptr().add(d)).div(V::splat(sum)).store(out.as_mut_ptr().add(d));
            }
        }
    }
}

/// See [`SpanFn`].
///
/// # Safety
/// As [`AttentionFn`].
pub unsafe fn attend_span<V: Vector>(
    queries: &Queries<'_>,
    span: usize,
    scratch: &mut Scratch,
    out: &mut Partial,
) {
    let Queries { q, scales, positions, blocks, layout, .. } = *queries;
    let (count, width, pairs) = (queries.count(), layout.width(), layout.pairs());
    let block_tokens = layout.block_tokens;
    assert!(q.len() == count * pairs && scales.len() == count, "queries");
    assert!(block_tokens.is_multiple_of(LANES), "blocks of {block_tokens}");
    let Some(&last) = positions.last() else { return };
    assert!(last / block_tokens < blocks.len(), "blocks cover position {last}");
    out.reset(count, width);
    let Scratch { scores, weights, softmax, .. } = scratch;
    scores.resize(count * KEYS, 0.0);
    weights.resize(count * KEYS / 2, 0);
    softmax.reset(count);
    let end = (last + 1).min((span + 1) * SPAN);
    for start in (span * SPAN..end).step_by(KEYS) {
        let first = queries.first_seeing(start);
        let active = count - first;
        // A tile's sixteens past the last block are never seen; any words do there.
        let piece = |start: usize, n: usize| {
            let at = (start + n * LANES).min(blocks.len() * block_tokens - LANES);
            let (block, slot) = (blocks[at / block_tokens], at % block_tokens);
            // SAFETY: within the block by the caller's promise: slot + 16 <= block_tokens.
            unsafe {
                let scales = block.add(layout.scales() + slot).cast::<f32>();
                Piece {
                    keys: block.add(slot),
                    values: block.add(layout.values() + slot / 2 * width),
                    scales,
                    exponents: scales.add(block_tokens),
                }
            }
        };
        let pieces = [piece(start, 0), piece(start, 1)];
        // What the next tile reads is asked for line by line while this one is computed.
        let next = [piece(start + KEYS, 0), piece(start + KEYS, 1)];
        let tile = Tile { pieces, next, block_tokens, pairs, width };
        // SAFETY: the caller's promise; scratch is as long as resized above, `first + active` is `count`.
        unsafe {
            let (q, scales) = (q.as_ptr().add(first * pairs), scales.as_ptr().add(first));
            score::<V>(active, q, scales, &tile, scores.as_mut_ptr().add(first * KEYS));
            V::run(Soften { queries, first, start, tile: &tile, softmax, scores, weights });
            weigh::<V>(
                active,
                weights.as_ptr().add(first * KEYS / 2),
                [softmax.corrections.as_ptr().add(first), softmax.factors.as_ptr().add(first)],
                out.acc.as_mut_ptr().add(first * width),
                &tile,
            );
        }
    }
    out.max.copy_from_slice(&softmax.maxima[..count]);
    for (i, sum) in out.sum.iter_mut().enumerate() {
        // SAFETY: the caller's promise; sixteen lanes a query.
        *sum = unsafe { V::call(|| V::load(softmax.sums.as_ptr().add(i * LANES)).sum()) };
    }
}

/// Scores from query `first` become integer weights; maxima, sums, corrections and factors move on.
struct Soften<'a> {
    queries: &'a Queries<'a>,
    first: usize,
    start: usize,
    tile: &'a Tile,
    softmax: &'a mut Softmax,
    /// 32 a query.
    scores: &'a [f32],
    /// 16 pairs a query.
    weights: &'a mut [Word],
}

impl Task for Soften<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { queries, first, start, tile, softmax, scores, weights } = self;
        let count = queries.count();
        let Softmax { maxima, tile_maxima, corrections, factors, sums } = softmax;
        // SAFETY: the caller's promise: scores and weights have 32 a query, sums 16, the others whole sixteens.
        unsafe {
            // Queries that see the whole tile come last, for positions ascend.
            let whole = queries.first_seeing(start + KEYS - 1).max(first);
            let scores = scores.as_ptr();
            for i in first..count {
                let (mut a, mut b) = (V::load(scores.add(i * KEYS)), V::load(scores.add(i * KEYS + LANES)));
                if i < whole {
                    let infinity = V::splat(f32::NEG_INFINITY);
                    let seen = queries.seen(i, start);
                    (a, b) = (a.first(seen, infinity), b.first(seen.saturating_sub(LANES), infinity));
                }
                tile_maxima[i] = a.max(b).largest();
            }
            for i in (first / LANES * LANES..count).step_by(LANES) {
                let (old, new) = (V::load(maxima.as_ptr().add(i)), V::load(tile_maxima.as_ptr().add(i)));
                let max = new.max(old);
                // Lanes before `first` are of queries that see no key here; nobody reads them again.
                max.store(maxima.as_mut_ptr().add(i));
                exp2(old.sub(max)).store(corrections.as_mut_ptr().add(i));
                exp2(new.sub(max)).store(factors.as_mut_ptr().add(i));
            }
            let one = V::splat(WEIGHT_MAX as f32);
            let zero = V::splat(0.0);
            let r = zero.sub(V::load(tile.pieces[0].exponents)).power_of_two();
            let r2 = zero.sub(V::load(tile.pieces[1].exponents)).power_of_two();
            for i in first..count {
                let max = V::splat(tile_maxima[i]);
                let mut a = exp2(V::load(scores.add(i * KEYS)).sub(max));
                let mut b = exp2(V::load(scores.add(i * KEYS + LANES)).sub(max));
                let (mut r, mut r2) = (r, r2);
                if i < whole {
                    // The exponents too: what a block holds past the last position may be anything.
                    let (n, n2) = (queries.seen(i, start), queries.seen(i, start).saturating_sub(LANES));
                    (a, r) = (a.first(n, zero), r.first(n, zero));
                    (b, r2) = (b.first(n2, zero), r2.first(n2, zero));
                }
                let w = weights.as_mut_ptr().add(i * KEYS / 2).cast::<i16>();
                a.mul(one).store_i16(w);
                b.mul(one).store_i16(w.add(LANES));
                let l = sums.as_mut_ptr().add(i * LANES);
                let old = V::load(l).mul(V::splat(corrections[i]));
                b.fma(r2, a.mul(r)).fma(V::splat(factors[i]), old).store(l);
            }
        }
    }
}
