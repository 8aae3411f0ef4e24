//! Sixteen f32 lanes: what the algorithms that all instruction sets share are written over.
//!
//! One AVX-512 register, two AVX registers, or an array. Every operation is one IEEE operation a lane (with fused
//! multiply-add), and sums over lanes have one order, so an algorithm gives the same bits on every instruction set
//! that fuses. The portable form fuses where its target does.
//! How: methods are inlined into functions compiled for the instruction set ([`crate::isa`]); outside of those they
//! must not be called, which is why all are unsafe.

/// Lanes of a [`Vector`].
pub const LANES: usize = 16;

/// What is too long for a closure: LLVM inlines those by their length, and one that it leaves alone is compiled without
/// the instruction set, each operation a call: a hundred times slower and right all the same.
pub trait Task {
    /// Does it; to be marked `#[inline(always)]`.
    ///
    /// # Safety
    /// As [`Vector`], and what the task says.
    unsafe fn run<V: Vector>(self);
}

/// Sixteen lanes of f32.
///
/// # Safety (of every method)
/// The caller runs on a processor with the implementor's instruction set; pointers are valid for sixteen elements.
#[allow(clippy::missing_safety_doc)]
pub trait Vector: Copy {
    /// Sixteen integers of 32 bits, or as many pairs of 16 bits.
    type Integers: Copy;
    /// Attention queries whose sums fit the registers.
    const QUERIES: usize;
    /// Whether each of them has two vectors of sums there.
    const WIDE: bool;

    /// Runs `f` compiled for the instruction set, if LLVM finds it small enough to be inlined.
    unsafe fn call<R>(f: impl FnOnce() -> R) -> R;
    /// Runs `task` compiled for the instruction set, however long it is.
    unsafe fn run<T: Task>(task: T);
    /// Asks the second-level cache for the line at an address, which need not exist.
    fn prefetch(_at: *const i32) {}

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self;
    /// From memory, unaligned.
    unsafe fn load(from: *const f32) -> Self;
    /// To memory, unaligned.
    unsafe fn store(self, to: *mut f32);
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self - b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// `self · b`.
    unsafe fn mul(self, b: Self) -> Self;
    /// `self / b`.
    unsafe fn div(self, b: Self) -> Self;
    /// `self · b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// The larger; where either is NaN, `b`.
    unsafe fn max(self, b: Self) -> Self;
    /// The smaller; where either is NaN, `b`.
    unsafe fn min(self, b: Self) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of each lane, which is an integer from -126 to 127.
    unsafe fn power_of_two(self) -> Self;
    /// Lanes below `count` from `self`, the others from `other`.
    unsafe fn first(self, count: usize, other: Self) -> Self;
    /// Rounds to nearest even, stores sixteen int8 (lanes are within -127 to 127) and returns their sum.
    unsafe fn store_i8(self, to: *mut i8) -> i32;
    /// Rounds to nearest even and stores sixteen int16; lanes are within -32767 to 32767.
    unsafe fn store_i16(self, to: *mut i16);
    /// Zeros.
    unsafe fn no_integers() -> Self::Integers;
    /// From memory, unaligned.
    unsafe fn load_integers(from: *const i32) -> Self::Integers;
    /// All lanes `x`.
    unsafe fn splat_integer(x: i32) -> Self::Integers;
    /// To each sum both products of a lane's pairs are added, wrapping.
    unsafe fn add_products(sums: Self::Integers, a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// To the nearest f32, ties to even.
    unsafe fn from_integers(x: Self::Integers) -> Self;

    /// Lanes as an array.
    #[inline(always)]
    unsafe fn lanes(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array has sixteen lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }

    /// Sum of all lanes: halves added until one lane is left.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller's promise.
        halve(unsafe { self.lanes() }, |a, b| a + b)
    }

    /// Largest lane; NaN lanes do not count unless all are.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller's promise.
        halve(unsafe { self.lanes() }, f32::max)
    }

    /// `|self|`.
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.max(Self::splat(0.0).sub(self)) }
    }
}

/// Sixteen lanes to one by `f` over halves: lane i with lane i + 8, then 4, 2, 1.
#[inline(always)]
pub fn halve(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// exp: 2^n · p(r) with n = round(x / ln 2) and |r| ≤ ln 2 / 2, p of degree 6 (Cephes' expf coefficients). Exactly 1
/// for 0. Below -87.3 the smallest normal number, above 88 about 1.7e38: callers mask or do not care. Error below
/// 2 units in the last place.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
pub unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = V::splat(88.0).min(V::splat(-87.3).max(x));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        // ln 2 in two parts, so that n · ln 2 is exact in the first.
        let r = n.fma(V::splat(-0.693_359_4), x);
        let r = n.fma(V::splat(2.121_944_4e-4), r);
        let mut p = V::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 5e-1] {
            p = p.fma(r, V::splat(c));
        }
        let p = r.mul(r).fma(p, r.add(V::splat(1.0)));
        p.mul(n.power_of_two())
    }
}

/// 2^x: 2^n · p(r) with n = round(x) and r = x − n, p of degree 5 by least squares weighted towards the largest relative
/// error, which is 2.4e-7; exactly 1 for 0. Below -126 the smallest normal number, above 127 about 2^127: callers mask
/// or do not care.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
pub unsafe fn exp2<V: Vector>(x: V) -> V {
    use std::f32::consts::LN_2;
    // SAFETY: the caller's promise.
    unsafe {
        let x = V::splat(127.0).min(V::splat(-126.0).max(x));
        let n = x.round();
        let r = x.sub(n);
        let mut p = V::splat(1.326_472_7e-3);
        for c in [9.671_513e-3, 5.550_733_6e-2, 2.402_224_2e-1, LN_2, 1.0] {
            p = p.fma(r, V::splat(c));
        }
        p.mul(n.power_of_two())
    }
}
