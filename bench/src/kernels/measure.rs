//! Passes over kernels, timed.
//!
//! ```text
//! a unit    one matrix, one head's queries, some rows: cut into items, which threads take from a shared counter
//! a pass    so many units that it lasts some milliseconds, in one region; units go round all of cold memory, each
//!           pass beginning where the last one ended
//! a figure  one pass untimed, then the repeats; seconds of a unit from each
//! ```
//! Items are cut as a step of a model cuts them, but one region has many units: what is measured is kernels, not how
//! long threads take to meet.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use quarry_cpu::activations::Activations;
use quarry_cpu::isa::Kernels;
use quarry_cpu::kernels::attention::{HeadLayout, Queries, Scratch};
use quarry_cpu::kernels::elementwise::padded;
use quarry_cpu::kernels::fixed_point::Word;
use quarry_cpu::kernels::product::{DIRECT_ROWS_MAX, PANEL_ROWS, PANEL_TILES, Panel};
use quarry_cpu::packing::{Arena, PackedMatrix, TILE, Tile};
use quarry_cpu::threads::{Threads, Tiles};
use quarry_formats::quant::{TensorType, encode};

use super::Timed;
use crate::random::Random;

/// Positions of a prefill.
pub const PREFILL: usize = 512;
/// Query heads of a KV head, and their dimensions: Qwen2.5-0.5B's.
const GROUP: usize = 7;
const HEAD_DIM: usize = 64;
/// Positions that one call of attention takes in prefill, as in a step.
const POSITIONS: usize = 16;
/// Positions of a block.
const BLOCK_TOKENS: usize = 32;
/// Rows of a unit of row kernels.
const UNIT_ROWS: usize = 64;
/// Seconds of a pass, about.
const PASS_SECONDS: f64 = 0.02;
/// Rows of weights that differ; further ones repeat them.
const RANDOM_ROWS: usize = 16;

/// What one thread needs.
struct Local {
    panel: Box<Panel>,
    scratch: Scratch,
    activations: Activations,
    out: Vec<f32>,
}

/// Threads and how long to measure.
pub struct Measure {
    pub threads: Threads,
    locals: Vec<Mutex<Local>>,
    repeats: usize,
    cold_bytes: usize,
    random: Random,
}

/// Keys and values in blocks: heads lie one after another.
pub struct Cache {
    words: Vec<Word>,
}

const LAYOUT: HeadLayout = HeadLayout { head_dim: HEAD_DIM, block_tokens: BLOCK_TOKENS };

impl Cache {
    /// Blocks of head `index` among those that fit, `count` each.
    fn head(&self, index: usize, count: usize) -> Vec<&[Word]> {
        let first = index % self.heads(count) * count * LAYOUT.words();
        self.words[first..first + count * LAYOUT.words()].chunks_exact(LAYOUT.words()).collect()
    }

    fn heads(&self, count: usize) -> usize {
        (self.words.len() / (count * LAYOUT.words())).max(1)
    }
}

impl Measure {
    pub fn new(threads: usize, repeats: usize, cold_bytes: usize) -> Self {
        let threads = Threads::new(threads);
        let local = || Local {
            panel: Panel::new(),
            scratch: Scratch::default(),
            activations: Activations::default(),
            out: Vec::new(),
        };
        let locals = (0..threads.count()).map(|_| Mutex::new(local())).collect();
        Self { threads, locals, repeats, cold_bytes, random: Random::new(1) }
    }

    fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.random.normal() as f32).collect()
    }

    /// Copies of one matrix that together are cold.
    pub fn weights(
        &mut self,
        format: TensorType,
        rows: usize,
        columns: usize,
    ) -> anyhow::Result<Vec<PackedMatrix>> {
        let few: Vec<u8> = (0..RANDOM_ROWS).flat_map(|_| encode(format, &self.normals(columns))).collect();
        let bytes: Vec<u8> = few.iter().copied().cycle().take(rows * format.row_bytes(columns)).collect();
        let mut arena = Arena::default();
        let mut copies: Vec<PackedMatrix> = Vec::new();
        while copies.iter().map(PackedMatrix::bytes).sum::<usize>() < self.cold_bytes.max(1) {
            copies.push(PackedMatrix::pack(format, rows, columns, &bytes, &mut self.threads, &mut arena)?);
        }
        Ok(copies)
    }

    /// Seconds of a unit, once for each repeat.
    fn time(
        &mut self,
        items: usize,
        grain: usize,
        work: &(dyn Fn(usize, usize, &mut Local) + Sync),
    ) -> anyhow::Result<Vec<f64>> {
        let mut first = 0;
        let mut pass = |units: usize| -> anyhow::Result<f64> {
            let (locals, from) = (&self.locals, first);
            let tiles = Tiles::split(units * items, grain, self.threads.count());
            let begun = Instant::now();
            self.threads.run(&|thread| {
                // Nobody else takes it: no two threads have the same index.
                let mut local = locals[thread].lock().unwrap_or_else(PoisonError::into_inner);
                while let Some(run) = tiles.take(thread) {
                    for item in run {
                        work(from + item / items, item % items, &mut local);
                    }
                }
            })?;
            first += units;
            Ok(begun.elapsed().as_secs_f64() / units as f64)
        };
        let one = pass(1)?; // buffers grow
        // A unit alone may be shorter than a wake-up, so the number of them is found by doubling.
        let (mut units, most) = (1, ((1 << 22) / items).max(1));
        let mut seconds = one;
        while seconds * (units as f64) < PASS_SECONDS / 2.0 && units < most {
            units = (2 * units).min(most);
            seconds = pass(units)?;
        }
        units = ((PASS_SECONDS / seconds) as usize).clamp(1, most);
        (0..self.repeats).map(|_| pass(units)).collect()
    }

    /// Copies of a matrix, in turns, times `count` rows.
    pub fn product(
        &mut self,
        kernels: Kernels,
        copies: &[PackedMatrix],
        format: TensorType,
        count: usize,
    ) -> anyhow::Result<Timed> {
        let matrix = &copies[0];
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let mut input = Activations::default();
        input.reset(count, columns);
        for row in 0..count {
            let mut x = self.normals(columns);
            x.resize(padded(columns), 0.0);
            kernels.quantize(&x, input.row_mut(row));
        }
        let input = input.rows();
        let pairs = matrix.tiles().div_ceil(PANEL_TILES);
        let grain = if count > DIRECT_ROWS_MAX { 1 } else { 4 };
        let seconds = self.time(pairs, grain, &|unit, pair, local| {
            let matrix = &copies[unit % copies.len()];
            let first = pair * PANEL_TILES;
            let tiles: [Tile<'_>; PANEL_TILES] =
                std::array::from_fn(|t| matrix.tile((first + t).min(matrix.tiles() - 1)));
            local.out.resize(count * PANEL_ROWS, 0.0);
            let tiles = &tiles[..PANEL_TILES.min(matrix.tiles() - first)];
            kernels.product(tiles, &input, &mut local.panel, &mut local.out[..count * PANEL_ROWS]);
        })?;
        Ok(Timed {
            kernel: "product",
            name: format!("{} {rows}x{columns} x{count}", format.name()),
            operations: Some(2.0 * (rows * columns * count) as f64),
            // What a tile has past the last row is read, but is no weight.
            bytes: Some(matrix.bytes() as f64 * rows as f64 / (matrix.tiles() * TILE) as f64),
            is_cold: true,
            seconds,
        })
    }

    /// Cold keys and values, enough for one head of `depth` and a prefill behind it.
    pub fn cache(&mut self, depth: usize) -> Cache {
        let one = (depth + PREFILL).div_ceil(BLOCK_TOKENS) * LAYOUT.words();
        let mut words = vec![0; one.max(self.cold_bytes / size_of::<Word>())];
        for block in words.chunks_exact_mut(LAYOUT.words()) {
            let (integers, scales) = block.split_at_mut(LAYOUT.scales());
            // Pairs of up to 4095: what a head of 64 dimensions mostly has.
            integers.fill_with(|| self.random.bits() as Word & 0x0fff_0fff);
            let (scales, exponents) = scales.split_at_mut(BLOCK_TOKENS);
            scales.fill((1e-5f32).to_bits() as Word);
            exponents.fill((-12f32).to_bits() as Word);
        }
        Cache { words }
    }

    /// `count` positions behind `depth` keys, on one KV head after another.
    pub fn attention(
        &mut self,
        kernels: Kernels,
        cache: &Cache,
        depth: usize,
        count: usize,
    ) -> anyhow::Result<Timed> {
        let floats = self.normals(count * GROUP * HEAD_DIM);
        let mut q = vec![0; count * GROUP * LAYOUT.pairs()];
        let pairs = floats.chunks_exact(HEAD_DIM).zip(q.chunks_exact_mut(LAYOUT.pairs()));
        let scales: Vec<f32> = pairs.map(|(x, q)| kernels.by_norm(x, q)).collect();
        let positions: Vec<usize> = (depth..depth + count).collect();
        let blocks = (depth + count).div_ceil(BLOCK_TOKENS);
        let seconds = self.time(count.div_ceil(POSITIONS), 1, &|unit, tile, local| {
            let head = cache.head(unit, blocks);
            let tile = tile * POSITIONS..((tile + 1) * POSITIONS).min(count);
            let width = GROUP * LAYOUT.width();
            local.out.resize(local.out.len().max(tile.len() * width), 0.0);
            let out = &mut local.out[..tile.len() * width];
            let (of, pairs) = (tile.start * GROUP..tile.end * GROUP, LAYOUT.pairs());
            let (q, scales) = (&q[of.start * pairs..of.end * pairs], &scales[of]);
            let positions = &positions[tile];
            let queries = Queries { q, scales, positions, group: GROUP, blocks: &[], layout: LAYOUT };
            kernels.attention(&queries, &head, &mut local.scratch, out);
        })?;
        let keys: usize = positions.iter().map(|position| position + 1).sum();
        let decodes = count == 1;
        Ok(Timed {
            kernel: "attention",
            name: if decodes { format!("decode at {depth}") } else { format!("prefill {count} at {depth}") },
            operations: Some(4.0 * (keys * GROUP * HEAD_DIM) as f64),
            // A prefill's keys are read over and over, so mostly from caches.
            bytes: decodes.then_some((keys * (4 * HEAD_DIM + 8)) as f64),
            is_cold: decodes,
            seconds,
        })
    }

    /// Rows normed and quantized, as before a product.
    pub fn norm(&mut self, kernels: Kernels, width: usize) -> anyhow::Result<Timed> {
        let (x, weight) = (self.normals(UNIT_ROWS * width), self.normals(width));
        let seconds = self.time(UNIT_ROWS, 4, &|_, row, local| {
            let Local { out, activations, .. } = local;
            out.resize(out.len().max(padded(width)), 0.0);
            let normed = &mut out[..padded(width)];
            kernels.norm(&x[row * width..(row + 1) * width], &weight, 1e-6, normed);
            activations.reset(1, width);
            kernels.quantize(normed, activations.row_mut(0));
        })?;
        // A float in, a byte out.
        Ok(row_figure("norm+quantize", width, 5, seconds))
    }

    /// Rows of gates and what they let through, quantized; 32 columns at a time, as products leave them.
    pub fn silu(&mut self, kernels: Kernels, width: usize) -> anyhow::Result<Timed> {
        let groups = width.div_ceil(PANEL_ROWS);
        let each = UNIT_ROWS * PANEL_ROWS;
        let (gate, up) = (self.normals(groups * each), self.normals(groups * each));
        let seconds = self.time(groups, 4, &|_, group, local| {
            local.activations.reset(UNIT_ROWS, width);
            let of = group * each..(group + 1) * each;
            kernels.silu_quantize(&gate[of.clone()], &up[of], &mut local.activations, group);
        })?;
        // Two floats in, a byte out.
        Ok(row_figure("silu+quantize", width, 9, seconds))
    }
}

/// Rows are in the caches, where a step has them too.
fn row_figure(kernel: &'static str, width: usize, bytes: usize, seconds: Vec<f64>) -> Timed {
    Timed {
        kernel,
        name: format!("{kernel} {width}"),
        operations: None,
        bytes: Some((UNIT_ROWS * width * bytes) as f64),
        is_cold: false,
        seconds,
    }
}
