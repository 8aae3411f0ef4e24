//! What this machine can do at most: the limits that kernels are measured against.
//!
//! ```text
//! dot_limit   12 independent sums in registers, the instruction set's dot instruction on each, nothing else
//! pair_limit  the same with its multiplication of pairs of 16-bit integers
//! read_limit  a buffer that no cache holds, each thread its own run of it, in order
//! ```
//! Twelve chains hide the latency of either instruction on every processor so far. The loops are written as assembly,
//! so that the compiler neither moves a product out of its loop nor drops it. Work comes in pieces from a shared
//! counter, as everywhere in this crate, and each limit is the best of a few runs: what a kernel could have had.

use std::hint::black_box;
use std::time::Instant;

use crate::isa::Isa;
use crate::kernels::product::{AHEAD, LINE};
use crate::packing::Arena;
use crate::threads::{Threads, Tiles};

/// Runs, of which the best counts.
const RUNS: usize = 5;
/// Rounds of a piece: tens of microseconds, so that threads end together.
const ROUNDS: usize = 1 << 14;
/// Pieces for each thread of one run: some milliseconds.
const PIECES: usize = 64;
/// Sums of a round.
const CHAINS: usize = 12;
/// Bytes of a piece of the buffer that is read.
const READ_PIECE: usize = 1 << 20;

