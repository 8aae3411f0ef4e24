//! The forward pass: every row's tokens go through each matrix together.
//!
//! ```text
//! per layer: [norm, quantize] → QKV → bias, QK-norm, RoPE, cache write → attention → [quantize] → output + residual
//!            → [norm, quantize] → gate, up, SiLU, quantize → down + residual
//! ```
//! Each arrow is a parallel region whose work is taken in tiles; what a tile computes does not depend on who takes
//! it. Steps in brackets are regions for many tokens; for a few each thread does them for itself, which costs
//! less than meeting. In the last layer only wanted positions go on after the cache write.

mod attend;
mod prepare;
mod project;

use quarry_model::backend::ActivateOptions;
use quarry_model::executor::Batch;
use quarry_model::spec::DecoderSpec;

use crate::activations::Activations;
use crate::isa::Kernels;
use crate::kernels::attention::{Partial, Scratch};
use crate::kernels::elementwise::padded;
use crate::kernels::product::{PANEL_ROWS, Panel};
use crate::kv::KvCache;
use crate::threads::{Shares, Threads, WorkerPanicked};
use crate::weights::{Layer, Weights};

use attend::Gathered;
use prepare::{Input, Quantized};
use project::{Output, TOKENS_MAX};

/// Memory of a pass, kept between passes.
#[derive(Default)]
pub struct Buffers {
    x: Vec<f32>,
    qkv: Vec<f32>,
    attention: Vec<f32>,
    mlp: Activations,
    rope: Vec<f32>,
    activations: Activations,
    spans: Vec<Partial>,
    locals: Vec<Local>,
}

/// Memory of one thread.
struct Local {
    panel: Box<Panel>,
    /// `tokens × 32`: a product's output, and a second one's beside it.
    out: Vec<f32>,
    beside: Vec<f32>,
    /// One row before it is quantized.
    row: Vec<f32>,
    /// Rows that the thread quantizes for itself.
    activations: Activations,
    attention: Scratch,
    gathered: Gathered,
    result: Vec<f32>,
}

// SAFETY: `gathered` holds addresses that are valid only during the region that filled it; nothing else is shared.
unsafe impl Send for Local {}

impl Local {
    fn new() -> Self {
        Self {
            panel: Panel::new(),
            out: Vec::new(),
            beside: Vec::new(),
            row: Vec::new(),
            activations: Activations::default(),
            attention: Scratch::default(),
            gathered: Gathered::default(),
            result: Vec::new(),
        }
    }
}

/// Bytes that the largest batch takes beside weights and KV, threads' own memory not counted.
pub fn scratch_bytes(spec: &DecoderSpec, options: &ActivateOptions) -> usize {
    let floats = spec.hidden + (2 * spec.heads + 2 * spec.kv_heads) * spec.head_dim + spec.head_dim;
    let integers = padded(spec.hidden.max(spec.heads * spec.head_dim)) + padded(spec.mlp_hidden);
    options.batch_tokens_max * (4 * floats + 2 * integers) + options.batch_rows_max * spec.vocab * 4
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

impl Pass<'_> {
    /// Runs the batch and leaves the wanted positions' final hidden states in `hidden`, `wanted × hidden`. False where
    /// nobody waited for it to the end.
    pub fn run(&mut self, batch: &Batch<'_>, hidden: &mut Vec<f32>) -> Result<bool, WorkerPanicked> {
        let spec = self.spec;
        let mut places = Vec::new();
        let mut wanted = Vec::new();
        for (row, r) in batch.rows.iter().enumerate() {
            wanted.extend(r.wanted.iter().map(|offset| places.len() + offset));
            places.extend((0..r.tokens.len()).map(|i| Place { row, position: r.first_position + i }));
        }
        self.buffers.locals.resize_with(self.threads.count(), Local::new);
        self.embed(batch);
        self.rope_table(&places);
        let count = places.len();
        let all: Vec<usize> = (0..count).collect();
        for (index, layer) in self.weights.layers.iter().enumerate() {
            if !(batch.is_wanted)() {
                return Ok(false);
            }
            let last = index + 1 == self.weights.layers.len();
            self.qkv(layer, count)?;
            self.finish_qkv(layer, index, batch, &places)?;
            if !last {
                self.attend(index, batch, &places, &all)?;
                self.output_and_mlp(layer, count)?;
                continue;
            }
            if wanted.is_empty() {
                break;
            }
            self.attend(index, batch, &places, &wanted)?;
            // From here on the buffers hold the wanted positions only.
            for (to, &from) in wanted.iter().enumerate() {
                self.buffers.x.copy_within(from * spec.hidden..(from + 1) * spec.hidden, to * spec.hidden);
            }
            self.output_and_mlp(layer, wanted.len())?;
        }
        hidden.clear();
        hidden.extend_from_slice(&self.buffers.x[..wanted.len() * spec.hidden]);
        Ok(true)
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

    fn qkv(&mut self, layer: &Layer, count: usize) -> Result<(), WorkerPanicked> {
        let (query, kv) = (layer.query.rows(), layer.key.rows());
        let width = query + 2 * kv;
        let Buffers { x, qkv, activations, locals, .. } = &mut *self.buffers;
        qkv.resize(count * width, 0.0);
        let to = Shares::new(qkv);
        let store = |base| Output { to, width, base, is_added: false };
        let parts = [(&layer.query, store(0)), (&layer.key, store(query)), (&layer.value, store(query + kv))];
        let input = Input::norm(x, &layer.attention_norm, self.spec.norm_epsilon, self.kernels);
        let input = prepare::quantize(self.threads, self.kernels, locals, activations, &input, count)?;
        project::matrices(self.threads, self.kernels, locals, &parts, &input, count, None)
    }

    /// Output projection, MLP and both residuals, for the first `count` rows of the buffers.
    fn output_and_mlp(&mut self, layer: &Layer, count: usize) -> Result<(), WorkerPanicked> {
        let hidden = self.spec.hidden;
        let (threads, kernels) = (&mut *self.threads, self.kernels);
        let Buffers { x, attention, mlp, activations, locals, .. } = &mut *self.buffers;
        let add = |x: &mut [f32]| Output { to: Shares::new(x), width: hidden, base: 0, is_added: true };
        let width = layer.output.columns();
        let input = Input::copy(attention, width);
        let input = prepare::quantize(threads, kernels, locals, activations, &input, count)?;
        let residual = add(x);
        project::matrices(threads, kernels, locals, &[(&layer.output, residual)], &input, count, None)?;

        let input = Input::norm(x, &layer.mlp_norm, self.spec.norm_epsilon, kernels);
        let input = prepare::quantize(threads, kernels, locals, activations, &input, count)?;
        project::gate_up(threads, kernels, locals, layer, &input, count, mlp)?;

        let input = Quantized::Shared(mlp);
        let residual = add(x);
        project::matrices(threads, kernels, locals, &[(&layer.down, residual)], &input, count, None)
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
        let Buffers { activations, locals, .. } = &mut *self.buffers;
        let input = Input::norm(hidden, &self.weights.output_norm, norm_epsilon, self.kernels);
        let input = prepare::quantize(self.threads, self.kernels, locals, activations, &input, count)?;
        let output = Output { to: Shares::new(logits), width: vocab, base: 0, is_added: false };
        let parts = [(&self.weights.head, output)];
        project::matrices(self.threads, self.kernels, locals, &parts, &input, count, Some(needed))
    }
}

const _: () = assert!(TOKENS_MAX >= PANEL_ROWS);
