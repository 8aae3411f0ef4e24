//! Attention beside the plain softmax in f64.

use super::{Random, assert_same_bits, fused, kernels};
use crate::isa::Kernels;
use crate::kernels::attention::{HeadLayout, Partial, Queries, SPAN, Scratch};
use crate::kernels::fixed_point::Word;
use crate::kv::{Entry, write_entry};

/// Keys and values in blocks, and the same as numbers.
struct Cache {
    blocks: Vec<Vec<Word>>,
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
    layout: HeadLayout,
}

/// `length` positions; blocks hold garbage past the last.
fn cache(seed: u64, length: usize, block_tokens: usize, head_dim: usize) -> Cache {
    let mut random = Random(seed);
    let layout = HeadLayout { head_dim, block_tokens };
    let mut garbage = Random(seed + 1);
    let mut block = || (0..layout.words()).map(|_| garbage.next() as Word).collect::<Vec<Word>>();
    let mut blocks: Vec<Vec<Word>> = (0..length.div_ceil(block_tokens)).map(|_| block()).collect();
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let mut entry = Entry::new(layout);
    for t in 0..length {
        let (key, value) = (random.units(head_dim), random.units(head_dim));
        // Values of some positions are far smaller, as those of a sentence's first token are.
        let value: Vec<f32> = value.iter().map(|v| if t % 9 == 0 { v / 300.0 } else { v * 2.0 }).collect();
        entry.set(kernels()[0], &key, &value);
        // SAFETY: the block has as many words as the layout says.
        unsafe { write_entry(blocks[t / block_tokens].as_mut_ptr(), layout, t % block_tokens, &entry) };
        let numbers = |words: &[Word], scale: f64| {
            let both = |w: &Word| [f64::from(*w as i16) * scale, f64::from(w >> 16) * scale];
            words.iter().flat_map(both).take(head_dim).collect::<Vec<f64>>()
        };
        keys.push(numbers(&entry.key, f64::from(entry.scale)));
        values.push(numbers(&entry.value, f64::from(entry.exponent).exp2()));
    }
    Cache { blocks, keys, values, layout }
}

impl Cache {
    fn with<R>(&self, q: &[f32], positions: &[usize], group: usize, f: impl FnOnce(&Queries<'_>) -> R) -> R {
        let blocks: Vec<*const Word> = self.blocks.iter().map(|block| block.as_ptr()).collect();
        let layout = self.layout;
        let mut words = vec![0; q.len() / layout.head_dim * layout.pairs()];
        let pairs = words.chunks_mut(layout.pairs()).zip(q.chunks(layout.head_dim));
        let scales: Vec<f32> = pairs.map(|(words, q)| kernels()[0].by_norm(q, words)).collect();
        f(&Queries { q: &words, scales: &scales, positions, group, blocks: &blocks, layout })
    }

    fn attend(&self, kernels: &Kernels, q: &[f32], positions: &[usize], group: usize) -> Vec<f32> {
        self.with(q, positions, group, |queries| {
            let mut out = vec![f32::NAN; queries.count() * queries.layout.width()];
            // SAFETY: the blocks cover every position and outlive the call; the table proves the instructions.
            unsafe { (kernels.attention)(queries, &mut Scratch::default(), &mut out) };
            out
        })
    }

    fn naive(&self, q: &[f32], position: usize) -> Vec<f64> {
        let dot = |key: &Vec<f64>| key.iter().zip(q).map(|(k, q)| k * f64::from(*q)).sum::<f64>();
        let scores: Vec<f64> = self.keys[..=position].iter().map(dot).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp2()).collect();
        let total: f64 = weights.iter().sum();
        let value = |d: usize| weights.iter().zip(&self.values).map(|(w, v)| w * v[d]).sum::<f64>() / total;
        (0..self.layout.head_dim).map(value).collect()
    }
}

