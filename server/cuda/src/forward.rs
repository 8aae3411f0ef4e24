//! The forward pass as launches on the compute stream.
//!
//! ```text
//! embed → per layer: norm → query, key, value → rope_store → attention → round → output + residual
//!                    → norm → gate, up → silu → down + residual
//!       → gather_rows (wanted positions) … norm → head
//! ```
//! Products of up to 8 tokens go to the gemv kernels, others to gemm; both sum in the same order, so a token's numbers
//! do not depend on its company.

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUdeviceptr;
use quarry_model::spec::{DecoderSpec, RopePairing};

use crate::device::{Argument, Device, Memory};
use crate::kernels::Shape;
use crate::kv::KvCache;
use crate::orders::Orders;
use crate::packing::{COLUMNS, Form, GROUP, TILE};
use crate::prefill::Prefill;
use crate::upload::Arrivals;
use crate::weights::{DeviceMatrix, DeviceWeights, Embedding, Layer};
use quarry_cuda_layout::{KvKind, Scratch};

/// Tokens up to which a product is a gemv.
const GEMV_TOKENS: usize = 8;
/// Elements that are summed before they are added to the rest: the shared memory of a gemv holds one sum each.
const CHUNK: usize = 256;
/// Shared memory that a kernel has without asking.
const SHARED_BYTES: usize = 48 << 10;
/// Rows and tokens of a gemm's block.
const GEMM: usize = 64;

type Result<T> = std::result::Result<T, DriverError>;

/// What a pass works with.
pub struct Pass<'a> {
    pub device: &'a Arc<Device>,
    pub spec: &'a DecoderSpec,
    pub weights: &'a DeviceWeights,
    /// Of weights that are on their way.
    pub arrivals: Option<&'a Arrivals>,
    pub cache: &'a KvCache,
    pub scratch: &'a Scratch,
    pub memory: &'a Memory,
    pub orders: Orders,
    /// In place of `attend_prefill`.
    pub prefill: Option<&'a Prefill>,
}

/// Which forms of activations a product needs.
#[derive(Clone, Copy, Default)]
struct Wanted {
    integers: bool,
    bf16: bool,
    f16: bool,
}

impl Wanted {
    fn by(matrices: &[&DeviceMatrix]) -> Self {
        let any = |wanted: &dyn Fn(Form) -> bool| matrices.iter().any(|m| wanted(m.form));
        Self {
            integers: any(&Form::is_integer),
            bf16: any(&|form| form == Form::Bf16),
            f16: any(&|form| form == Form::F16),
        }
    }
}

