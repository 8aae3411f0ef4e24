//! Matrix products over all threads: items are pairs of tiles times runs of tokens.
//!
//! One token alone streams the weights: items are many and small, so that threads end together. Many tokens share
//! each unpacked panel; where a matrix has too few pairs of tiles for the threads, the tokens are cut as well.

use std::ops::Range;

use crate::activations::Activations;
use crate::isa::Kernels;
use crate::kernels::product::{DIRECT_ROWS_MAX, PANEL_ROWS, PANEL_TILES, Panel, Rows};
use crate::packing::{GROUP, PackedMatrix, TILE, Tile};
use crate::threads::{Shares, Threads, Tiles, WorkerPanicked};
use crate::weights::Layer;

use super::Local;
use super::prepare::Quantized;

/// Tokens of one item at most: a thread's output stays in its second-level cache.
pub const TOKENS_MAX: usize = 512;
/// Tokens of one item at least, where tokens are cut: below this unpacking shows.
const TOKENS_MIN: usize = 64;
/// Items a thread should find, so that a slow core can take fewer.
const ITEMS_PER_THREAD: usize = 6;

/// Where a product goes: rows `width` long, of which it has those from column `base`.
#[derive(Clone, Copy)]
pub struct Output {
    pub to: Shares<f32>,
    pub width: usize,
    pub base: usize,
    /// Added to what is there, or stored.
    pub is_added: bool,
}

impl Output {
    /// Takes `tokens × 32` values for the matrix's rows from `first`, of which `valid` exist.
    ///
    /// # Safety
    /// The buffer outlives the region, and no other thread has these tokens and rows.
    unsafe fn take(
        &self,
        kernels: Kernels,
        tokens: Range<usize>,
        first: usize,
        valid: usize,
        values: &[f32],
    ) {
        let column = self.base + first;
        if valid == PANEL_ROWS {
            let to = self.to.strided(tokens.start * self.width + column, self.width, tokens.len(), valid);
            let rows = if self.is_added { kernels.add_rows } else { kernels.store_rows };
            // SAFETY: the caller's promise; the buffer has these rows; the table proves the instruction set.
            unsafe { rows(&values[..tokens.len() * PANEL_ROWS], to, self.width) };
            return;
        }
        for (token, values) in tokens.zip(values.chunks_exact(PANEL_ROWS)) {
            // SAFETY: the caller's promise; the table proves the instruction set.
            unsafe {
                let to = self.to.slice(token * self.width + column, valid);
                if self.is_added {
                    (kernels.add)(to, &values[..valid]);
                } else {
                    to.copy_from_slice(&values[..valid]);
                }
            }
        }
    }
}

/// How a product is cut into items.
struct Cut {
    /// Pairs of tiles.
    pairs: usize,
    /// Tokens of an item.
    tokens: usize,
    /// Runs of tokens.
    runs: usize,
    count: usize,
}

impl Cut {
    fn new(pairs: usize, count: usize, threads: usize) -> Self {
        let mut tokens = count.min(TOKENS_MAX);
        let enough = threads * ITEMS_PER_THREAD;
        while tokens >= 2 * TOKENS_MIN && pairs * count.div_ceil(tokens) < enough {
            tokens = tokens.div_ceil(2);
        }
        Self { pairs, tokens, runs: count.div_ceil(tokens.max(1)), count }
    }

    fn work(&self, threads: usize) -> Tiles {
        let items = self.pairs * self.runs;
        let grain = if self.count > DIRECT_ROWS_MAX { 1 } else { items / (threads * 32) };
        Tiles::split(items, grain.clamp(1, 8), threads)
    }

    /// Pair and tokens of an item.
    fn item(&self, item: usize) -> (usize, Range<usize>) {
        let first = item % self.runs * self.tokens;
        (item / self.runs, first..(first + self.tokens).min(self.count))
    }
}

