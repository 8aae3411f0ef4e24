//! [`Vector`] as an array, for any target.

use half::f16;

use crate::kernels::vector::{LANES, Vector};

/// Sixteen lanes in an array.
#[derive(Clone, Copy)]
pub struct V([f32; LANES]);

#[inline(always)]
fn map2(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    V(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

impl Vector for V {
    const QUERIES: usize = 2;
    const WIDE: bool = false;

    #[inline]
    unsafe fn call<R>(f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract: sixteen elements, at any alignment.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        // SAFETY: as for `load`.
        let halves = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self(halves.map(|h| f16::from_bits(h).to_f32()))
    }

    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        // SAFETY: as for `load`.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(self.0.map(|x| f16::from_f32(x).to_bits())) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        map2(self, b, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        map2(self, b, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        map2(self, b, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        map2(self, b, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| super::fma(self.0[i], b.0[i], c.0[i])))
    }

    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        map2(self, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        map2(self, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }

    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        Self(self.0.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23)))
    }

    #[inline(always)]
    unsafe fn first(self, count: usize, other: Self) -> Self {
        Self(std::array::from_fn(|i| if i < count { self.0[i] } else { other.0[i] }))
    }

    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) -> i32 {
        let q = self.0.map(|x| x.round_ties_even() as i8);
        // SAFETY: as for `load`.
        unsafe { to.cast::<[i8; LANES]>().write_unaligned(q) };
        q.iter().map(|&q| i32::from(q)).sum()
    }
}
