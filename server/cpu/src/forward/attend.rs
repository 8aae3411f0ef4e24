//! From projections to attention's output: bias, QK-norm, rotary embedding and cache write, then attention itself.
//!
//! An item of attention is a KV head and a tile of one row's positions: all query heads of the KV head, so that keys
//! and values are read once for them. One position alone whose keys would keep few threads busy is cut into spans,
//! which are merged in order; the bits are the same either way (see [`crate::kernels::attention`]).

use quarry_model::executor::Batch;
use quarry_model::ids::BlockId;
use quarry_model::spec::{DecoderSpec, RopePairing};

use crate::isa::Kernels;
use crate::kernels::attention::{Queries, SPAN};
use crate::kernels::fixed_point::Word;
use crate::kernels::vector::LANES;
use crate::kv::{Entry, KvCache};
use crate::threads::{Shares, Tiles, WorkerPanicked};
use crate::weights::Layer;

use super::{Buffers, Local, Pass, Place};

/// Queries of a tile, about: enough to pay for converting a tile of keys, few enough for the second-level cache.
const QUERIES: usize = 112;
/// Positions of a tile at least.
const POSITIONS_MIN: usize = 16;
/// Tokens whose bias, norm and rotation one thread does alone sooner than all meet.
const ALONE_MAX: usize = 2;
/// Multiply-adds of attention that one thread does alone sooner than all meet: some microseconds.
const ALONE_OPERATIONS: usize = 1 << 17;

