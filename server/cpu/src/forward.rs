//! The forward pass: every row's tokens go through each matrix together.
//!
//! Regions per layer: norm + quantize → QKV → bias, QK-norm, RoPE, cache write → attention → quantize → output +
//! residual → norm + quantize → gate, up, SiLU → quantize → down + residual. Work inside a region is taken in
//! tiles; what a tile computes does not depend on who takes it. In the last layer only wanted positions go on
//! after the cache write.

use quarry_model::executor::Batch;
use quarry_model::ids::BlockId;
use quarry_model::spec::{DecoderSpec, RopePairing};

use crate::isa::Kernels;
use crate::kernels::attention::{QUERIES_MAX, Queries};
use crate::kernels::gemm::{ActivationRows, ROWS_MAX};
use crate::kv::KvCache;
use crate::packed::{GROUP, PackedMatrix, TILE};
use crate::quantize::Activations;
use crate::threads::{Shares, Threads, Tiles, WorkerPanicked};
use crate::weights::{Layer, Weights};

/// Activations of a step; reused.
#[derive(Default)]
pub struct Buffers {
    x: Vec<f32>,
    qkv: Vec<f32>,
    attention: Vec<f32>,
    mlp: Vec<f32>,
    rope: Vec<f32>,
    quantized: Activations,
}

/// One token of the batch.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    position: usize,
}

/// What a pass works with.
pub struct Pass<'a> {
    pub spec: &'a DecoderSpec,
    pub weights: &'a Weights,
    pub kernels: Kernels,
    pub threads: &'a mut Threads,
    pub kv: &'a KvCache,
    pub buffers: &'a mut Buffers,
}

type Epilogue<'a> = &'a (dyn Fn(usize, usize, &[f32]) + Sync);

