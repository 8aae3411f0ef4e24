//! Attention of one KV head: all its query heads, of one position or of a tile of positions.
//!
//! ```text
//! for each span of 512 keys:  m = -inf ; l = 0 (16 lanes) ; acc = 0
//!   for each tile of 32 keys up to the query's position:
//!     s[t] = Σ_d q[d] · K[d][t]                       d in order, fused; -inf past the query's position
//!     m'   = max(m, max s) ; c = exp(m − m') ; p[t] = exp(s[t] − m')
//!     l    = l · c + (p[0..16] + p[16..32]) ; acc = acc · c ; acc += p[t] · V[t]      t in order, fused
//!   merge: M' = max(M, m) ; L = L exp(M − M') + l exp(m − M') ; A likewise
//! out = A / L                                          (Milakov and Gimelshein 2018, arXiv:1805.02867)
//! ```
//! Tiles and spans begin at absolute positions and each query's arithmetic is its own: its result depends neither on
//! the chunk, the queries beside it, who computes a span, nor `block_tokens`. Tiles past the last query's position
//! are skipped. Many queries: K and V are converted to f32 once a tile; few: while they are loaded.
//! Operations: 4 · head_dim a query and key; bytes: 4 · head_dim a key. Bound: fused multiply-adds in prefill.

use super::vector::{LANES, Vector, exp};

/// Keys of a tile.
pub const KEYS: usize = 32;
/// Keys whose softmax is computed apart and then merged; threads may take different spans of one query.
pub const SPAN: usize = 512;
const _: () = assert!(SPAN.is_multiple_of(KEYS) && KEYS == 2 * LANES);

/// The queries of one call and where their keys are.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// `positions.len() × group × head_dim`, already scaled.
    pub q: &'a [f32],
    /// Position of each token, ascending; its `group` queries see keys `0..=position`.
    pub positions: &'a [usize],
    /// Query heads of the KV head.
    pub group: usize,
    /// Each block's K `[head_dim][block_tokens]` f16, its V `[block_tokens][width]` following.
    pub blocks: &'a [*const u16],
    /// Positions of a block, a multiple of 16.
    pub block_tokens: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// `head_dim` up to whole sixteens: elements of a row of V, of `acc` and of the output.
    pub width: usize,
}

impl Queries<'_> {
    /// Queries in all.
    pub fn count(&self) -> usize {
        self.positions.len() * self.group
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
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    maxima: Vec<f32>,
    corrections: Vec<f32>,
    sums: Vec<f32>,
    /// The span at hand.
    span: Partial,
    /// Everything before it.
    pub total: Partial,
}