impl Pass<'_> {
    /// Bias, QK-norm, RoPE; keys and values go to the cache, queries stay, scaled for attention.
    pub(super) fn finish_qkv(
        &mut self,
        layer: &Layer,
        index: usize,
        batch: &Batch<'_>,
        places: &[Place],
    ) -> Result<(), WorkerPanicked> {
        let DecoderSpec { heads, kv_heads, head_dim, norm_epsilon, .. } = *self.spec;
        let width = (heads + 2 * kv_heads) * head_dim;
        let pairing = self.spec.rope.pairing;
        let (kv, rope, kernels) = (self.kv, &self.buffers.rope, self.kernels);
        // Scores are powers of two.
        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let out = Shares::new(&mut self.buffers.qkv);
        let work = Tiles::split(places.len(), 4, self.threads.count());
        let region = |thread: usize| {
            let mut normed = vec![0f32; head_dim];
            let mut entry = Entry::new(kv.shape.head);
            while let Some(run) = work.take(thread) {
                for token in run {
                    // SAFETY: each token is handed to one thread.
                    let row = unsafe { out.slice(token * width, width) };
                    if !layer.qkv_bias.is_empty() {
                        // SAFETY: the table proves the instruction set.
                        unsafe { (kernels.add)(row, &layer.qkv_bias) };
                    }
                    let angles = rope[token * head_dim..(token + 1) * head_dim].split_at(head_dim / 2);
                    let (queries, rest) = row.split_at_mut(heads * head_dim);
                    let (keys, values) = rest.split_at_mut(kv_heads * head_dim);
                    let mut turn = |head: &mut [f32], norm: &[f32], scale: f32| {
                        if !norm.is_empty() {
                            // SAFETY: as above.
                            unsafe { (kernels.norm)(head, norm, norm_epsilon, &mut normed) };
                            head.copy_from_slice(&normed);
                        }
                        rotate(kernels, head, angles, pairing, scale);
                    };
                    for head in queries.chunks_exact_mut(head_dim) {
                        turn(head, &layer.query_norm, scale);
                    }
                    let Place { row, position } = places[token];
                    let block = batch.rows[row].blocks[position / kv.shape.head.block_tokens];
                    let slot = position % kv.shape.head.block_tokens;
                    let pairs = keys.chunks_exact_mut(head_dim).zip(values.chunks_exact(head_dim));
                    for (h, (key, value)) in pairs.enumerate() {
                        turn(key, &layer.key_norm, 1.0);
                        let offset = kv.shape.head_offset(index, h);
                        entry.set(kernels, key, value);
                        // SAFETY: A position is in one row (rows never share a block that either writes), a token is
                        // handed to one thread, and nobody reads until the region ends.
                        unsafe { kv.write(block, slot, offset, &entry) };
                    }
                }
            }
        };
        if places.len() <= ALONE_MAX {
            region(0);
            return Ok(());
        }
        self.threads.run(&region)
    }

    /// Attention of the tokens in `tokens`, ascending; the output is packed in that order.
    pub(super) fn attend(
        &mut self,
        index: usize,
        batch: &Batch<'_>,
        places: &[Place],
        tokens: &[usize],
    ) -> Result<(), WorkerPanicked> {
        let DecoderSpec { heads, kv_heads, head_dim, .. } = *self.spec;
        let group = heads / kv_heads;
        let tiles = tiles(places, tokens, group);
        let Buffers { qkv, attention, spans, locals, .. } = &mut *self.buffers;
        attention.resize(tokens.len() * heads * head_dim, 0.0);
        let attending = Attending {
            spec: self.spec,
            kv: self.kv,
            kernels: self.kernels,
            index,
            batch,
            places,
            tokens,
            qkv,
            out: Shares::new(attention),
        };
        let keys: usize = tokens.iter().map(|&token| places[token].position + 1).sum();
        let last = |tile: &std::ops::Range<usize>| places[tokens[tile.end - 1]].position;
        let longest = tiles.iter().map(last).max().unwrap_or(0);
        let single = tiles.iter().all(|tile| tile.len() == 1);
        if single && longest >= SPAN && tiles.len() * kv_heads < 4 * self.threads.count() {
            // (tile, KV head, span), all spans of a query one after another.
            let mut items = Vec::new();
            for tile in &tiles {
                for head in 0..kv_heads {
                    items.extend((0..=last(tile) / SPAN).map(|span| (tile.clone(), head, span)));
                }
            }
            spans.resize_with(items.len(), Default::default);
            let (parts, locals) = (Shares::new(spans), Shares::new(locals));
            let work = Tiles::shared(items.len(), 1);
            self.threads.run(&|thread| {
                // SAFETY: no two threads have the same index.
                let local = unsafe { &mut locals.slice(thread, 1)[0] };
                while let Some(run) = work.take(thread) {
                    for item in run {
                        let (tile, head, span) = items[item].clone();
                        // SAFETY: each item is handed to one thread.
                        let part = unsafe { &mut parts.slice(item, 1)[0] };
                        attending.span(tile, head, span, local, part);
                    }
                }
            })?;
            let mut first = 0;
            while first < items.len() {
                let (tile, head, _) = items[first].clone();
                let count = last(&tile) / SPAN + 1;
                // SAFETY: the region above is over.
                let parts = unsafe { parts.slice(first, count) };
                // SAFETY: as above.
                let local = unsafe { &mut locals.slice(0, 1)[0] };
                attending.merge(tile, head, parts, local);
                first += count;
            }
            return Ok(());
        }
        // Longest first, so that the threads end together: later positions see more keys.
        let work = Tiles::shared(tiles.len() * kv_heads, 1);
        let locals = Shares::new(locals);
        let region = |thread: usize| {
            // SAFETY: no two threads have the same index.
            let local = unsafe { &mut locals.slice(thread, 1)[0] };
            while let Some(run) = work.take(thread) {
                for item in run {
                    let tile = tiles[tiles.len() - 1 - item / kv_heads].clone();
                    attending.tile(tile, item % kv_heads, local);
                }
            }
        };
        if keys * heads * head_dim <= ALONE_OPERATIONS {
            region(0);
            return Ok(());
        }
        self.threads.run(&region)
    }
}

/// Runs of one row's tokens, as indices into `tokens`.
fn tiles(places: &[Place], tokens: &[usize], group: usize) -> Vec<std::ops::Range<usize>> {
    let most = (QUERIES / group).max(POSITIONS_MIN);
    let mut tiles = Vec::new();
    let mut start = 0;
    while start < tokens.len() {
        let row = places[tokens[start]].row;
        let same = tokens[start..].iter().take(most).take_while(|&&t| places[t].row == row).count();
        tiles.push(start..start + same);
        start += same;
    }
    tiles
}

/// A tile's queries and the addresses of its keys; addresses are valid only during the region that gathered them.
#[derive(Default)]
pub(super) struct Gathered {
    q: Vec<Word>,
    scales: Vec<f32>,
    positions: Vec<usize>,
    blocks: Vec<*const Word>,
}

/// One layer's attention.
struct Attending<'a> {
    spec: &'a DecoderSpec,
    kv: &'a KvCache,
    kernels: Kernels,
    index: usize,
    batch: &'a Batch<'a>,
    places: &'a [Place],
    tokens: &'a [usize],
    qkv: &'a [f32],
    out: Shares<f32>,
}