/// Each matrix times all rows. `needed` says which tiles are wanted, where not all are.
pub fn matrices(
    threads: &mut Threads,
    kernels: Kernels,
    locals: &mut [Local],
    parts: &[(&PackedMatrix, Output)],
    input: &Quantized<'_>,
    count: usize,
    needed: Option<&(dyn Fn(usize) -> bool + Sync)>,
) -> Result<(), WorkerPanicked> {
    let pairs = |matrix: &PackedMatrix| matrix.tiles().div_ceil(PANEL_TILES);
    let cut = Cut::new(parts.iter().map(|(matrix, _)| pairs(matrix)).sum(), count, threads.count());
    let work = cut.work(threads.count());
    let locals = Shares::new(locals);
    threads.run(&|thread| {
        // SAFETY: no two threads have the same index.
        let local = unsafe { &mut locals.slice(thread, 1)[0] };
        let Local { panel, out, row, activations, .. } = local;
        let Some(first_run) = work.take(thread) else { return };
        let rows = &input.rows(count, kernels, activations, row);
        for run in std::iter::once(first_run).chain(std::iter::from_fn(|| work.take(thread))) {
            for item in run {
                let (mut pair, tokens) = cut.item(item);
                for (matrix, output) in parts {
                    if pair >= pairs(matrix) {
                        pair -= pairs(matrix);
                        continue;
                    }
                    one(kernels, matrix, pair, rows, tokens, needed, panel, out, output);
                    break;
                }
            }
        }
    })
}

/// A pair of tiles of a matrix times some tokens.
#[allow(clippy::too_many_arguments)]
fn one(
    kernels: Kernels,
    matrix: &PackedMatrix,
    pair: usize,
    rows: &Rows<'_>,
    tokens: Range<usize>,
    needed: Option<&(dyn Fn(usize) -> bool + Sync)>,
    panel: &mut Panel,
    out: &mut Vec<f32>,
    output: &Output,
) {
    let both = pair * PANEL_TILES..((pair + 1) * PANEL_TILES).min(matrix.tiles());
    let mut wanted = both.filter(|&tile| needed.is_none_or(|needed| needed(tile)));
    let Some(first) = wanted.next() else { return };
    let second = wanted.next();
    let tiles = [matrix.tile(first), matrix.tile(second.unwrap_or(first))];
    let tiles: &[Tile<'_>] = if second.is_some() { &tiles } else { &tiles[..1] };
    multiply(kernels, tiles, rows, &tokens, panel, out);
    let first = first * TILE;
    let valid = (tiles.len() * TILE).min(matrix.rows() - first);
    // SAFETY: each (token, output row) is in one item, and an item is handed to one thread.
    unsafe { output.take(kernels, tokens, first, valid, out) };
}

fn multiply(
    kernels: Kernels,
    tiles: &[Tile<'_>],
    rows: &Rows<'_>,
    tokens: &Range<usize>,
    panel: &mut Panel,
    out: &mut Vec<f32>,
) {
    out.resize(tokens.len() * PANEL_ROWS, 0.0);
    let rows = rows.part(tokens.start, tokens.len());
    // SAFETY: the table proves the instruction set.
    unsafe { (kernels.product)(tiles, &rows, panel, out) };
}

/// `silu(gate) · up`, both computed by one thread, quantized into `mlp`: a pair of tiles is one group of its columns.
pub fn gate_up(
    threads: &mut Threads,
    kernels: Kernels,
    locals: &mut [Local],
    layer: &Layer,
    input: &Quantized<'_>,
    count: usize,
    mlp: &mut Activations,
) -> Result<(), WorkerPanicked> {
    mlp.reset(count, layer.gate.rows());
    let mlp = mlp.shares();
    let cut = Cut::new(layer.gate.tiles().div_ceil(PANEL_TILES), count, threads.count());
    let work = cut.work(threads.count());
    let locals = Shares::new(locals);
    threads.run(&|thread| {
        // SAFETY: no two threads have the same index.
        let local = unsafe { &mut locals.slice(thread, 1)[0] };
        let Local { panel, out, beside, row, activations, .. } = local;
        let Some(first_run) = work.take(thread) else { return };
        let rows = &input.rows(count, kernels, activations, row);
        for run in std::iter::once(first_run).chain(std::iter::from_fn(|| work.take(thread))) {
            for item in run {
                let (pair, tokens) = cut.item(item);
                let first = pair * PANEL_TILES;
                let tiles = PANEL_TILES.min(layer.gate.tiles() - first);
                for (matrix, out) in [(&layer.gate, &mut *out), (&layer.up, &mut *beside)] {
                    let both = [matrix.tile(first), matrix.tile(first + tiles - 1)];
                    multiply(kernels, &both[..tiles], rows, &tokens, panel, out);
                    if tiles < PANEL_TILES {
                        // What pads the group.
                        out.chunks_exact_mut(PANEL_ROWS).for_each(|row| row[TILE..].fill(0.0));
                    }
                }
                // SAFETY: each (token, group) is stored once, by the thread that computed it; the table proves the
                // instruction set.
                unsafe { (kernels.silu_quantize)(out, beside, &mlp, tokens.start, pair) };
            }
        }
    })
}

const _: () = assert!(PANEL_ROWS == GROUP, "a pair of tiles is a group of the next product");