impl Pass<'_> {
    /// Runs the batch and leaves the wanted positions' final hidden states in `hidden`, `wanted × hidden`.
    pub fn run(&mut self, batch: &Batch<'_>, hidden: &mut Vec<f32>) -> Result<(), WorkerPanicked> {
        let spec = self.spec;
        let mut places = Vec::new();
        let mut wanted = Vec::new();
        for (row, r) in batch.rows.iter().enumerate() {
            wanted.extend(r.wanted.iter().map(|offset| places.len() + offset));
            places.extend((0..r.tokens.len()).map(|i| Place { row, position: r.first_position + i }));
        }
        self.embed(batch);
        self.rope_table(&places);
        let count = places.len();
        for (index, layer) in self.weights.layers.iter().enumerate() {
            let last = index + 1 == self.weights.layers.len();
            self.norm_quantize(&layer.attention_norm, count)?;
            self.qkv(layer, count)?;
            self.finish_qkv(layer, index, batch, &places)?;
            if !last {
                self.attend(index, batch, &places, None)?;
                self.rest(layer, count)?;
                continue;
            }
            if wanted.is_empty() {
                break;
            }
            self.attend(index, batch, &places, Some(&wanted))?;
            // From here on the buffers hold the wanted positions only.
            for (to, &from) in wanted.iter().enumerate() {
                self.buffers.x.copy_within(from * spec.hidden..(from + 1) * spec.hidden, to * spec.hidden);
            }
            self.rest(layer, wanted.len())?;
        }
        hidden.clear();
        hidden.extend_from_slice(&self.buffers.x[..wanted.len() * spec.hidden]);
        Ok(())
    }

    fn embed(&mut self, batch: &Batch<'_>) {
        let hidden = self.spec.hidden;
        let tokens = batch.rows.iter().flat_map(|row| row.tokens);
        let count = tokens.clone().count();
        self.buffers.x.resize(count * hidden, 0.0);
        for (&token, x) in tokens.zip(self.buffers.x.chunks_exact_mut(hidden)) {
            self.weights.embed(token, x);
        }
    }

    /// cos and sin of every token's position, `tokens × head_dim`: cosines, then sines.
    fn rope_table(&mut self, places: &[Place]) {
        let pairs = self.weights.frequencies.len();
        let factor = self.weights.rope_factor;
        self.buffers.rope.resize(places.len() * 2 * pairs, 0.0);
        for (place, row) in places.iter().zip(self.buffers.rope.chunks_exact_mut(2 * pairs)) {
            let (cosines, sines) = row.split_at_mut(pairs);
            for ((frequency, cosine), sine) in self.weights.frequencies.iter().zip(cosines).zip(sines) {
                let (s, c) = (place.position as f32 * frequency).sin_cos();
                (*cosine, *sine) = (c * factor, s * factor);
            }
        }
    }

    /// RMS norm of `x` straight into the quantized form.
    fn norm_quantize(&mut self, weight: &[f32], count: usize) -> Result<(), WorkerPanicked> {
        let hidden = self.spec.hidden;
        let epsilon = self.spec.norm_epsilon;
        let Buffers { x, quantized, .. } = &mut *self.buffers;
        let x = &x[..count * hidden];
        let prepare = |row: usize, out: &mut Vec<f32>| {
            out.clear();
            out.extend_from_slice(&x[row * hidden..(row + 1) * hidden]);
            rms_norm(out, weight, epsilon);
        };
        quantize_rows(self.threads, self.kernels, quantized, count, hidden, &prepare)
    }

    fn qkv(&mut self, layer: &Layer, count: usize) -> Result<(), WorkerPanicked> {
        let (query, kv) = (layer.query.rows(), layer.key.rows());
        let width = query + 2 * kv;
        let Buffers { qkv, quantized, .. } = &mut *self.buffers;
        qkv.resize(count * width, 0.0);
        let out = Shares::new(qkv);
        let store = |first: usize| {
            move |m: usize, row: usize, values: &[f32]| {
                // SAFETY: each (m, tile of rows) is stored once, by the thread that computed it.
                unsafe { out.slice(m * width + first + row, values.len()) }.copy_from_slice(values);
            }
        };
        let (q, k, v) = (store(0), store(query), store(query + kv));
        let parts: [(&PackedMatrix, Epilogue<'_>); 3] =
            [(&layer.query, &q), (&layer.key, &k), (&layer.value, &v)];
        matmul(self.threads, self.kernels, &parts, quantized, count)
    }

    /// Bias, QK-norm, RoPE; keys and values go to the cache, queries stay, scaled for attention.
    fn finish_qkv(
        &mut self,
        layer: &Layer,
        index: usize,
        batch: &Batch<'_>,
        places: &[Place],
    ) -> Result<(), WorkerPanicked> {
        let DecoderSpec { heads, kv_heads, head_dim, norm_epsilon, .. } = *self.spec;
        let width = (heads + 2 * kv_heads) * head_dim;
        let pairing = self.spec.rope.pairing;
        let (kv, rope) = (self.kv, &self.buffers.rope);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let out = Shares::new(&mut self.buffers.qkv);
        let work = Tiles::new(places.len(), 4);
        self.threads.run(&|_| {
            while let Some(run) = work.take() {
                for token in run {
                    // SAFETY: each token is handed to one thread.
                    let row = unsafe { out.slice(token * width, width) };
                    for (x, bias) in row.iter_mut().zip(&layer.qkv_bias) {
                        *x += bias;
                    }
                    let (cosines, sines) =
                        rope[token * head_dim..(token + 1) * head_dim].split_at(head_dim / 2);
                    let (queries, rest) = row.split_at_mut(heads * head_dim);
                    let (keys, values) = rest.split_at_mut(kv_heads * head_dim);
                    for head in queries.chunks_exact_mut(head_dim) {
                        if !layer.query_norm.is_empty() {
                            rms_norm(head, &layer.query_norm, norm_epsilon);
                        }
                        rotate(head, cosines, sines, pairing);
                        head.iter_mut().for_each(|x| *x *= scale);
                    }
                    let Place { row, position } = places[token];
                    let block = batch.rows[row].blocks[position / kv.shape.block_tokens];
                    let slot = position % kv.shape.block_tokens;
                    let pairs = keys.chunks_exact_mut(head_dim).zip(values.chunks_exact(head_dim));
                    for (h, (key, value)) in pairs.enumerate() {
                        if !layer.key_norm.is_empty() {
                            rms_norm(key, &layer.key_norm, norm_epsilon);
                        }
                        rotate(key, cosines, sines, pairing);
                        // SAFETY: a position is in one row (rows never share a block that either writes), and a
                        // token is handed to one thread; nobody reads until the region ends.
                        unsafe { kv.write(block, slot, kv.shape.head_offset(index, h), key, value) };
                    }
                }
            }
        })
    }

    /// Attention of all tokens, or of those in `only`; the output is packed in that order.
    fn attend(
        &mut self,
        index: usize,
        batch: &Batch<'_>,
        places: &[Place],
        only: Option<&[usize]>,
    ) -> Result<(), WorkerPanicked> {
        let DecoderSpec { heads, kv_heads, head_dim, .. } = *self.spec;
        let group = heads / kv_heads;
        let width = (heads + 2 * kv_heads) * head_dim;
        let all: Vec<usize>;
        let tokens = match only {
            Some(only) => only,
            None => {
                all = (0..places.len()).collect();
                &all
            }
        };
        // (first index into tokens, end): runs of one row's tokens whose query heads fill a call.
        let per_call = (QUERIES_MAX / group).max(1);
        let mut calls = Vec::new();
        let mut start = 0;
        while start < tokens.len() {
            let row = places[tokens[start]].row;
            let same = tokens[start..].iter().take(per_call).take_while(|&&t| places[t].row == row).count();
            calls.push((start, start + same));
            start += same;
        }
        let Buffers { qkv, attention, .. } = &mut *self.buffers;
        attention.resize(tokens.len() * heads * head_dim, 0.0);
        let out = Shares::new(attention);
        let (kv, kernels, qkv) = (self.kv, self.kernels, &*qkv);
        // Longest first, so that the threads end together: later positions see more keys.
        let work = Tiles::new(calls.len() * kv_heads, 1);
        self.threads.run(&|_| {
            let mut blocks: Vec<*const u16> = Vec::new();
            let (mut q, mut result, mut positions) = (Vec::new(), Vec::new(), Vec::new());
            while let Some(run) = work.take() {
                for item in run {
                    let (start, end) = calls[calls.len() - 1 - item / kv_heads];
                    let kv_head = item % kv_heads;
                    let row = &batch.rows[places[tokens[start]].row];
                    let last = tokens[start..end].iter().map(|&t| places[t].position).max().unwrap_or(0);
                    blocks.clear();
                    let offset = kv.shape.head_offset(index, kv_head);
                    let used = &row.blocks[..last / kv.shape.block_tokens + 1];
                    blocks.extend(used.iter().map(|&block: &BlockId| kv.head(block, offset)));
                    // Query heads beyond a call's bound go in further calls.
                    for part in (0..group).step_by(QUERIES_MAX) {
                        let part_heads = part..group.min(part + QUERIES_MAX);
                        q.clear();
                        positions.clear();
                        for &token in &tokens[start..end] {
                            for head in part_heads.clone() {
                                let at = token * width + (kv_head * group + head) * head_dim;
                                q.extend_from_slice(&qkv[at..at + head_dim]);
                                positions.push(places[token].position);
                            }
                        }
                        result.resize(q.len(), 0.0);
                        let queries = Queries {
                            q: &q,
                            positions: &positions,
                            blocks: &blocks,
                            block_tokens: kv.shape.block_tokens,
                            head_dim,
                        };
                        // SAFETY: the table proves the instruction set; blocks cover `last` and are whole heads
                        // of the cache, which nobody writes in this region.
                        unsafe { (kernels.attention)(queries, &mut result) };
                        let mut results = result.chunks_exact(head_dim);
                        for i in start..end {
                            for (head, values) in part_heads.clone().zip(results.by_ref()) {
                                let at = (i * heads + kv_head * group + head) * head_dim;
                                // SAFETY: each (token, head) is computed by one item.
                                unsafe { out.slice(at, head_dim) }.copy_from_slice(values);
                            }
                        }
                    }
                }
            }
        })
    }

    /// Output projection, MLP and both residuals, for the first `count` rows of the buffers.
    fn rest(&mut self, layer: &Layer, count: usize) -> Result<(), WorkerPanicked> {
        let hidden = self.spec.hidden;
        let query = layer.output.columns();
        {
            let Buffers { x, attention, quantized, .. } = &mut *self.buffers;
            let prepare = |row: usize, out: &mut Vec<f32>| {
                out.clear();
                out.extend_from_slice(&attention[row * query..(row + 1) * query]);
            };
            quantize_rows(self.threads, self.kernels, quantized, count, query, &prepare)?;
            let add = add_to(Shares::new(x), hidden);
            matmul(self.threads, self.kernels, &[(&layer.output, &add)], quantized, count)?;
        }
        self.norm_quantize(&layer.mlp_norm, count)?;
        let Buffers { x, mlp, quantized, .. } = &mut *self.buffers;
        let width = layer.gate.rows();
        mlp.resize(count * width, 0.0);
        gate_up(self.threads, self.kernels, layer, quantized, count, Shares::new(mlp))?;
        let prepare = |row: usize, out: &mut Vec<f32>| {
            out.clear();
            out.extend_from_slice(&mlp[row * width..(row + 1) * width]);
        };
        quantize_rows(self.threads, self.kernels, quantized, count, width, &prepare)?;
        let add = add_to(Shares::new(x), hidden);
        matmul(self.threads, self.kernels, &[(&layer.down, &add)], quantized, count)
    }

    /// Logits of `count` final hidden states, of the head's tiles for which `needed` says so.
    pub fn head(
        &mut self,
        hidden: &[f32],
        needed: &(dyn Fn(usize) -> bool + Sync),
        logits: &mut [f32],
    ) -> Result<(), WorkerPanicked> {
        let DecoderSpec { hidden: width, norm_epsilon, vocab, .. } = *self.spec;
        let count = hidden.len() / width;
        let Buffers { quantized, .. } = &mut *self.buffers;
        let prepare = |row: usize, out: &mut Vec<f32>| {
            out.clear();
            out.extend_from_slice(&hidden[row * width..(row + 1) * width]);
            rms_norm(out, &self.weights.output_norm, norm_epsilon);
        };
        quantize_rows(self.threads, self.kernels, quantized, count, width, &prepare)?;
        let out = Shares::new(logits);
        let store = move |m: usize, row: usize, values: &[f32]| {
            // SAFETY: each (m, tile of rows) is stored once, by the thread that computed it.
            unsafe { out.slice(m * vocab + row, values.len()) }.copy_from_slice(values);
        };
        let head = &self.weights.head;
        let work = Tiles::new(head.tiles(), 16);
        let (kernels, quantized) = (self.kernels, &*quantized);
        self.threads.run(&|_| {
            while let Some(run) = work.take() {
                for tile in run.filter(|&tile| needed(tile)) {
                    multiply(kernels, head, tile, quantized, count, &store);
                }
            }
        })
    }
}

fn add_to(x: Shares<f32>, width: usize) -> impl Fn(usize, usize, &[f32]) + Sync {
    move |m: usize, row: usize, values: &[f32]| {
        // SAFETY: each (m, tile of rows) is added once, by the thread that computed it.
        let x = unsafe { x.slice(m * width + row, values.len()) };
        for (x, value) in x.iter_mut().zip(values) {
            *x += value;
        }
    }
}

/// Rows prepared one by one and quantized, in parallel.
fn quantize_rows(
    threads: &mut Threads,
    kernels: Kernels,
    out: &mut Activations,
    rows: usize,
    columns: usize,
    prepare: &(dyn Fn(usize, &mut Vec<f32>) + Sync),
) -> Result<(), WorkerPanicked> {
    out.reset(rows, columns);
    let groups = out.groups();
    let (q, scales, sums) =
        (Shares::new(&mut out.q), Shares::new(&mut out.scales), Shares::new(&mut out.sums));
    let work = Tiles::new(rows, 8);
    let region = |_: usize| {
        let mut x = Vec::with_capacity(columns);
        while let Some(run) = work.take() {
            for row in run {
                prepare(row, &mut x);
                // SAFETY: each row is handed to one thread; the table proves the instruction set.
                unsafe {
                    let q = q.slice(row * groups * GROUP, groups * GROUP);
                    let (scales, sums) =
                        (scales.slice(row * groups, groups), sums.slice(row * groups, groups));
                    (kernels.quantize)(&x, q, scales, sums);
                }
            }
        }
    };
    if rows <= 8 {
        region(0); // waking others costs more
        return Ok(());
    }
    threads.run(&region)
}

/// Each matrix times all rows; `epilogue(m, first output row, up to 16 values)`.
fn matmul(
    threads: &mut Threads,
    kernels: Kernels,
    parts: &[(&PackedMatrix, Epilogue<'_>)],
    x: &Activations,
    rows: usize,
) -> Result<(), WorkerPanicked> {
    let total = parts.iter().map(|(matrix, _)| matrix.tiles()).sum();
    let work = Tiles::new(total, if rows > 4 { 1 } else { 4 });
    threads.run(&|_| {
        while let Some(run) = work.take() {
            for mut tile in run {
                for (matrix, epilogue) in parts {
                    if tile < matrix.tiles() {
                        multiply(kernels, matrix, tile, x, rows, epilogue);
                        break;
                    }
                    tile -= matrix.tiles();
                }
            }
        }
    })
}

/// One tile times all rows.
fn multiply(
    kernels: Kernels,
    matrix: &PackedMatrix,
    tile: usize,
    x: &Activations,
    rows: usize,
    epilogue: &(dyn Fn(usize, usize, &[f32]) + Sync),
) {
    let lanes = TILE.min(matrix.rows() - tile * TILE);
    let mut out = [[0f32; TILE]; ROWS_MAX];
    for first in (0..rows).step_by(ROWS_MAX) {
        let n = ROWS_MAX.min(rows - first);
        // SAFETY: the table proves the instruction set.
        unsafe { (kernels.gemm)(matrix.tile(tile), strip(x, first, n), &mut out[..n]) };
        for (m, values) in out[..n].iter().enumerate() {
            epilogue(first + m, tile * TILE, &values[..lanes]);
        }
    }
}

/// `silu(gate) * up`, both tiles computed by one thread.
fn gate_up(
    threads: &mut Threads,
    kernels: Kernels,
    layer: &Layer,
    x: &Activations,
    rows: usize,
    mlp: Shares<f32>,
) -> Result<(), WorkerPanicked> {
    let width = layer.gate.rows();
    let work = Tiles::new(layer.gate.tiles(), if rows > 4 { 1 } else { 4 });
    threads.run(&|_| {
        let (mut gate, mut up) = ([[0f32; TILE]; ROWS_MAX], [[0f32; TILE]; ROWS_MAX]);
        while let Some(run) = work.take() {
            for tile in run {
                let lanes = TILE.min(width - tile * TILE);
                for first in (0..rows).step_by(ROWS_MAX) {
                    let n = ROWS_MAX.min(rows - first);
                    // SAFETY: the table proves the instruction set.
                    unsafe {
                        (kernels.gemm)(layer.gate.tile(tile), strip(x, first, n), &mut gate[..n]);
                        (kernels.gemm)(layer.up.tile(tile), strip(x, first, n), &mut up[..n]);
                    }
                    for m in 0..n {
                        // SAFETY: each (m, tile of rows) is stored once, by the thread that computed it.
                        let out = unsafe { mlp.slice((first + m) * width + tile * TILE, lanes) };
                        for ((out, g), u) in out.iter_mut().zip(&gate[m]).zip(&up[m]) {
                            *out = g / (1.0 + (-g).exp()) * u;
                        }
                    }
                }
            }
        }
    })
}

fn strip(x: &Activations, first: usize, n: usize) -> ActivationRows<'_> {
    let groups = x.groups();
    ActivationRows {
        q: &x.q[first * groups * GROUP..(first + n) * groups * GROUP],
        scales: &x.scales[first * groups..(first + n) * groups],
        sums: &x.sums[first * groups..(first + n) * groups],
    }
}

fn rms_norm(x: &mut [f32], weight: &[f32], epsilon: f32) {
    // Sixteen partial sums in a fixed order: exact repetition, and a loop that vectorizes.
    let mut partial = [0f32; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for chunk in whole {
        for (p, x) in partial.iter_mut().zip(chunk) {
            *p += x * x;
        }
    }
    for (p, x) in partial.iter_mut().zip(rest) {
        *p += x * x;
    }
    let mean = partial.iter().sum::<f32>() / x.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    for (x, w) in x.iter_mut().zip(weight) {
        *x = *x * scale * w;
    }
}

fn rotate(head: &mut [f32], cosines: &[f32], sines: &[f32], pairing: RopePairing) {
    let half = head.len() / 2;
    for (i, (c, s)) in cosines.iter().zip(sines).enumerate() {
        let (a, b) = match pairing {
            RopePairing::Halves => (i, i + half),
            RopePairing::Neighbours => (2 * i, 2 * i + 1),
        };
        (head[a], head[b]) = (head[a] * c - head[b] * s, head[a] * s + head[b] * c);
    }
}