impl Attending<'_> {
    fn group(&self) -> usize {
        self.spec.heads / self.spec.kv_heads
    }

    /// The tile's queries of one KV head, gathered into the thread's memory.
    fn queries<'b>(
        &self,
        tile: std::ops::Range<usize>,
        head: usize,
        gathered: &'b mut Gathered,
    ) -> Queries<'b> {
        let DecoderSpec { heads, kv_heads, head_dim, .. } = *self.spec;
        let (group, layout) = (self.group(), self.kv.shape.head);
        let row_width = (heads + 2 * kv_heads) * head_dim;
        let Gathered { q, scales, positions, blocks } = gathered;
        q.resize(tile.len() * group * layout.pairs(), 0);
        scales.clear();
        positions.clear();
        let mut to = q.as_mut_slice();
        for &token in &self.tokens[tile.clone()] {
            let at = token * row_width + head * group * head_dim;
            for x in self.qkv[at..at + group * head_dim].chunks_exact(head_dim) {
                let integers;
                (integers, to) = to.split_at_mut(layout.pairs());
                // SAFETY: the table proves the instruction set.
                scales.push(unsafe { (self.kernels.by_norm)(x, integers) });
            }
            positions.push(self.places[token].position);
        }
        let row = &self.batch.rows[self.places[self.tokens[tile.start]].row];
        let used = positions.last().map_or(0, |last| last / layout.block_tokens + 1);
        let offset = self.kv.shape.head_offset(self.index, head);
        blocks.clear();
        blocks.extend(row.blocks[..used].iter().map(|&block: &BlockId| self.kv.head(block, offset)));
        Queries { q, scales, positions, group, blocks, layout }
    }

    fn tile(&self, tile: std::ops::Range<usize>, head: usize, local: &mut Local) {
        let Local { attention, gathered, result, .. } = local;
        let queries = self.queries(tile.clone(), head, gathered);
        result.resize(queries.count() * queries.layout.width(), 0.0);
        // SAFETY: the table proves the instruction set; blocks cover the last position and are whole heads of the
        // cache, which nobody writes in this region.
        unsafe { (self.kernels.attention)(&queries, attention, result) };
        self.store(tile, head, result);
    }

    fn span(
        &self,
        tile: std::ops::Range<usize>,
        head: usize,
        span: usize,
        local: &mut Local,
        part: &mut crate::kernels::attention::Partial,
    ) {
        let Local { attention, gathered, .. } = local;
        let queries = self.queries(tile, head, gathered);
        // SAFETY: as in `tile`.
        unsafe { (self.kernels.span)(&queries, span, attention, part) };
    }

    fn merge(
        &self,
        tile: std::ops::Range<usize>,
        head: usize,
        parts: &[crate::kernels::attention::Partial],
        local: &mut Local,
    ) {
        let width = self.kv.shape.head.width();
        local.result.resize(tile.len() * self.group() * width, 0.0);
        // SAFETY: the table proves the instruction set; all parts are of this tile's queries.
        unsafe { (self.kernels.merge)(parts, width, &mut local.result) };
        self.store(tile, head, &local.result);
    }

    fn store(&self, tile: std::ops::Range<usize>, head: usize, result: &[f32]) {
        let DecoderSpec { heads, head_dim, .. } = *self.spec;
        let group = self.group();
        let mut results = result.chunks_exact(self.kv.shape.head.width());
        for i in tile {
            for (h, values) in (head * group..(head + 1) * group).zip(results.by_ref()) {
                let at = (i * heads + h) * head_dim;
                // SAFETY: each (token, head) is computed by one item.
                unsafe { self.out.slice(at, head_dim) }.copy_from_slice(&values[..head_dim]);
            }
        }
    }
}

/// Turns a head's pairs and scales it.
fn rotate(
    kernels: Kernels,
    head: &mut [f32],
    (cosines, sines): (&[f32], &[f32]),
    pairing: RopePairing,
    scale: f32,
) {
    if pairing == RopePairing::Neighbours {
        // Pairs side by side become halves and back: the rotation itself is one kernel.
        let halves: Vec<f32> =
            head.iter().step_by(2).chain(head.iter().skip(1).step_by(2)).copied().collect();
        let mut halves = halves;
        // SAFETY: the table proves the instruction set.
        unsafe { (kernels.rotate)(&mut halves, cosines, sines, scale) };
        let (low, high) = halves.split_at(head.len() / 2);
        for (pair, (a, b)) in head.chunks_exact_mut(2).zip(low.iter().zip(high)) {
            pair.copy_from_slice(&[*a, *b]);
        }
        return;
    }
    // SAFETY: as above.
    unsafe { (kernels.rotate)(head, cosines, sines, scale) };
}

const _: () = assert!(SPAN.is_multiple_of(LANES));
