//! A real model's logits have the same bits however the work is arranged: what the conformance suite proves on tiny
//! models, on the real Qwen2.5-Coder-0.5B.
//!
//! Tiny models have few heads and short rows; here are 14 query heads on 2 KV heads, rows of 4864, super-blocks and
//! outliers. One prompt's logits at some positions are taken once, whole, on one thread. Then, at each number of
//! threads and on each instruction set that fuses, in chunks, beside other rows and behind copied blocks, no bit may
//! differ. The portable kernels round differently and are left to the tiny models.

use std::ops::Range;

use quarry_cpu::isa::Isa;
use quarry_cpu::{CpuBackend, CpuOptions};
use quarry_model::backend::{ActivateOptions, Backend, ModelFiles};
use quarry_model::executor::{Batch, BlockCopy, Executor, Row, StepResult};
use quarry_model::ids::{BlockId, TokenId};
use quarry_model::request::SamplingParams;
use quarry_model::sampler::SampleRow;

const MODEL: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m";
const BLOCK_TOKENS: usize = 32;
const BLOCKS: usize = 16;

/// "You read job postings and answer in JSON.", a posting with code in it, and the turn of the assistant, as the
/// model's own tokenizer and chat template have them.
const PROMPT: [TokenId; 73] = [
    151644, 8948, 198, 2610, 1349, 2618, 74481, 323, 4226, 304, 4718, 13, 151645, 198, 151644, 872, 198,
    47095, 33789, 28383, 320, 76, 6663, 3446, 701, 19846, 476, 8699, 11, 220, 23, 20, 11, 15, 15, 15, 311,
    220, 16, 15, 15, 11, 15, 15, 15, 12984, 264, 1042, 13, 1446, 686, 1936, 44378, 63515, 25, 5168, 1887,
    368, 314, 13751, 79878, 220, 17, 488, 220, 17, 1215, 335, 151645, 198, 151644, 77091, 198,
];

/// Positions whose logits are compared: the ends, and both sides of the borders of blocks and chunks. What the others
/// compute reaches them through the cache.
const COMPARED: [usize; 8] = [0, 6, 31, 32, 55, 63, 64, PROMPT.len() - 1];

/// Where single steps begin that do not begin at 0: within a block, four compared positions behind it.
const SINGLE_STEPS: usize = 50;

struct Rig {
    executor: Box<dyn Executor>,
    vocab: usize,
}

/// Positions `range` of `tokens` in the blocks from `first_block` on.
#[derive(Clone)]
struct Part<'a> {
    tokens: &'a [TokenId],
    range: Range<usize>,
    first_block: usize,
    wants_logits: bool,
}

impl Part<'_> {
    /// As offsets into the range.
    fn wanted(&self) -> Vec<usize> {
        let wanted = COMPARED.iter().filter(|at| self.wants_logits && self.range.contains(at));
        wanted.map(|at| at - self.range.start).collect()
    }
}

impl Rig {
    fn new(files: &ModelFiles, isa: Isa, threads: usize) -> Self {
        let mut backend = CpuBackend::new(CpuOptions { threads, isa: Some(isa) }).unwrap();
        let options = ActivateOptions {
            block_tokens: BLOCK_TOKENS,
            batch_tokens_max: 2 * PROMPT.len(),
            batch_rows_max: 3,
        };
        let warm = backend.loader().warm(files, &mut |_| ()).unwrap();
        let slab_bytes = backend.cost(&files.spec, files, &options).block_bytes;
        let arena = backend.arena(slab_bytes, BLOCKS).unwrap();
        let kv = backend.kv_blocks(&files.spec, &arena, BLOCK_TOKENS).unwrap();
        let executor = backend.activate(&warm, &*kv, &options).unwrap();
        Self { executor, vocab: files.spec.vocab }
    }

    /// Logits of the compared positions of the parts that want them.
    fn step(&mut self, parts: &[Part<'_>]) -> Vec<f32> {
        let table = |part: &Part<'_>| -> Vec<BlockId> {
            let count = part.range.end.div_ceil(BLOCK_TOKENS);
            (part.first_block..part.first_block + count).map(|block| BlockId(block as u32)).collect()
        };
        let tables: Vec<Vec<BlockId>> = parts.iter().map(table).collect();
        let wanted: Vec<Vec<usize>> = parts.iter().map(Part::wanted).collect();
        let rows = parts.iter().zip(&tables).zip(&wanted).map(|((part, blocks), wanted)| Row {
            tokens: &part.tokens[part.range.clone()],
            first_position: part.range.start,
            blocks,
            wanted,
        });
        let rows: Vec<Row<'_>> = rows.collect();
        let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let draw = SampleRow::new(&params);
        let draws = vec![draw; rows.iter().map(|row| row.wanted.len()).sum()];
        let mut result = StepResult { keep_logits: true, ..StepResult::default() };
        let ticket = self.executor.submit(&Batch::new(&rows)).unwrap();
        self.executor.finish(ticket, &draws, &mut result).unwrap();
        result.logits
    }

