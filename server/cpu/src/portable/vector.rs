//! [`Vector`] as an array, for any target.

use crate::kernels::vector::{LANES, Task, Vector};

/// Sixteen lanes in an array.
#[derive(Clone, Copy)]
pub struct V([f32; LANES]);

#[inline(always)]
fn map2(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    V(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

impl Vector for V {
    type Integers = [i32; LANES];

    const QUERIES: usize = 2;
    const WIDE: bool = false;

    #[inline]
    unsafe fn call<R>(f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline]
    unsafe fn run<T: Task>(task: T) {
        // SAFETY: the trait's contract and the task's own, which the caller promises.
        unsafe { task.run::<Self>() }
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
        Self(self.0.map(|n| f32::from_bits((n as i32).wrapping_add(127).cast_unsigned() << 23)))
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

    #[inline(always)]
    unsafe fn store_i16(self, to: *mut i16) {
        let q = self.0.map(|x| x.round_ties_even() as i16);
        // SAFETY: as for `load`.
        unsafe { to.cast::<[i16; LANES]>().write_unaligned(q) };
    }

    #[inline(always)]
    unsafe fn no_integers() -> [i32; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> [i32; LANES] {
        // SAFETY: as for `load`.
        unsafe { from.cast::<[i32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat_integer(x: i32) -> [i32; LANES] {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn add_products(sums: [i32; LANES], a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        let product = |a: i32, b: i32| {
            let low = i32::from(a as i16) * i32::from(b as i16);
            low.wrapping_add((a >> 16) * (b >> 16))
        };
        std::array::from_fn(|i| sums[i].wrapping_add(product(a[i], b[i])))
    }

    #[inline(always)]
    unsafe fn from_integers(x: [i32; LANES]) -> Self {
        Self(x.map(|x| x as f32))
    }
}
