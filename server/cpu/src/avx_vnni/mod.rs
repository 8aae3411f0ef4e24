//! `VPDPBUSD` on 256-bit registers: Intel's consumer processors from the 12th generation, AMD from Zen 5.
//!
//! The same source as AVX2 ([`crate::avx2::product`]), compiled twice: with the VEX encoding, which those processors
//! have, and with the EVEX encoding, which every AVX-512 VNNI machine has; the second proves the results of the
//! first where there is no such processor to test on. Attention and the rest are AVX2's.

use std::arch::x86_64::*;

use crate::avx2::product::{Dot, Fours, Weights, compiled_for, product_by};
use crate::kernels::product::{Panel, Rows};
use crate::packing::Tile;

/// All steps of a dot product, each with its number as a constant.
macro_rules! steps {
    ($dot:ident, $d:ident, $w:ident, $x:ident, $bits:ident, $m:ident, $first:ident, $weights:ident) => {
        steps!(@ $dot, $d, $w, $x, $bits, $m, $first, 0 1 2 3 4 5 6 7)
    };
    (@ $dot:ident, $d:ident, $w:ident, $x:ident, $bits:ident, $m:ident, $first:ident, $($step:literal)*) => {
        {$(
            if $step >= $first && ($bits != 6 || $step < $first + 4) {
                let w = $w.step::<$step>();
                for m in 0..$m {
                    let x = $x.at(m, $step);
                    for n in 0..2 {
                        $d[m][n] = $dot($d[m][n], w[n], x);
                    }
                }
            }
        )*}
    };
}

macro_rules! encoding {
    ($name:ident, $product:ident, $features:literal, $dot:ident, $what:literal) => {
        #[doc = $what]
        pub struct $name;

        impl Dot for $name {
            const SIGNED_EIGHT: bool = false;
            const STRIP: usize = 3;

            #[inline(always)]
            unsafe fn dot<const BITS: usize, const M: usize, const FIRST: usize, W: Weights>(
                d: &mut [[__m256i; 2]; M],
                w: &W,
                x: Fours,
            ) {
                // SAFETY: the caller runs on a processor with the instruction.
                unsafe { steps!($dot, d, w, x, BITS, M, FIRST, W) };
            }

            compiled_for!($features);
        }

        /// See [`ProductFn`](crate::kernels::product::ProductFn).
        ///
        /// # Safety
        /// The instructions of the encoding exist.
        pub unsafe fn $product(tiles: &[Tile<'_>], x: &Rows<'_>, panel: &mut Panel, out: &mut [f32]) {
            // SAFETY: the caller's promise.
            unsafe { product_by::<$name>(tiles, x, panel, out) }
        }
    };
}

encoding!(Vex, product, "avx2,fma,f16c,avxvnni", _mm256_dpbusd_avx_epi32, "AVX-VNNI.");
encoding!(
    Evex,
    product_evex,
    "avx2,fma,f16c,avx512f,avx512vl,avx512vnni",
    _mm256_dpbusd_epi32,
    "AVX-512 VNNI on 256-bit registers."
);