/// Runs all keys of the queries; `out` gets `count × width`.
///
/// # Safety
/// The instruction set exists; `blocks` covers the largest position, and each points to `(head_dim + width) ×
/// block_tokens` readable finite halves that nobody writes meanwhile.
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
    let count = queries.count();
    assert_eq!(out.len(), count * queries.width, "output of attention");
    let Some(&last) = queries.positions.last() else { return };
    let mut total = std::mem::take(&mut scratch.total);
    total.reset(count, queries.width);
    let mut part = std::mem::take(&mut scratch.span);
    for span in 0..=last / SPAN {
        // SAFETY: the caller's promise.
        unsafe {
            attend_span::<V>(queries, span, scratch, &mut part);
            V::call(|| merge::<V>(&mut total, &part, queries.width, queries.first_seeing(span * SPAN)));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { V::call(|| divide::<V>(&total, queries.width, out)) };
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
            let old = exp(V::splat(total.max[i] - max));
            let new = exp(V::splat(part.max[i] - max));
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
    let Queries { q, positions, blocks, block_tokens, head_dim, width, .. } = *queries;
    let count = queries.count();
    assert!(q.len() == count * head_dim && width == head_dim.next_multiple_of(LANES), "queries");
    assert!(block_tokens.is_multiple_of(LANES), "blocks of {block_tokens}");
    let Some(&last) = positions.last() else { return };
    assert!(last / block_tokens < blocks.len(), "blocks cover position {last}");
    out.reset(count, width);
    let whole = count.next_multiple_of(LANES);
    let Scratch { keys, values, scores, maxima, corrections, sums, .. } = scratch;
    scores.resize(count * KEYS, 0.0);
    keys.resize(head_dim * KEYS, 0.0);
    values.resize(KEYS * width, 0.0);
    sums.clear();
    sums.resize(count * LANES, 0.0);
    for lanes in [&mut *maxima, &mut *corrections] {
        lanes.clear();
        lanes.resize(whole, f32::NEG_INFINITY);
    }
    let end = (last + 1).min((span + 1) * SPAN);
    for start in (span * SPAN..end).step_by(KEYS) {
        let first = queries.first_seeing(start);
        // A tile's sixteens past the last block are never seen; any finite numbers do there.
        let piece = |start: usize, n: usize| {
            let at = (start + n * LANES).min(blocks.len() * block_tokens - LANES);
            let (block, slot) = (blocks[at / block_tokens], at % block_tokens);
            // SAFETY: within the block by the caller's promise: slot + 16 <= block_tokens.
            unsafe { (block.add(slot), block.add(head_dim * block_tokens + slot * width)) }
        };
        let (pieces, active) = ([piece(start, 0), piece(start, 1)], count - first);
        // What the next tile reads is asked for line by line while this one is computed.
        let next = [piece(start + KEYS, 0), piece(start + KEYS, 1)];
        let tile = Tile { pieces, next, block_tokens, head_dim, width };
        // SAFETY: the caller's promise; scratch is as long as resized above, `first + active` is `count`.
        unsafe {
            let q = q.as_ptr().add(first * head_dim);
            let s = scores.as_mut_ptr().add(first * KEYS);
            let converted = active > V::QUERIES;
            if converted {
                V::call(|| convert::<V>(&tile, keys, values));
                let keys = keys.as_ptr();
                score::<V>(active, q, head_dim, s, |d, n| V::load(keys.add(d * KEYS + n * LANES)));
            } else {
                score::<V>(active, q, head_dim, s, |d, n| {
                    V::prefetch(next[n].0.wrapping_add(d * block_tokens));
                    V::load_half(pieces[n].0.add(d * block_tokens))
                });
            }
            V::call(|| {
                soften::<V>(queries, first, start, &mut out.max, maxima, corrections, scores, sums);
            });
            let p = scores.as_ptr().add(first * KEYS);
            let c = corrections.as_ptr().add(first);
            let acc = out.acc.as_mut_ptr().add(first * width);
            if converted {
                let values = values.as_ptr();
                weigh::<V>(active, p, c, acc, width, |t, d| V::load(values.add(t * width + d)));
            } else {
                weigh::<V>(active, p, c, acc, width, |t, d| {
                    V::prefetch(next[t / LANES].1.wrapping_add(t % LANES * width + d));
                    V::load_half(pieces[t / LANES].1.add(t % LANES * width + d))
                });
            }
        }
    }
    for (i, sum) in out.sum.iter_mut().enumerate() {
        // SAFETY: the caller's promise; sixteen lanes a query.
        *sum = unsafe { V::call(|| V::load(sums.as_ptr().add(i * LANES)).sum()) };
    }
}

/// Where a tile's keys and values are: two pieces of sixteen positions, K and V of each;
/// and those of the tile after it.
#[derive(Clone, Copy)]
struct Tile {
    pieces: [(*const u16, *const u16); 2],
    next: [(*const u16, *const u16); 2],
    block_tokens: usize,
    head_dim: usize,
    width: usize,
}

/// K as `[head_dim][32]` f32, V as `[32][width]`.
#[inline(always)]
unsafe fn convert<V: Vector>(tile: &Tile, keys: &mut [f32], values: &mut [f32]) {
    // SAFETY: the caller's promise: both buffers and both pieces are that long.
    unsafe {
        for (n, ((k, v), (next_k, next_v))) in tile.pieces.iter().zip(tile.next).enumerate() {
            for d in 0..tile.head_dim {
                V::prefetch(next_k.wrapping_add(d * tile.block_tokens));
                V::load_half(k.add(d * tile.block_tokens)).store(keys.as_mut_ptr().add(d * KEYS + n * LANES));
            }
            for i in (0..LANES * tile.width).step_by(LANES) {
                V::prefetch(next_v.wrapping_add(i));
                V::load_half(v.add(i)).store(values.as_mut_ptr().add(n * LANES * tile.width + i));
            }
        }
    }
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
unsafe fn score<V: Vector>(
    count: usize,
    q: *const f32,
    head_dim: usize,
    scores: *mut f32,
    key: impl Fn(usize, usize) -> V + Copy,
) {
    let mut i = 0;
    while i < count {
        let n = share(count - i, V::QUERIES);
        // SAFETY: the caller's promise; queries i..i + n exist.
        unsafe {
            let (q, s) = (q.add(i * head_dim), scores.add(i * KEYS));
            for_count!(n, score_some(q, head_dim, s, key));
        }
        i += n;
    }
}

unsafe fn score_some<V: Vector, const Q: usize>(
    q: *const f32,
    head_dim: usize,
    scores: *mut f32,
    key: impl Fn(usize, usize) -> V + Copy,
) {
    #[inline(always)]
    unsafe fn some<V: Vector, const Q: usize, const N: usize>(
        q: *const f32,
        head_dim: usize,
        scores: *mut f32,
        first: usize,
        key: impl Fn(usize, usize) -> V,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [[V::splat(0.0); N]; Q];
            for d in 0..head_dim {
                let k: [V; N] = std::array::from_fn(|n| key(d, first + n));
                for i in 0..Q {
                    let q = V::splat(*q.add(i * head_dim + d));
                    for n in 0..N {
                        acc[i][n] = q.fma(k[n], acc[i][n]);
                    }
                }
            }
            for i in 0..Q {
                for n in 0..N {
                    acc[i][n].store(scores.add(i * KEYS + (first + n) * LANES));
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        V::call(|| {
            if V::WIDE {
                some::<V, Q, 2>(q, head_dim, scores, 0, key);
            } else {
                some::<V, Q, 1>(q, head_dim, scores, 0, key);
                some::<V, Q, 1>(q, head_dim, scores, 1, key);
            }
        });
    }
}

/// Scores from query `first` become weights; maxima, sums and corrections move on.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn soften<V: Vector>(
    queries: &Queries<'_>,
    first: usize,
    start: usize,
    max_out: &mut [f32],
    maxima: &mut [f32],
    corrections: &mut [f32],
    scores: &mut [f32],
    sums: &mut [f32],
) {
    let count = queries.count();
    // SAFETY: the caller's promise: scores have 32 a query, sums 16, maxima and corrections whole sixteens.
    unsafe {
        let infinity = V::splat(f32::NEG_INFINITY);
        let seen = |i: usize| (queries.positions[i / queries.group] + 1 - start).min(KEYS);
        for i in first..count {
            let s = scores.as_mut_ptr().add(i * KEYS);
            let (mut a, mut b) = (V::load(s), V::load(s.add(LANES)));
            if seen(i) < KEYS {
                a = a.first(seen(i), infinity);
                b = b.first(seen(i).saturating_sub(LANES), infinity);
            }
            let largest = a.max(b).largest();
            max_out[i] = if largest > maxima[i] { largest } else { maxima[i] };
        }
        for i in (first / LANES * LANES..count).step_by(LANES) {
            let old = V::load(maxima.as_ptr().add(i));
            let n = LANES.min(count - i);
            maxima[i..i + n].copy_from_slice(&max_out[i..i + n]);
            exp(old.sub(V::load(maxima.as_ptr().add(i)))).store(corrections.as_mut_ptr().add(i));
        }
        for i in first..count {
            let s = scores.as_mut_ptr().add(i * KEYS);
            let max = V::splat(maxima[i]);
            let mut a = exp(V::load(s).sub(max));
            let mut b = exp(V::load(s.add(LANES)).sub(max));
            if seen(i) < KEYS {
                a = a.first(seen(i), V::splat(0.0));
                b = b.first(seen(i).saturating_sub(LANES), V::splat(0.0));
            }
            a.store(s);
            b.store(s.add(LANES));
            let l = sums.as_mut_ptr().add(i * LANES);
            V::load(l).fma(V::splat(corrections[i]), a.add(b)).store(l);
        }
    }
}

/// `acc = acc · c + p V` of `count` queries.
unsafe fn weigh<V: Vector>(
    count: usize,
    p: *const f32,
    c: *const f32,
    acc: *mut f32,
    width: usize,
    value: impl Fn(usize, usize) -> V + Copy,
) {
    let mut i = 0;
    while i < count {
        let n = share(count - i, V::QUERIES);
        // SAFETY: the caller's promise; queries i..i + n exist.
        unsafe {
            let (p, c, acc) = (p.add(i * KEYS), c.add(i), acc.add(i * width));
            for_count!(n, weigh_some(p, c, acc, width, value));
        }
        i += n;
    }
}

unsafe fn weigh_some<V: Vector, const Q: usize>(
    p: *const f32,
    c: *const f32,
    acc: *mut f32,
    width: usize,
    value: impl Fn(usize, usize) -> V + Copy,
) {
    #[inline(always)]
    unsafe fn some<V: Vector, const Q: usize, const N: usize>(
        p: *const f32,
        c: *const f32,
        acc: *mut f32,
        width: usize,
        d: usize,
        value: impl Fn(usize, usize) -> V,
    ) {
        // SAFETY: the caller's promise; d + 16 N <= width.
        unsafe {
            let at = |i: usize, n: usize| acc.add(i * width + d + n * LANES);
            let mut sums: [[V; N]; Q] =
                std::array::from_fn(|i| std::array::from_fn(|n| V::load(at(i, n)).mul(V::splat(*c.add(i)))));
            for t in 0..KEYS {
                let v: [V; N] = std::array::from_fn(|n| value(t, d + n * LANES));
                for i in 0..Q {
                    let p = V::splat(*p.add(i * KEYS + t));
                    for n in 0..N {
                        sums[i][n] = p.fma(v[n], sums[i][n]);
                    }
                }
            }
            for i in 0..Q {
                for n in 0..N {
                    sums[i][n].store(at(i, n));
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        V::call(|| {
            let mut d = 0;
            while V::WIDE && d + 2 * LANES <= width {
                some::<V, Q, 2>(p, c, acc, width, d, value);
                d += 2 * LANES;
            }
            while d < width {
                some::<V, Q, 1>(p, c, acc, width, d, value);
                d += LANES;
            }
        });
    }
}