impl Pass<'_> {
    /// Before [`Pass::run`], for a step whose tokens are still being drawn: what the orders have in place of a token is the
    /// number of the draw in `drawn` that it is.
    pub fn take_drawn(&self, drawn: CUdeviceptr) -> Result<()> {
        let [count, vocab] = [self.orders.count, self.spec.vocab].map(|value| Argument::Int(value as i32));
        let arguments = &mut [self.order(self.orders.tokens), Argument::Address(drawn), count, vocab];
        self.launch("take_drawn", (1, 1, 1), 64, 0, arguments)
    }

    /// Everything up to the wanted positions' residual stream. False where nobody waited for it to the end.
    pub fn run(&self, is_wanted: &dyn Fn() -> bool) -> Result<bool> {
        self.wait_for(0)?;
        self.embed()?;
        for (index, layer) in self.weights.all.layers.iter().enumerate() {
            if !is_wanted() {
                return Ok(false);
            }
            self.wait_for(index + 1)?;
            self.attention(index, layer)?;
            self.mlp(layer)?;
        }
        self.gather()?;
        Ok(true)
    }

    /// The stream goes on when this part of the weights has come.
    fn wait_for(&self, part: usize) -> Result<()> {
        self.arrivals.map_or(Ok(()), |arrivals| arrivals.wait(self.device, part))
    }

    pub fn at(&self, range: &Range<usize>) -> CUdeviceptr {
        self.memory.at(range.start, range.len())
    }

    fn order(&self, offset: usize) -> Argument {
        Argument::Address(self.order_at(offset))
    }

    pub fn order_at(&self, offset: usize) -> CUdeviceptr {
        self.memory.at(self.scratch.orders.start + offset, 0)
    }

    pub fn launch(
        &self,
        name: &'static str,
        grid: (usize, usize, usize),
        block: usize,
        shared: usize,
        arguments: &mut [Argument],
    ) -> Result<()> {
        let shape = Shape {
            grid: (grid.0 as u32, grid.1 as u32, grid.2 as u32),
            block: block as u32,
            shared_bytes: shared as u32,
        };
        // SAFETY: the callers below give each kernel its own arguments; addresses are those of weights, of the scratch
        // memory as planned for the batch's bounds, and of blocks that the executor has checked.
        unsafe { self.device.kernels.launch(name, shape, arguments, &self.device.compute) }
    }

    fn embed(&self) -> Result<()> {
        let (x, tokens) = (Argument::Address(self.at(&self.scratch.x)), self.order(self.orders.tokens));
        let hidden = Argument::Int(self.spec.hidden as i32);
        let grid = (self.orders.count, 1, 1);
        let packed = |matrix: &DeviceMatrix| {
            let name = if matrix.form == Form::Q4 { "embed_q4" } else { "embed_q8" };
            let (weights, scales) = (Argument::Address(matrix.weights), Argument::Address(matrix.scales));
            self.launch(name, grid, 128, 0, &mut [x, weights, scales, tokens, hidden])
        };
        match &self.weights.all.embedding {
            Embedding::Rows { form, rows } => {
                let name = if *form == Form::Bf16 { "embed_bf16" } else { "embed_f16" };
                self.launch(name, grid, 128, 0, &mut [x, Argument::Address(*rows), tokens, hidden])
            }
            Embedding::Packed(matrix) => packed(matrix),
            Embedding::Tied => packed(&self.weights.all.head),
        }
    }

    fn attention(&self, index: usize, layer: &Layer<DeviceMatrix, CUdeviceptr>) -> Result<()> {
        let DecoderSpec { heads, kv_heads, head_dim, hidden, norm_epsilon, .. } = *self.spec;
        let (scratch, count) = (self.scratch, self.orders.count);
        let [query, key, value] = &layer.qkv;
        self.norm(
            self.at(&scratch.x),
            layer.attention_norm,
            hidden,
            count,
            Wanted::by(&[query, key, value]),
        )?;
        let width = (heads + 2 * kv_heads) * head_dim;
        let mut column = 0;
        for matrix in [query, key, value] {
            let bias = layer.qkv_bias.map(|bias| bias + column as u64 * 4);
            let to = self.at(&scratch.qkv) + column as u64 * 4;
            self.product(matrix, to, bias, None, width, count)?;
            column += matrix.rows;
        }
        let null = Argument::Address(0);
        let or_null = |address: Option<CUdeviceptr>| address.map_or(null, Argument::Address);
        let all = &self.weights.all;
        let (q, arena) =
            (Argument::Address(self.at(&scratch.q)), Argument::Address(self.cache.memory.address()));
        let block_tokens = Argument::Int(self.cache.shape.block_tokens as i32);
        let int = |value: usize| Argument::Int(value as i32);
        let (store, threads) = match self.cache.shape.kind {
            KvKind::Bf16 => ("rope_store", 32 * head_dim.div_ceil(64)),
            KvKind::Int8 => ("rope_store_i8", 32),
        };
        self.launch(
            store,
            (count, heads + 2 * kv_heads, 1),
            threads,
            0,
            &mut [
                q,
                arena,
                Argument::Address(self.at(&scratch.qkv)),
                or_null(layer.query_norm),
                or_null(layer.key_norm),
                Argument::Float(norm_epsilon),
                Argument::Address(all.frequencies),
                Argument::Float(all.rope_factor),
                Argument::Int(i32::from(self.spec.rope.pairing == RopePairing::Neighbours)),
                self.order(self.orders.positions),
                self.order(self.orders.block_offsets),
                self.order(self.orders.slots),
                int(index),
                int(heads),
                int(kv_heads),
                int(head_dim),
                block_tokens,
            ],
        )?;
        self.attend(index)?;
        let attended = self.at(&scratch.attended);
        self.prepare(
            "round",
            &[Argument::Address(attended), int(heads * head_dim)],
            count,
            Wanted::by(&[&layer.output]),
        )?;
        let x = self.at(&scratch.x);
        self.product(&layer.output, x, None, Some(x), hidden, count)
    }

    /// Rotated queries → what attention gives: rows of few tokens by `attend`, others by `attend_prefill`: the same bits.
    fn attend(&self, layer: usize) -> Result<()> {
        let DecoderSpec { heads, kv_heads, head_dim, .. } = *self.spec;
        let (scratch, orders, width) = (self.scratch, &self.orders, heads * head_dim);
        let int = |value: usize| Argument::Int(value as i32);
        let arena = Argument::Address(self.cache.memory.address());
        let shape = [layer, heads, kv_heads, head_dim, self.cache.shape.block_tokens].map(int);
        let [few, many] = match self.cache.shape.kind {
            KvKind::Bf16 => ["attend", "attend_prefill"],
            KvKind::Int8 => ["attend_i8", "attend_prefill_i8"],
        };
        let splits = orders.splits;
        let most = scratch.attend_tokens(self.spec, splits);
        let partial = Argument::Address(self.at(&scratch.partial));
        for first in (0..orders.apart).step_by(most) {
            let tokens = most.min(orders.apart - first);
            let skip = |range: &Range<usize>| Argument::Address(self.at(range) + (first * width * 4) as u64);
            let skip_order = |offset: usize| self.order(offset + first * 4);
            let mut arguments = vec![partial, skip(&scratch.q), arena, self.order(orders.tables)];
            arguments.extend([skip_order(orders.table_begins), skip_order(orders.positions)]);
            arguments.extend(shape);
            arguments.push(int(splits));
            self.launch(few, (splits, kv_heads, tokens), 128, 0, &mut arguments)?;
            let merged = &mut [skip(&scratch.attended), partial, int(heads), int(head_dim), int(splits)];
            self.launch("attend_merge", (heads, tokens, 1), 32 * head_dim.div_ceil(32).min(8), 0, merged)?;
        }
        if let Some(prefill) = self.prefill.filter(|_| orders.tiles > 0) {
            return self.attend_by(prefill, layer);
        }
        let to = Argument::Address(self.at(&scratch.attended));
        let mut arguments = vec![to, Argument::Address(self.at(&scratch.q)), arena];
        let arrays = [orders.tables, orders.table_begins, orders.positions];
        arguments.extend(arrays.map(|offset| self.order(offset)));
        arguments.extend([self.order(orders.tile_firsts), self.order(orders.tile_counts)]);
        arguments.extend(shape);
        let block = if head_dim > 128 { 256 } else { 128 };
        self.launch(many, (orders.tiles, kv_heads, 1), block, 0, &mut arguments)
    }

    fn mlp(&self, layer: &Layer<DeviceMatrix, CUdeviceptr>) -> Result<()> {
        let DecoderSpec { hidden, mlp_hidden, .. } = *self.spec;
        let (scratch, count) = (self.scratch, self.orders.count);
        let [gate, up] = &layer.gate_up;
        let x = self.at(&scratch.x);
        self.norm(x, layer.mlp_norm, hidden, count, Wanted::by(&[gate, up]))?;
        let to = self.at(&scratch.gate_up);
        self.product(gate, to, None, None, 2 * mlp_hidden, count)?;
        self.product(up, to + mlp_hidden as u64 * 4, None, None, 2 * mlp_hidden, count)?;
        let input = [Argument::Address(to), Argument::Int(mlp_hidden as i32)];
        self.prepare("silu", &input, count, Wanted::by(&[&layer.down]))?;
        self.product(&layer.down, x, None, Some(x), hidden, count)
    }

    fn gather(&self) -> Result<()> {
        let (last, x) = (self.at(&self.scratch.last), self.at(&self.scratch.x));
        let width = Argument::Int(self.spec.hidden as i32);
        let arguments =
            &mut [Argument::Address(last), Argument::Address(x), self.order(self.orders.wanted), width];
        let count = self.orders.bucket.map_or(self.orders.wanted_count, |bucket| bucket.tokens);
        self.launch("gather_rows", (count, 1, 1), 256, 0, arguments)
    }

    /// Logits of `count` wanted positions from the `first` on, f32 `count × vocab` in the scratch memory.
    pub fn head(&self, first: usize, count: usize) -> Result<()> {
        let DecoderSpec { hidden, vocab, .. } = *self.spec;
        let head = &self.weights.all.head;
        self.wait_for(self.weights.all.layers.len() + 1)?;
        let from = self.at(&self.scratch.last) + (first * hidden * 4) as u64;
        self.norm(from, self.weights.all.output_norm, hidden, count, Wanted::by(&[head]))?;
        self.product(head, self.at(&self.scratch.logits), None, None, vocab, count)
    }

    /// Hidden states of `count` wanted positions after the output norm, in the logits' place.
    pub fn hidden(&self, first: usize, count: usize) -> Result<()> {
        let DecoderSpec { hidden, norm_epsilon, .. } = *self.spec;
        self.wait_for(self.weights.all.layers.len() + 1)?;
        let from = self.at(&self.scratch.last) + (first * hidden * 4) as u64;
        self.launch(
            "norm_f32",
            (count, 1, 1),
            256,
            0,
            &mut [
                Argument::Address(self.at(&self.scratch.logits)),
                Argument::Address(from),
                Argument::Address(self.weights.all.output_norm),
                Argument::Float(norm_epsilon),
                Argument::Int(hidden as i32),
            ],
        )
    }

    fn norm(
        &self,
        x: CUdeviceptr,
        weight: CUdeviceptr,
        hidden: usize,
        count: usize,
        wanted: Wanted,
    ) -> Result<()> {
        let epsilon = Argument::Float(self.spec.norm_epsilon);
        let input = [Argument::Address(x), Argument::Address(weight), epsilon, Argument::Int(hidden as i32)];
        self.prepare("norm", &input, count, wanted)
    }

    /// Activations in the wanted forms, by the kernels of a kind.
    fn prepare(&self, kind: &str, input: &[Argument], count: usize, wanted: Wanted) -> Result<()> {
        let names = match kind {
            "norm" => ["norm_q8", "norm_bf16", "norm_f16"],
            "silu" => ["silu_q8", "silu_bf16", "silu_f16"],
            _ => ["round_q8", "round_bf16", "round_f16"],
        };
        let scratch = self.scratch;
        let [integers, scales, sums, bf16, f16] =
            [&scratch.integers, &scratch.scales, &scratch.sums, &scratch.bf16, &scratch.f16]
                .map(|range| Argument::Address(self.at(range)));
        let outputs: [(bool, &[Argument]); 3] =
            [(wanted.integers, &[integers, scales, sums]), (wanted.bf16, &[bf16]), (wanted.f16, &[f16])];
        for (name, (is_wanted, output)) in names.into_iter().zip(outputs) {
            if is_wanted {
                self.launch(name, (count, 1, 1), 256, 0, &mut [output, input].concat())?;
            }
        }
        Ok(())
    }

    /// `to[token · ld + row] = matrix · activations + bias + residual`.
    fn product(
        &self,
        matrix: &DeviceMatrix,
        to: CUdeviceptr,
        bias: Option<CUdeviceptr>,
        residual: Option<CUdeviceptr>,
        ld: usize,
        count: usize,
    ) -> Result<()> {
        let columns = matrix.columns.next_multiple_of(COLUMNS);
        let shared = columns.div_ceil(CHUNK) * TILE * GEMV_TOKENS * 4;
        let is_gemv = count <= GEMV_TOKENS && shared <= SHARED_BYTES;
        let name = match (matrix.form, is_gemv) {
            (Form::Q4, true) => "gemv_q4",
            (Form::Awq, true) => "gemv_awq",
            (Form::Q8, true) => "gemv_q8",
            (Form::Bf16, true) => "gemv_bf16",
            (Form::F16, true) => "gemv_f16",
            (Form::Q4, false) => "gemm_q4",
            (Form::Awq, false) => "gemm_awq",
            (Form::Q8, false) => "gemm_q8",
            (Form::Bf16, false) => "gemm_bf16",
            (Form::F16, false) => "gemm_f16",
        };
        let address = |range: &Range<usize>| Argument::Address(self.at(range));
        let scratch = self.scratch;
        let mut arguments = vec![Argument::Address(to), Argument::Address(matrix.weights)];
        if matrix.form.is_integer() {
            arguments.push(Argument::Address(matrix.scales));
            arguments.extend([address(&scratch.integers), address(&scratch.scales), address(&scratch.sums)]);
        } else {
            arguments.push(address(if matrix.form == Form::Bf16 { &scratch.bf16 } else { &scratch.f16 }));
        }
        arguments.extend([Argument::Address(bias.unwrap_or(0)), Argument::Address(residual.unwrap_or(0))]);
        arguments.extend([matrix.rows, columns, count, ld].map(|value| Argument::Int(value as i32)));
        if is_gemv {
            self.launch(name, (matrix.rows.div_ceil(TILE), 1, 1), 256, shared, &mut arguments)
        } else {
            let grid = (matrix.rows.div_ceil(GEMM), count.div_ceil(GEMM), 1);
            self.launch(name, grid, 128, 0, &mut arguments)
        }
    }
}

const _: () = assert!(COLUMNS.is_multiple_of(GROUP));