    /// The prompt at once.
    fn whole(&mut self) -> Vec<f32> {
        self.step(&[part(&PROMPT, 0..PROMPT.len(), 0)])
    }

    /// `found` are the logits of the compared positions in `range`.
    fn expect(&self, what: &str, expected: &[f32], range: Range<usize>, found: &[f32]) {
        let compared = COMPARED.iter().zip(expected.chunks(self.vocab)).filter(|(at, _)| range.contains(at));
        assert_eq!(found.len(), compared.clone().count() * self.vocab, "{what}");
        for ((at, expected), found) in compared.zip(found.chunks(self.vocab)) {
            let unequal = expected.iter().zip(found).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert!(unequal == 0, "{what}: {unequal} logits of position {at} have other bits");
        }
    }

    /// Every arrangement, with single steps from the first token on if `all_steps`; the bits are `expected`'s.
    fn arranged(&mut self, what: &str, all_steps: bool, expected: &[f32]) {
        let found = self.whole();
        self.expect(&format!("{what}, whole"), expected, 0..PROMPT.len(), &found);

        for size in [1, 7, 64] {
            // Steps of one token cost as much as chunks, so most runs take them behind a prefix.
            let first = if size == 1 && !all_steps { SINGLE_STEPS } else { 0 };
            if first > 0 {
                self.step(&[quiet(&PROMPT, 0..first, 4)]);
            }
            for start in (first..PROMPT.len()).step_by(size) {
                let end = PROMPT.len().min(start + size);
                let found = self.step(&[part(&PROMPT, start..end, 4)]);
                self.expect(&format!("{what}, chunks of {size}"), expected, start..end, &found);
            }
        }

        // Beside a sequence that decodes its 41st token, and one that begins.
        let (decoding, beginning) = (&PROMPT[20..61], &PROMPT[50..59]);
        self.step(&[quiet(decoding, 0..40, 8)]);
        let beside =
            [quiet(decoding, 40..41, 8), part(&PROMPT, 0..PROMPT.len(), 4), quiet(beginning, 0..9, 12)];
        let found = self.step(&beside);
        self.expect(&format!("{what}, beside two rows"), expected, 0..PROMPT.len(), &found);

        // As after a prefix hit: blocks that another sequence filled, copied, and the rest computed behind them.
        for blocks in [1, 2] {
            let to = |i: usize| BlockCopy { from: BlockId(i as u32), to: BlockId(i as u32 + 12) };
            let copies: Vec<BlockCopy> = (0..blocks).map(to).collect();
            self.executor.copy_blocks(&copies).unwrap();
            let first = blocks * BLOCK_TOKENS;
            let found = self.step(&[part(&PROMPT, first..PROMPT.len(), 12)]);
            self.expect(
                &format!("{what}, behind {blocks} copied blocks"),
                expected,
                first..PROMPT.len(),
                &found,
            );
        }
    }
}

fn part(tokens: &[TokenId], range: Range<usize>, first_block: usize) -> Part<'_> {
    Part { tokens, range, first_block, wants_logits: true }
}

/// A part whose logits nobody reads.
fn quiet(tokens: &[TokenId], range: Range<usize>, first_block: usize) -> Part<'_> {
    Part { wants_logits: false, ..part(tokens, range, first_block) }
}

#[test]
fn a_real_models_logits_have_one_set_of_bits() {
    let files = ModelFiles::open(&quarry_models::testing::model_path(MODEL)).unwrap();
    let sets: Vec<Isa> =
        Isa::ALL.into_iter().filter(|isa| *isa != Isa::Portable && isa.is_available()).collect();
    println!("instruction sets: {}", sets.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "));
    let Some(&best) = sets.first() else {
        // A machine with none of them has the portable kernels, whose bits no other set shares.
        let mut rig = Rig::new(&files, Isa::Portable, 1);
        let expected = rig.whole();
        return rig.arranged("portable", true, &expected);
    };
    let mut rig = Rig::new(&files, best, 1);
    let expected = rig.whole();
    assert!(expected.iter().all(|logit| logit.is_finite()));
    rig.arranged(&format!("{} with 1 thread", best.name()), true, &expected);
    drop(rig);
    for &isa in &sets {
        for threads in [1, 2, 3] {
            if (isa, threads) == (best, 1) {
                continue;
            }
            let what = format!("{} with {threads} threads", isa.name());
            let mut rig = Rig::new(&files, isa, threads);
            // Every arrangement once a set and once a number of threads; elsewhere the whole prompt tells.
            if isa == best || threads == 2 {
                rig.arranged(&what, false, &expected);
            } else {
                let found = rig.whole();
                rig.expect(&what, &expected, 0..PROMPT.len(), &found);
            }
        }
    }
}
