//! Attention of up to eight queries that read the same KV head.
//!
//! ```text
//! for each block of keys from the first to the last any query sees:
//!   for each query: s[t] = q · K[t], minus infinity past the query's position
//!     m' = max(m, max s) ; c = exp(m - m') ; p = exp(s - m')
//!     l = l c + sum p ; acc = acc c + p V          (Milakov and Gimelshein 2018, arXiv:1805.02867)
//! out = acc / l
//! ```
//! Blocks begin at absolute positions and each query's arithmetic is its own, so that its result depends neither
//! on the chunk it came in nor on the queries beside it: for a block past its position, c is 1 and p is 0.

/// Queries of one call at most: all the query heads of a KV head in common models, or several positions.
pub const QUERIES_MAX: usize = 8;
/// Keys of a block that the AVX-512 form takes.
const KEYS: usize = 32;

/// The queries of one call and where their keys are.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// `n × head_dim`, already scaled.
    pub q: &'a [f32],
    /// Each query sees keys `0..=position`.
    pub positions: &'a [usize],
    /// Each block's K `[head_dim][block_tokens]` f16, its V `[block_tokens][head_dim]` following.
    pub blocks: &'a [*const u16],
    /// Positions of a block.
    pub block_tokens: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Writes `n × head_dim` to `out`.
///
/// # Safety
/// The instruction set exists; `blocks` covers the largest position, and each points to `2 × head_dim ×
/// block_tokens` readable halves that nobody writes meanwhile.
pub type AttentionFn = unsafe fn(queries: Queries<'_>, out: &mut [f32]);

/// # Safety
/// As [`AttentionFn`].
#[inline(always)]
unsafe fn plain(queries: Queries<'_>, out: &mut [f32]) {
    let Queries { q, positions, blocks, block_tokens, head_dim } = queries;
    let half = |block: *const u16, at: usize| {
        // SAFETY: `at` < 2 × head_dim × block_tokens in every use below.
        half::f16::from_bits(unsafe { *block.add(at) }).to_f32()
    };
    let mut scores = vec![0f32; block_tokens];
    for (i, &position) in positions.iter().enumerate() {
        let q = &q[i * head_dim..(i + 1) * head_dim];
        let out = &mut out[i * head_dim..(i + 1) * head_dim];
        out.fill(0.0);
        let (mut max, mut total) = (f32::NEG_INFINITY, 0f32);
        for (b, &block) in blocks.iter().enumerate().take(position / block_tokens + 1) {
            let seen = block_tokens.min(position + 1 - b * block_tokens);
            let mut new_max = max;
            for (t, score) in scores[..seen].iter_mut().enumerate() {
                *score = q.iter().enumerate().map(|(d, q)| q * half(block, d * block_tokens + t)).sum();
                new_max = new_max.max(*score);
            }
            let scale = (max - new_max).exp();
            total *= scale;
            out.iter_mut().for_each(|o| *o *= scale);
            let values = head_dim * block_tokens;
            for (t, score) in scores[..seen].iter().enumerate() {
                let p = (score - new_max).exp();
                total += p;
                for (d, o) in out.iter_mut().enumerate() {
                    *o += p * half(block, values + t * head_dim + d);
                }
            }
            max = new_max;
        }
        out.iter_mut().for_each(|o| *o /= total);
    }
}

/// See [`AttentionFn`].
///
/// # Safety
/// As [`AttentionFn`].
pub unsafe fn portable(queries: Queries<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { plain(queries, out) };
}

/// See [`AttentionFn`].
///
/// # Safety
/// As [`AttentionFn`], with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn avx2(queries: Queries<'_>, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe { plain(queries, out) };
}