#[test]
fn it_equals_the_naive_one_at_every_border() {
    let mut random = Random(4);
    for (head_dim, block_tokens) in [(64, 32), (128, 32), (32, 64), (80, 16), (64, 16), (24, 48)] {
        for length in [1, 2, 15, 16, 17, 31, 32, 33, 64, 100, SPAN, SPAN + 1, SPAN + 40] {
            if length > 200 && head_dim > 64 {
                continue;
            }
            let cache = cache(length as u64, length, block_tokens, head_dim);
            for (tokens, group) in [(1, 1), (1, 7), (3, 2), (20, 5), (length.min(40), 3)] {
                let tokens = tokens.min(length);
                let positions: Vec<usize> = (length - tokens..length).collect();
                let q: Vec<f32> = random.units(tokens * group * head_dim);
                for kernels in kernels() {
                    let out = cache.attend(&kernels, &q, &positions, group);
                    let width = head_dim.next_multiple_of(16);
                    for (i, (out, q)) in out.chunks(width).zip(q.chunks(head_dim)).enumerate() {
                        let exact = cache.naive(q, positions[i / group]);
                        for (found, exact) in out.iter().zip(&exact) {
                            let error = (f64::from(*found) - exact).abs();
                            let isa = kernels.isa().name();
                            // Weights are rounded to one in 8191 of a tile's largest, and values reach 2.
                            assert!(error < 1.2e-3, "{isa} d{head_dim} b{block_tokens} n{length} {error}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_query_has_the_same_bits_alone_among_others_and_on_every_instruction_set() {
    let mut random = Random(5);
    let (head_dim, length, group) = (64, SPAN + 70, 7);
    let cache = cache(5, length, 32, head_dim);
    let positions: Vec<usize> = (0..30).map(|i| 5 + i * 19).collect();
    let q = random.units(positions.len() * group * head_dim);
    for kernels in kernels() {
        let together = cache.attend(&kernels, &q, &positions, group);
        for (i, position) in positions.iter().enumerate() {
            let part = i * group * head_dim..(i + 1) * group * head_dim;
            let alone = cache.attend(&kernels, &q[part.clone()], &[*position], group);
            assert_same_bits(kernels.isa().name(), &alone, &together[part]);
            let head = i * group * head_dim..(i * group + 1) * head_dim;
            let single = cache.attend(&kernels, &q[head.clone()], &[*position], 1);
            assert_same_bits("one head", &single, &together[head]);
        }
    }
    for kernels in fused().windows(2) {
        let all: Vec<Vec<f32>> = kernels.iter().map(|k| cache.attend(k, &q, &positions, group)).collect();
        assert_same_bits(kernels[1].isa().name(), &all[0], &all[1]);
    }
}

#[test]
fn spans_that_are_merged_have_the_bits_of_one_call() {
    let mut random = Random(6);
    let (head_dim, length, group) = (64, 2 * SPAN + 9, 4);
    let cache = cache(6, length, 32, head_dim);
    let q = random.units(group * head_dim);
    for kernels in kernels() {
        let whole = cache.attend(&kernels, &q, &[length - 1], group);
        let merged = cache.with(&q, &[length - 1], group, |queries| {
            let mut parts: Vec<Partial> = (0..3).map(|_| Partial::default()).collect();
            let mut out = vec![f32::NAN; group * head_dim];
            // SAFETY: as in `attend`.
            unsafe {
                for (span, part) in parts.iter_mut().enumerate() {
                    (kernels.span)(queries, span, &mut Scratch::default(), part);
                }
                (kernels.merge)(&parts, head_dim, &mut out);
            }
            out
        });
        assert_same_bits(kernels.isa().name(), &merged, &whole);
    }
}

#[test]
fn the_size_of_a_block_changes_no_bit() {
    let mut random = Random(9);
    let (head_dim, length) = (64, 150);
    let q = random.units(5 * head_dim);
    for kernels in kernels() {
        let of = |block_tokens| {
            cache(9, length, block_tokens, head_dim).attend(&kernels, &q, &[3, 20, 31, 77, 149], 1)
        };
        for block_tokens in [16, 48, 64, 160] {
            assert_same_bits(kernels.isa().name(), &of(block_tokens), &of(32));
        }
    }
}
