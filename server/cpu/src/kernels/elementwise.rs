//! Everything of a step that is neither a product nor attention: norms, rotary embedding, SiLU, quantization.
//!
//! Written once over [`Vector`]. Buffers are whole vectors: their owners pad rows to sixteens with zeros
//! ([`padded`]), which change neither a sum of squares nor a maximum. Bound: memory; a row of these is read and
//! written once.

use super::vector::{LANES, Vector, exp};
use crate::activations::{ActivationShares, RowMut};
use crate::packing::GROUP;

/// Elements that hold `count` in whole groups of 32.
pub fn padded(count: usize) -> usize {
    count.next_multiple_of(GROUP)
}

/// Writes `x · weight / rms(x)` to `out`, zeros behind it. The sum of squares has sixteen parts in a fixed order.
///
/// # Safety
/// The instruction set exists.
pub type NormFn = unsafe fn(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]);
/// See [`NormFn`].
///
/// # Safety
/// As [`NormFn`].
pub unsafe fn norm<V: Vector>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert!(weight.len() == x.len() && out.len() >= x.len(), "norm of {} elements", x.len());
    let whole = x.len() / LANES * LANES;
    // SAFETY: the caller's promise; all reads are below `whole`, tails go through arrays.
    unsafe {
        V::call(|| {
            let mut squares = V::splat(0.0);
            for i in (0..whole).step_by(LANES) {
                let v = V::load(x.as_ptr().add(i));
                squares = v.fma(v, squares);
            }
            let tail = tail::<V>(&x[whole..]);
            squares = tail.fma(tail, squares);
            let mean = squares.sum() / x.len() as f32;
            let scale = V::splat(1.0 / (mean + epsilon).sqrt());
            for i in (0..whole).step_by(LANES) {
                let v = V::load(x.as_ptr().add(i)).mul(scale).mul(V::load(weight.as_ptr().add(i)));
                v.store(out.as_mut_ptr().add(i));
            }
            let lanes = tail.mul(scale).mul(self::tail::<V>(&weight[whole..])).lanes();
            out[whole..x.len()].copy_from_slice(&lanes[..x.len() - whole]);
            out[x.len()..].fill(0.0);
        });
    }
}

/// Up to sixteen elements, zeros behind them.
#[inline(always)]
unsafe fn tail<V: Vector>(x: &[f32]) -> V {
    let mut lanes = [0f32; LANES];
    lanes[..x.len()].copy_from_slice(x);
    // SAFETY: the caller runs on the instruction set; the array has sixteen lanes.
    unsafe { V::load(lanes.as_ptr()) }
}

