//! A group of packed weights in registers: eight of 64 bytes (4 columns of 16 rows each), its scales and minimums.
//!
//! Bits above the nibble are moved into place by one shift and joined by one three-way logic instruction: 3 to 4
//! instructions for 64 weights, so that decode waits for memory and not for this.

use std::arch::x86_64::*;

use crate::packing::{PartPointers, TILE};

/// Weights of group `g` of the block as unsigned bytes, `[i]` holding columns 4 i to 4 i + 3.
///
/// # Safety
/// AVX-512 F exists; `p` is of a block of `BITS`-bit weights with more than `g` groups.
#[inline(always)]
pub unsafe fn weights<const BITS: usize>(p: &PartPointers, g: usize) -> [__m512i; 8] {
    // SAFETY: the caller's promise: a group's bytes lie where `Form` draws them.
    unsafe {
        if BITS == 8 {
            let low = p.low.add(g * 512);
            return std::array::from_fn(|i| _mm512_loadu_si512(low.add(64 * i).cast()));
        }
        let low = p.low.add(g * 256);
        let packed: [__m512i; 4] = std::array::from_fn(|i| _mm512_loadu_si512(low.add(64 * i).cast()));
        let nibble = _mm512_set1_epi8(15);
        let nibbles: [__m512i; 8] = std::array::from_fn(|i| match i {
            0..4 => _mm512_and_si512(packed[i], nibble),
            _ => _mm512_and_si512(_mm512_srli_epi16::<4>(packed[i - 4]), nibble),
        });
        // (a & b) | c
        const JOIN: i32 = 0xea;
        match BITS {
            4 => nibbles,
            5 => {
                let high = _mm512_loadu_si512(p.high.add(g * 64).cast());
                let bit = _mm512_set1_epi8(16);
                let moved = [
                    _mm512_slli_epi16::<4>(high),
                    _mm512_slli_epi16::<3>(high),
                    _mm512_slli_epi16::<2>(high),
                    _mm512_slli_epi16::<1>(high),
                    high,
                    _mm512_srli_epi16::<1>(high),
                    _mm512_srli_epi16::<2>(high),
                    _mm512_srli_epi16::<3>(high),
                ];
                std::array::from_fn(|i| _mm512_ternarylogic_epi32::<JOIN>(moved[i], bit, nibbles[i]))
            }
            _ => {
                let bits = _mm512_set1_epi8(48);
                let halves: [__m512i; 2] =
                    std::array::from_fn(|h| _mm512_loadu_si512(p.high.add(g * 128 + h * 64).cast()));
                std::array::from_fn(|i| {
                    let high = halves[i / 4];
                    let moved = match i % 4 {
                        0 => _mm512_slli_epi16::<4>(high),
                        1 => _mm512_slli_epi16::<2>(high),
                        2 => high,
                        _ => _mm512_srli_epi16::<2>(high),
                    };
                    _mm512_ternarylogic_epi32::<JOIN>(moved, bits, nibbles[i])
                })
            }
        }
    }
}

#[inline(always)]
unsafe fn halves(plane: *const u8, index: usize) -> __m512 {
    // SAFETY: the caller's promise: sixteen f16 lie there.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(plane.add(index * TILE * 2).cast())) }
}

/// Scales of group `g` of the block, of its half `half` in 6-bit forms.
///
/// # Safety
/// As [`weights`].
#[inline(always)]
pub unsafe fn scale<const BITS: usize, const SUPER: bool>(p: &PartPointers, g: usize, half: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        if !SUPER {
            return halves(p.scale, g);
        }
        let sub = if BITS == 6 {
            _mm512_cvtepi8_epi32(_mm_loadu_si128(p.sub.add((2 * g + half) * TILE).cast()))
        } else {
            _mm512_cvtepu8_epi32(_mm_loadu_si128(p.sub.add(g * TILE).cast()))
        };
        _mm512_mul_ps(halves(p.scale, 0), _mm512_cvtepi32_ps(sub))
    }
}

/// Minimums of group `g` of the block.
///
/// # Safety
/// As [`weights`], of a form that has minimums.
#[inline(always)]
pub unsafe fn min<const SUPER: bool>(p: &PartPointers, g: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        if !SUPER {
            return halves(p.min, g);
        }
        let sub = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.sub_min.add(g * TILE).cast()));
        _mm512_mul_ps(halves(p.min, 0), _mm512_cvtepi32_ps(sub))
    }
}