/// See [`AttentionFn`]. Head widths of whole 32s in blocks of 32; others take the portable form.
///
/// # Safety
/// As [`AttentionFn`], with AVX-512 F, BW, VL and F16C.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
pub unsafe fn avx512(queries: Queries<'_>, out: &mut [f32]) {
    use std::arch::x86_64::*;
    let Queries { q, positions, blocks, block_tokens, head_dim } = queries;
    let n = positions.len();
    assert!(n <= QUERIES_MAX && q.len() == n * head_dim && out.len() == n * head_dim);
    if block_tokens != KEYS || !head_dim.is_multiple_of(32) {
        // SAFETY: the caller's promise.
        return unsafe { plain(queries, out) };
    }
    let Some(&last) = positions.iter().max() else { return };
    assert!(last / KEYS < blocks.len(), "blocks cover position {last}");
    const N: usize = QUERIES_MAX;
    let mut maxima = [f32::NEG_INFINITY; 16];
    let mut totals = [0f32; N];
    let mut weights = [[0f32; KEYS]; N];
    out.fill(0.0);
    for (b, &block) in blocks.iter().enumerate().take(last / KEYS + 1) {
        // Rows past n repeat the last query; their results are never used.
        let row = |i: usize| i.min(n - 1) * head_dim;
        let mut scores = [[_mm512_setzero_ps(); 2]; N];
        for d in 0..head_dim {
            // SAFETY: row d of K is 32 halves; d < head_dim; q has n rows of head_dim.
            unsafe {
                let keys = block.add(d * KEYS);
                let low = _mm512_cvtph_ps(_mm256_loadu_si256(keys.cast()));
                let high = _mm512_cvtph_ps(_mm256_loadu_si256(keys.add(16).cast()));
                for (i, score) in scores.iter_mut().enumerate() {
                    let q = _mm512_set1_ps(*q.get_unchecked(row(i) + d));
                    score[0] = _mm512_fmadd_ps(q, low, score[0]);
                    score[1] = _mm512_fmadd_ps(q, high, score[1]);
                }
            }
        }
        let mut new_maxima = maxima;
        let mut masks = [0u32; N];
        for i in 0..N {
            let seen = (positions[i.min(n - 1)] + 1).saturating_sub(b * KEYS).min(KEYS);
            masks[i] = if seen == KEYS { u32::MAX } else { (1u32 << seen) - 1 };
            let infinity = _mm512_set1_ps(f32::NEG_INFINITY);
            let low = _mm512_mask_mov_ps(infinity, masks[i] as u16, scores[i][0]);
            let high = _mm512_mask_mov_ps(infinity, (masks[i] >> 16) as u16, scores[i][1]);
            new_maxima[i] = new_maxima[i].max(_mm512_reduce_max_ps(_mm512_max_ps(low, high)));
        }
        // SAFETY: arrays of 16 floats.
        let scale = unsafe {
            let old = _mm512_loadu_ps(maxima.as_ptr());
            let new = _mm512_loadu_ps(new_maxima.as_ptr());
            exp(_mm512_sub_ps(old, new))
        };
        let mut scales = [0f32; 16];
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(scales.as_mut_ptr(), scale) };
        for i in 0..N {
            let max = _mm512_set1_ps(new_maxima[i]);
            let low = exp(_mm512_sub_ps(scores[i][0], max));
            let high = exp(_mm512_sub_ps(scores[i][1], max));
            let low = _mm512_maskz_mov_ps(masks[i] as u16, low);
            let high = _mm512_maskz_mov_ps((masks[i] >> 16) as u16, high);
            totals[i] = totals[i] * scales[i] + _mm512_reduce_add_ps(_mm512_add_ps(low, high));
            // SAFETY: a row of weights is 32 floats.
            unsafe {
                _mm512_storeu_ps(weights[i].as_mut_ptr(), low);
                _mm512_storeu_ps(weights[i].as_mut_ptr().add(16), high);
            }
        }
        maxima = new_maxima;
        for d in (0..head_dim).step_by(32) {
            let mut sums = [[_mm512_setzero_ps(); 2]; N];
            for i in 0..n {
                let scale = _mm512_set1_ps(scales[i]);
                // SAFETY: out has n rows of head_dim, and d + 32 <= head_dim.
                unsafe {
                    let acc = out.as_ptr().add(i * head_dim + d);
                    sums[i][0] = _mm512_mul_ps(_mm512_loadu_ps(acc), scale);
                    sums[i][1] = _mm512_mul_ps(_mm512_loadu_ps(acc.add(16)), scale);
                }
            }
            for t in 0..KEYS {
                // SAFETY: V follows K; row t is head_dim halves and d + 32 <= head_dim.
                unsafe {
                    let values = block.add(head_dim * KEYS + t * head_dim + d);
                    let low = _mm512_cvtph_ps(_mm256_loadu_si256(values.cast()));
                    let high = _mm512_cvtph_ps(_mm256_loadu_si256(values.add(16).cast()));
                    for i in 0..N {
                        let p = _mm512_set1_ps(weights[i][t]);
                        sums[i][0] = _mm512_fmadd_ps(p, low, sums[i][0]);
                        sums[i][1] = _mm512_fmadd_ps(p, high, sums[i][1]);
                    }
                }
            }
            for (i, sum) in sums.iter().enumerate().take(n) {
                // SAFETY: as for the loads.
                unsafe {
                    let acc = out.as_mut_ptr().add(i * head_dim + d);
                    _mm512_storeu_ps(acc, sum[0]);
                    _mm512_storeu_ps(acc.add(16), sum[1]);
                }
            }
        }
    }
    for (i, total) in totals.iter().enumerate().take(n) {
        out[i * head_dim..(i + 1) * head_dim].iter_mut().for_each(|o| *o /= total);
    }
}

/// exp of non-positive numbers: 2^n · p(r), p of degree 6 on |r| ≤ ln 2 / 2 (Cephes' expf coefficients); below
/// -87.3 the smallest normal number, which callers mask.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn exp(x: std::arch::x86_64::__m512) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::*;
    let x = _mm512_max_ps(x, _mm512_set1_ps(-87.3));
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
    let mut p = _mm512_set1_ps(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 5e-1] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    let p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, _mm512_add_ps(r, _mm512_set1_ps(1.0)));
    _mm512_scalef_ps(p, n)
}