/// Quantizes a row; `x` has whole groups of 32.
///
/// # Safety
/// The instruction set exists.
pub type QuantizeFn = unsafe fn(x: &[f32], out: RowMut<'_>);
/// See [`QuantizeFn`].
///
/// # Safety
/// As [`QuantizeFn`].
pub unsafe fn quantize<V: Vector>(x: &[f32], mut out: RowMut<'_>) {
    let RowMut { q, scales, scaled_sums, minus_sums, minus_half_sums } = &out;
    let groups = x.len() / GROUP;
    assert!(x.len().is_multiple_of(GROUP) && q.len() == x.len(), "{} activations", x.len());
    assert!(scales.len() == groups && scaled_sums.len() == groups && minus_sums.len() == groups, "groups");
    assert!(minus_half_sums.len() == 2 * groups, "halves of groups");
    // SAFETY: the caller's promise; a group is two vectors, and all slices have the lengths asserted above.
    unsafe {
        V::call(|| {
            for g in 0..groups {
                let from = x.as_ptr().add(g * GROUP);
                quantize_group(V::load(from), V::load(from.add(LANES)), &mut out, g);
            }
        });
    }
}

/// One group.
#[inline(always)]
unsafe fn quantize_group<V: Vector>(a: V, b: V, out: &mut RowMut<'_>, g: usize) {
    // SAFETY: the caller runs on the instruction set; `q` has 32 numbers for each of the groups.
    unsafe {
        let max = a.abs().max(b.abs()).largest();
        let inverse = V::splat(if max > 0.0 { 127.0 / max } else { 0.0 });
        let to = out.q.as_mut_ptr().add(g * GROUP);
        let sums = [a.mul(inverse).store_i8(to), b.mul(inverse).store_i8(to.add(LANES))];
        let (scale, minus_sum) = (max / 127.0, -(sums[0] + sums[1]));
        out.scales[g] = scale;
        out.scaled_sums[g] = scale * minus_sum as f32;
        out.minus_sums[g] = minus_sum;
        out.minus_half_sums[2 * g] = -sums[0];
        out.minus_half_sums[2 * g + 1] = -sums[1];
    }
}

/// `silu(gate) · up` of 32 columns of some rows, quantized: group `group` of the rows from `first` of `out`.
///
/// # Safety
/// The instruction set exists; no other thread uses these groups, and what `out` lends is alive.
pub type SiluQuantizeFn =
    unsafe fn(gate: &[f32], up: &[f32], out: &ActivationShares, first: usize, group: usize);
/// See [`SiluQuantizeFn`]; `gate` and `up` are rows of 32.
///
/// # Safety
/// As [`SiluQuantizeFn`].
pub unsafe fn silu_quantize<V: Vector>(
    gate: &[f32],
    up: &[f32],
    out: &ActivationShares,
    first: usize,
    group: usize,
) {
    assert!(gate.len().is_multiple_of(GROUP) && up.len() == gate.len(), "gate and up");
    // SAFETY: the caller's promise and the lengths above; a group is two vectors.
    unsafe {
        V::call(|| {
            for m in 0..gate.len() / GROUP {
                let (gate, up) = (gate.as_ptr().add(m * GROUP), up.as_ptr().add(m * GROUP));
                let a = silu(V::load(gate), V::load(up));
                let b = silu(V::load(gate.add(LANES)), V::load(up.add(LANES)));
                quantize_group(a, b, &mut out.group(first + m, group), 0);
            }
        });
    }
}

/// `silu(gate) · up`.
#[inline(always)]
unsafe fn silu<V: Vector>(gate: V, up: V) -> V {
    // SAFETY: the caller runs on the instruction set.
    unsafe { gate.div(V::splat(1.0).add(exp(V::splat(0.0).sub(gate)))).mul(up) }
}

/// Rotates pairs `(i, i + half)` of a head by angles whose cosines and sines are given, then multiplies by `scale`.
///
/// # Safety
/// The instruction set exists.
pub type RotateFn = unsafe fn(head: &mut [f32], cosines: &[f32], sines: &[f32], scale: f32);
/// See [`RotateFn`]; `head` is twice as long as the others.
///
/// # Safety
/// As [`RotateFn`].
pub unsafe fn rotate<V: Vector>(head: &mut [f32], cosines: &[f32], sines: &[f32], scale: f32) {
    let half = head.len() / 2;
    assert!(
        cosines.len() == half && sines.len() == half && head.len() == 2 * half,
        "a head of {}",
        head.len()
    );
    // SAFETY: the caller's promise; parts shorter than sixteen go through arrays.
    unsafe {
        V::call(|| {
            let factor = V::splat(scale);
            let (low, high) = head.split_at_mut(half);
            for i in (0..half).step_by(LANES) {
                let n = LANES.min(half - i);
                let get = |x: &[f32]| {
                    if n == LANES { V::load(x.as_ptr().add(i)) } else { tail::<V>(&x[i..]) }
                };
                let (a, b, c, s) = (get(low), get(high), get(cosines), get(sines));
                let minus_b = V::splat(0.0).sub(b);
                let turned = [minus_b.fma(s, a.mul(c)).mul(factor), b.fma(c, a.mul(s)).mul(factor)];
                for (to, v) in [&mut *low, &mut *high].into_iter().zip(turned) {
                    if n == LANES {
                        v.store(to.as_mut_ptr().add(i));
                    } else {
                        to[i..].copy_from_slice(&v.lanes()[..n]);
                    }
                }
            }
        });
    }
}

/// Rows of 32 values to `to`, whose rows are `stride` apart: stored there, or added to what is there.
///
/// # Safety
/// The instruction set exists; `to` has a row of 32 for each row of `values`, and nobody else uses them.
pub type RowsFn = unsafe fn(values: &[f32], to: *mut f32, stride: usize);
/// See [`RowsFn`].
///
/// # Safety
/// As [`RowsFn`].
pub unsafe fn rows<V: Vector, const ADD: bool>(values: &[f32], to: *mut f32, stride: usize) {
    // SAFETY: the caller's promise; a row is two vectors.
    unsafe {
        V::call(|| {
            for (m, row) in values.as_chunks::<GROUP>().0.iter().enumerate() {
                for half in [0, LANES] {
                    let (value, to) = (V::load(row.as_ptr().add(half)), to.add(m * stride + half));
                    (if ADD { V::load(to).add(value) } else { value }).store(to);
                }
            }
        });
    }
}

/// `x += y`.
///
/// # Safety
/// The instruction set exists.
pub type AddFn = unsafe fn(x: &mut [f32], y: &[f32]);
/// See [`AddFn`]; equally long.
///
/// # Safety
/// As [`AddFn`].
pub unsafe fn add<V: Vector>(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "sum of rows");
    // SAFETY: the caller's promise.
    unsafe {
        V::call(|| {
            for (x, y) in x.iter_mut().zip(y) {
                *x += y;
            }
        });
    }
}
