//! Every kernel of every instruction set here beside a naive twin in f64, over every weight format and shapes that fit
//! no tile.

use half::f16;
use quarry_formats::quant::{TensorType, decode, encode};

use crate::isa::{Isa, Kernels};
use crate::kernels::attention::{QUERIES_MAX, Queries};
use crate::kernels::gemm::{ActivationRows, ROWS_MAX};
use crate::packed::{GROUP, PackedMatrix, TILE};
use crate::quantize::Activations;
use crate::threads::{Threads, WorkerPanicked};

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn units(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }
}

fn kernels() -> Vec<Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::new).collect()
}

fn quantized(kernels: &Kernels, x: &[f32], columns: usize) -> Activations {
    let rows = x.len() / columns;
    let mut out = Activations::default();
    out.reset(rows, columns);
    let groups = out.groups();
    for (m, row) in x.chunks(columns).enumerate() {
        // SAFETY: the table exists, so its instructions do.
        unsafe {
            (kernels.quantize)(
                row,
                &mut out.q[m * groups * GROUP..(m + 1) * groups * GROUP],
                &mut out.scales[m * groups..(m + 1) * groups],
                &mut out.sums[m * groups..(m + 1) * groups],
            );
        }
    }
    out
}

/// `rows × matrix.rows()`.
fn product(kernels: &Kernels, matrix: &PackedMatrix, x: &Activations, first: usize, rows: usize) -> Vec<f32> {
    let groups = matrix.groups();
    let view = ActivationRows {
        q: &x.q[first * groups * GROUP..(first + rows) * groups * GROUP],
        scales: &x.scales[first * groups..(first + rows) * groups],
        sums: &x.sums[first * groups..(first + rows) * groups],
    };
    let mut out = vec![0.0; rows * matrix.rows()];
    for tile in 0..matrix.tiles() {
        let mut lanes = [[f32::NAN; TILE]; ROWS_MAX];
        // SAFETY: the table exists, so its instructions do.
        unsafe { (kernels.gemm)(matrix.tile(tile), view, &mut lanes[..rows]) };
        for m in 0..rows {
            for lane in 0..TILE.min(matrix.rows() - tile * TILE) {
                out[m * matrix.rows() + tile * TILE + lane] = lanes[m][lane];
            }
        }
    }
    out
}

/// What packing itself may lose of a weight, relative to the largest of its group: nothing where the file's integers
/// are kept, half a step of 127 where they are rounded to 8 bits.
fn packing_error(kind: TensorType) -> f64 {
    match kind {
        TensorType::Q6K | TensorType::F32 | TensorType::F16 | TensorType::BF16 => 0.5 / 127.0,
        _ => 0.0,
    }
}