/// Operations a second (two a multiply-add) of the dot instruction that an instruction set's products are made of;
/// `None` where it has none or the machine lacks it.
pub fn dot_limit(isa: Isa, threads: &mut Threads) -> Option<f64> {
    if !isa.is_available() {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    {
        let (lanes, rounds): (usize, Rounds) = match isa {
            Isa::Avx512Vnni => (64, loops::dot_zmm),
            Isa::AvxVnni => (32, loops::dot_vex),
            Isa::AvxVnniEvex => (32, loops::dot_evex),
            Isa::Avx2 => (32, loops::dot_avx2),
            Isa::Portable => return None,
        };
        Some(operations(threads, 2 * lanes, rounds))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = threads;
        None
    }
}

/// As [`dot_limit`], of the sums of two 16-bit products that attention is made of.
pub fn pair_limit(isa: Isa, threads: &mut Threads) -> Option<f64> {
    if !isa.is_available() {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    {
        let (lanes, rounds): (usize, Rounds) = match isa {
            Isa::Avx512Vnni => (32, loops::pair_zmm),
            Isa::AvxVnni | Isa::AvxVnniEvex | Isa::Avx2 => (16, loops::pair_avx2),
            Isa::Portable => return None,
        };
        Some(operations(threads, 2 * lanes, rounds))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = threads;
        None
    }
}

/// Bytes a second that all threads read of `bytes` in order, the better of with and without prefetching as far ahead
/// as products do.
///
/// # Errors
/// The operating system's, when it gives no memory.
pub fn read_limit(bytes: usize, threads: &mut Threads) -> std::io::Result<f64> {
    let mut storage = Arena::default().zeroed(bytes.next_multiple_of(READ_PIECE).max(READ_PIECE))?;
    // Memory that was never written is one page of zeros, many times.
    storage.as_mut_slice().fill(1);
    let memory = storage.as_slice();
    let pieces = memory.len() / READ_PIECE;
    let mut best = 0f64;
    for run in 0..2 * RUNS {
        let seconds = timed(threads, pieces, &|piece| {
            let bytes = &memory[piece * READ_PIECE..(piece + 1) * READ_PIECE];
            black_box(if run % 2 == 0 { read::<false>(bytes) } else { read::<true>(bytes) });
        });
        best = best.max(memory.len() as f64 / seconds);
    }
    Ok(best)
}

/// Sums the words, so that each is needed; eight sums, so that none waits for another.
fn read<const PREFETCH: bool>(bytes: &[u8]) -> u64 {
    const WORDS: usize = LINE / 8;
    let mut sums = [0u64; WORDS];
    for line in bytes.as_chunks::<LINE>().0 {
        if PREFETCH {
            prefetch(line.as_ptr().wrapping_add(AHEAD));
        }
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

#[inline(always)]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address; every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Some rounds of a loop.
#[cfg(target_arch = "x86_64")]
type Rounds = unsafe fn(rounds: usize);

/// Operations a second of a loop that does `each` operations a chain and round.
#[cfg(target_arch = "x86_64")]
fn operations(threads: &mut Threads, each: usize, rounds: Rounds) -> f64 {
    let pieces = PIECES * threads.count();
    let mut best = 0f64;
    for _ in 0..RUNS {
        // SAFETY: the callers chose `rounds` by an instruction set that they found available.
        let seconds = timed(threads, pieces, &|_| unsafe { rounds(ROUNDS) });
        best = best.max((pieces * ROUNDS * CHAINS * each) as f64 / seconds);
    }
    best
}

/// Seconds until all threads have done all pieces.
fn timed(threads: &mut Threads, pieces: usize, piece: &(dyn Fn(usize) + Sync)) -> f64 {
    let work = Tiles::split(pieces, 1, threads.count());
    let begun = Instant::now();
    let ran = threads.run(&|thread| {
        while let Some(run) = work.take(thread) {
            run.for_each(piece);
        }
    });
    debug_assert!(ran.is_ok(), "pieces do not panic");
    begun.elapsed().as_secs_f64()
}

#[cfg(target_arch = "x86_64")]
mod loops {
    //! The loops themselves. Registers only: no memory is read or written.

    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::CHAINS;

    /// `$name(rounds)`: each of twelve registers gets `$line`, over and over; {0} is the sum, {1} and {2} the factors,
    /// {3} a register to spare.
    macro_rules! chains {
        ($name:ident, $features:literal, $class:ident, $vector:ty, $zero:expr, $($line:literal),+) => {
            /// # Safety
            /// The processor has the features.
            #[target_feature(enable = $features)]
            pub unsafe fn $name(rounds: usize) {
                let (a, b) = ($zero, $zero);
                let mut sums: [$vector; CHAINS] = [$zero; CHAINS];
                for _ in 0..rounds {
                    for sum in &mut sums {
                        // SAFETY: instructions on registers, of the features above.
                        unsafe {
                            asm!(
                                $($line),+,
                                inout($class) *sum,
                                in($class) a,
                                in($class) b,
                                out($class) _,
                                options(nomem, nostack, preserves_flags)
                            );
                        }
                    }
                }
            }
        };
    }

    chains!(
        dot_zmm,
        "avx512f,avx512vnni",
        zmm_reg,
        __m512i,
        _mm512_setzero_si512(),
        "vpdpbusd {0}, {1}, {2} /* {3} */"
    );
    chains!(
        dot_evex,
        "avx512f,avx512vl,avx512vnni",
        ymm_reg,
        __m256i,
        _mm256_setzero_si256(),
        "vpdpbusd {0}, {1}, {2} /* {3} */"
    );
    chains!(
        dot_vex,
        "avx2,avxvnni",
        ymm_reg,
        __m256i,
        _mm256_setzero_si256(),
        "{{vex}} vpdpbusd {0}, {1}, {2} /* {3} */"
    );
    chains!(
        dot_avx2,
        "avx2",
        ymm_reg,
        __m256i,
        _mm256_setzero_si256(),
        "vpmaddubsw {3}, {1}, {2}",
        "vpaddw {0}, {0}, {3}"
    );
    chains!(
        pair_zmm,
        "avx512f,avx512vnni",
        zmm_reg,
        __m512i,
        _mm512_setzero_si512(),
        "vpdpwssd {0}, {1}, {2} /* {3} */"
    );
    chains!(
        pair_avx2,
        "avx2",
        ymm_reg,
        __m256i,
        _mm256_setzero_si256(),
        "vpmaddwd {3}, {1}, {2}",
        "vpaddd {0}, {0}, {3}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_this_machine_has_its_limits() {
        let mut threads = Threads::new(2);
        for isa in Isa::ALL {
            let expected = isa.is_available() && isa != Isa::Portable;
            for limit in [dot_limit(isa, &mut threads), pair_limit(isa, &mut threads)] {
                assert_eq!(limit.is_some(), expected, "{}", isa.name());
                assert!(limit.is_none_or(|limit| limit.is_finite() && limit > 0.0), "{}", isa.name());
            }
        }
        let read = read_limit(3 * READ_PIECE + 1, &mut threads).unwrap();
        assert!(read.is_finite() && read > 0.0);
    }

    #[test]
    fn every_word_is_read() {
        let bytes: Vec<u8> = (0..4 * LINE).map(|i| u8::from(i % 8 == 0)).collect();
        assert_eq!(read::<false>(&bytes), 4 * LINE as u64 / 8);
        assert_eq!(read::<true>(&bytes), 4 * LINE as u64 / 8);
    }
}