#[test]
fn products_equal_the_naive_ones_in_every_format_and_shape() {
    let mut random = Random(1);
    let mut threads = Threads::new(2);
    for kind in TensorType::ALL {
        let columns: &[usize] = match kind.block_elements() {
            1 => &[32, 96, 100, 256],
            32 => &[32, 96, 288],
            _ => &[256, 768],
        };
        for (&columns, rows) in columns.iter().zip([1, 17, 33, 16]) {
            let values: Vec<f32> = random.units(rows * columns);
            let bytes: Vec<u8> = values.chunks(columns).flat_map(|row| encode(kind, row)).collect();
            let mut weights = vec![0.0; rows * columns];
            for (out, row) in weights.chunks_mut(columns).zip(bytes.chunks(kind.row_bytes(columns))) {
                decode(kind, row, out);
            }
            let matrix = PackedMatrix::pack(kind, rows, columns, &bytes, &mut threads);
            let mut x = random.units(ROWS_MAX * columns);
            x[3] = 40.0; // one outlier, as real activations have
            x[columns..2 * columns].fill(0.0);
            for kernels in kernels() {
                let activations = quantized(&kernels, &x, columns);
                for count in [1, 2, 3, 5, 8, 15, 16] {
                    let found = product(&kernels, &matrix, &activations, 0, count);
                    for (at, &found) in found.iter().enumerate() {
                        let (m, r) = (at / rows, at % rows);
                        let (mut exact, mut room) = (0f64, 0f64);
                        for k in 0..columns {
                            let group = m * matrix.groups() + k / GROUP;
                            let a = f64::from(activations.scales[group])
                                * f64::from(activations.q[m * matrix.groups() * GROUP + k]);
                            let w = f64::from(weights[r * columns + k]);
                            exact += a * w;
                            room += a.abs() * (packing_error(kind) + 1e-5 * w.abs() + 1e-6);
                        }
                        let error = (f64::from(found) - exact).abs();
                        let isa = kernels.isa().name();
                        assert!(
                            error <= room + 1e-6,
                            "{} {isa} {rows}x{columns} of {count}: {error}",
                            kind.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    let mut random = Random(2);
    let mut threads = Threads::new(1);
    let (rows, columns) = (40, 512);
    let bytes = encode(TensorType::Q4K, &random.units(rows * columns));
    let matrix = PackedMatrix::pack(TensorType::Q4K, rows, columns, &bytes, &mut threads);
    let x = random.units(ROWS_MAX * columns);
    for kernels in kernels() {
        let activations = quantized(&kernels, &x, columns);
        let together = product(&kernels, &matrix, &activations, 0, ROWS_MAX);
        for m in 0..ROWS_MAX {
            let alone = product(&kernels, &matrix, &activations, m, 1);
            let beside = &together[m * rows..(m + 1) * rows];
            assert!(
                alone.iter().zip(beside).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{}",
                kernels.isa().name()
            );
        }
    }
}

#[test]
fn quantizing_loses_half_a_step_at_most_and_is_alike_everywhere() {
    let mut random = Random(3);
    for columns in [1, 31, 32, 33, 100] {
        let mut x = random.units(columns);
        x[0] = -7.5;
        let all: Vec<Activations> = kernels().iter().map(|kernels| quantized(kernels, &x, columns)).collect();
        for out in &all {
            assert_eq!((&out.q, &out.sums), (&all[0].q, &all[0].sums));
            for (k, &value) in x.iter().enumerate() {
                let scale = out.scales[k / GROUP];
                let back = scale * f32::from(out.q[k]);
                assert!((back - value).abs() <= scale * 0.5001, "{value} came back as {back}");
            }
            assert!(out.q[columns..].iter().all(|&q| q == 0), "padding is zero");
            let sum: i32 = out.q.iter().map(|&q| i32::from(q)).sum();
            assert_eq!(out.sums.iter().sum::<i32>(), sum);
        }
        let zeros = quantized(&kernels()[0], &vec![0.0; columns], columns);
        assert!(zeros.scales.iter().all(|&s| s == 0.0) && zeros.q.iter().all(|&q| q == 0));
    }
}

struct Cache {
    blocks: Vec<Vec<u16>>,
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
}

/// `length` positions of keys and values in blocks, and as numbers.
fn cache(random: &mut Random, length: usize, block_tokens: usize, head_dim: usize) -> Cache {
    let mut blocks = vec![vec![0u16; 2 * head_dim * block_tokens]; length.div_ceil(block_tokens)];
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for t in 0..length {
        let (block, slot) = (&mut blocks[t / block_tokens], t % block_tokens);
        let mut draw = |place: &dyn Fn(usize) -> usize| {
            let one = |d: usize| {
                let half = f16::from_f32(random.unit() * 2.0);
                block[place(d)] = half.to_bits();
                f64::from(half.to_f32())
            };
            (0..head_dim).map(one).collect::<Vec<f64>>()
        };
        keys.push(draw(&|d| d * block_tokens + slot));
        values.push(draw(&|d| head_dim * block_tokens + slot * head_dim + d));
    }
    Cache { blocks, keys, values }
}

fn attend(
    kernels: &Kernels,
    cache: &Cache,
    q: &[f32],
    positions: &[usize],
    block_tokens: usize,
    head_dim: usize,
) -> Vec<f32> {
    let blocks: Vec<*const u16> = cache.blocks.iter().map(|block| block.as_ptr()).collect();
    let mut out = vec![f32::NAN; q.len()];
    // SAFETY: the blocks cover every position and outlive the call; the table exists, so its instructions do.
    unsafe {
        (kernels.attention)(Queries { q, positions, blocks: &blocks, block_tokens, head_dim }, &mut out)
    };
    out
}

#[test]
fn attention_equals_the_naive_one_at_every_border() {
    let mut random = Random(4);
    for (head_dim, block_tokens) in [(64, 32), (128, 32), (32, 32), (80, 32), (64, 16), (128, 10)] {
        for length in [1, 2, 31, 32, 33, 64, 100] {
            let cache = cache(&mut random, length, block_tokens, head_dim);
            for count in [1, 2, 7, QUERIES_MAX] {
                // Several heads of one position, then several positions of one head.
                let same = vec![length - 1; count];
                let rising: Vec<usize> =
                    (0..count).map(|i| (length - 1).saturating_sub(count - 1 - i)).collect();
                for positions in [same, rising] {
                    let q: Vec<f32> = random.units(count * head_dim);
                    for kernels in kernels() {
                        let out = attend(&kernels, &cache, &q, &positions, block_tokens, head_dim);
                        for (i, &position) in positions.iter().enumerate() {
                            let q = &q[i * head_dim..(i + 1) * head_dim];
                            let dot = |key: &Vec<f64>| {
                                key.iter().zip(q).map(|(k, q)| k * f64::from(*q)).sum::<f64>()
                            };
                            let scores: Vec<f64> = cache.keys[..=position].iter().map(dot).collect();
                            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                            let total: f64 = weights.iter().sum();
                            for d in 0..head_dim {
                                let exact =
                                    weights.iter().zip(&cache.values).map(|(w, v)| w * v[d]).sum::<f64>()
                                        / total;
                                let error = (f64::from(out[i * head_dim + d]) - exact).abs();
                                let isa = kernels.isa().name();
                                assert!(error < 2e-5, "{isa} d{head_dim} b{block_tokens} n{length} {error}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_query_has_the_same_bits_alone_and_among_others() {
    let mut random = Random(5);
    let (head_dim, length) = (64, 70);
    let cache = cache(&mut random, length, 32, head_dim);
    let positions: Vec<usize> = (0..QUERIES_MAX).map(|i| 5 + i * 9).collect();
    let q = random.units(QUERIES_MAX * head_dim);
    for kernels in kernels() {
        let together = attend(&kernels, &cache, &q, &positions, 32, head_dim);
        for (i, position) in positions.iter().enumerate() {
            let part = i * head_dim..(i + 1) * head_dim;
            let alone = attend(&kernels, &cache, &q[part.clone()], &[*position], 32, head_dim);
            assert!(alone.iter().zip(&together[part]).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn threads_all_run_meet_again_and_survive_a_panic() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for count in [1, 2, 8] {
        let mut threads = Threads::new(count);
        for _ in 0..100 {
            let ran = AtomicUsize::new(0);
            let region = |_: usize| {
                ran.fetch_add(1, Ordering::Relaxed);
            };
            threads.run(&region).unwrap();
            assert_eq!(ran.into_inner(), threads.count());
        }
        if threads.count() > 1 {
            let panics = |index: usize| assert_eq!(index, 0, "a worker's panic");
            assert_eq!(threads.run(&panics), Err(WorkerPanicked));
        }
        assert_eq!(threads.run(&|_| {}), Ok(()), "the pool works on");
    }
}
