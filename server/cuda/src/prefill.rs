//! Attention of rows with many tokens (prefill) by another library, in place of `attend_prefill`: what it is asked, and how
//! a pass gives it its input.
//!
//! ```text
//! queries f32 → bf16 → the library, on the compute stream, reading keys and values where they lie → bf16 → f32
//! ```
//! Blocks lie in slabs, so their distances are no multiples of a block. Pages therefore begin every
//! [`KvCache::page_bytes`], which divides the distance of any two blocks: they overlap, and tables name those that blocks are.
//! Rows of few tokens, decode among them, stay with our own kernels.

use std::ffi::c_void;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUdeviceptr;
use quarry_cuda_layout::{KvKind, Scratch};
use quarry_model::backend::{ActivateOptions, BackendError};
use quarry_model::executor::Row;
use quarry_model::spec::DecoderSpec;

use crate::device::{Argument, Device, backend};
use crate::forward::Pass;
use crate::kv::KvCache;
use crate::packing::COLUMNS;

/// What attention is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Positions of a page.
    pub page_tokens: usize,
}

/// One layer's attention of some rows. Addresses are the device's; strides count bf16 elements.
///
/// A row's queries are of its last positions, and see every key up to their own. Queries are divided by the root of `head_dim`
/// already: the softmax is of the products as they are.
#[derive(Clone, Copy, Debug)]
pub struct PrefillCall {
    pub shape: AttentionShape,
    pub rows: usize,
    /// Tokens of all rows, and of the longest.
    pub tokens: usize,
    pub row_tokens_max: usize,
    /// Positions of the row that has most, those of earlier steps included.
    pub row_positions_max: usize,
    /// bf16 `tokens × token_stride`, of which `heads × head_dim` count.
    pub queries: CUdeviceptr,
    pub token_stride: usize,
    /// bf16 `tokens × heads × head_dim`: written.
    pub attended: CUdeviceptr,
    /// f32 `heads × tokens`: may be written.
    pub sums: CUdeviceptr,
    /// bf16 `[page_stride] × pages`, in each `kv_heads × page_tokens × head_dim`; pages overlap.
    pub keys: CUdeviceptr,
    pub values: CUdeviceptr,
    pub page_stride: usize,
    /// i32 `rows × row_pages_max`: each row's pages in order, then anything.
    pub page_tables: CUdeviceptr,
    pub row_pages_max: usize,
    /// i32 `rows + 1`: 0, then tokens and positions of the rows, each added to those before.
    pub token_ends: CUdeviceptr,
    pub position_ends: CUdeviceptr,
    /// The driver's handle; the work is queued there.
    pub stream: *mut c_void,
}

/// A library that computes attention of rows with many tokens.
pub trait PrefillAttention: fmt::Debug + Send + Sync {
    /// For messages.
    fn name(&self) -> &'static str;

    /// Why it cannot compute this shape; `None` where it can.
    fn refusal(&self, shape: AttentionShape) -> Option<String>;

    /// Queues the work. It is not asked whether that went well: the executor tries each shape once before it relies on it.
    ///
    /// # Safety
    /// The call's memory is as it describes until the stream has come past the work, and the device's context is current.
    unsafe fn launch(&self, call: &PrefillCall);
}

/// The library for one executor.
#[derive(Clone, Copy, Debug)]
pub struct Prefill {
    library: &'static dyn PrefillAttention,
    shape: AttentionShape,
}

/// Where a step's arrays for the library begin, and how much they describe.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrefillOrders {
    rows: usize,
    row_tokens_max: usize,
    row_positions_max: usize,
    row_pages_max: usize,
    /// i32, as [`PrefillCall`] has them.
    page_tables: usize,
    token_ends: usize,
    position_ends: usize,
    /// u32: 0, 1, 2, … for each token.
    each: usize,
}

impl PrefillOrders {
    /// For the rows that the library computes; `put` appends an array to the step's orders and says where it begins.
    pub fn write(rows: &[&Row<'_>], cache: &KvCache, put: &mut dyn FnMut(&[u8]) -> usize) -> Self {
        let (block_tokens, page_bytes) = (cache.shape.block_tokens, cache.page_bytes());
        let mut out = Self { rows: rows.len(), ..Self::default() };
        let (mut token_ends, mut position_ends) = (vec![0u32], vec![0u32]);
        let (mut tokens, mut positions) = (0, 0);
        for row in rows {
            let end = row.first_position + row.tokens.len();
            tokens += row.tokens.len();
            positions += end;
            token_ends.push(tokens as u32);
            position_ends.push(positions as u32);
            out.row_tokens_max = out.row_tokens_max.max(row.tokens.len());
            out.row_positions_max = out.row_positions_max.max(end);
        }
        out.row_pages_max = out.row_positions_max.div_ceil(block_tokens);
        let mut tables = vec![0u32; rows.len() * out.row_pages_max];
        for (row, table) in rows.iter().zip(tables.chunks_mut(out.row_pages_max.max(1))) {
            let used = (row.first_position + row.tokens.len()).div_ceil(block_tokens);
            for (page, block) in table.iter_mut().zip(&row.blocks[..used]) {
                *page = (cache.offset(*block) / page_bytes) as u32;
            }
        }
        let each: Vec<u32> = (0..tokens as u32).collect();
        out.page_tables = put(bytemuck::cast_slice(&tables));
        out.token_ends = put(bytemuck::cast_slice(&token_ends));
        out.position_ends = put(bytemuck::cast_slice(&position_ends));
        out.each = put(bytemuck::cast_slice(&each));
        out
    }
}

impl Prefill {
    /// The library for a model's executor, after it has shown that it computes the model's shape on this device.
    ///
    /// # Errors
    /// [`BackendError::Options`] with what to change.
    pub fn new(
        library: &'static dyn PrefillAttention,
        device: &Arc<Device>,
        spec: &DecoderSpec,
        cache: &KvCache,
        scratch: &Scratch,
        options: &ActivateOptions,
    ) -> Result<Self, BackendError> {
        let DecoderSpec { heads, kv_heads, head_dim, .. } = *spec;
        let shape = AttentionShape { heads, kv_heads, head_dim, page_tokens: options.block_tokens };
        let refuse = |why: String| {
            let instead = "set server.prefill_attention to own";
            BackendError::Options(format!("{} cannot compute this model: {why}; {instead}", library.name()))
        };
        if cache.shape.kind != KvKind::Bf16 {
            let kind = cache.shape.kind.name();
            return Err(refuse(format!("it reads bf16, and server.kv_cache_type is {kind}")));
        }
        if let Some(why) = library.refusal(shape) {
            return Err(refuse(why));
        }
        if cache.pages() > i32::MAX as usize {
            return Err(refuse(format!("the KV cache would have {} pages", cache.pages())));
        }
        if scratch.partial.len() < heads * options.batch_tokens_max * 4 {
            return Err(refuse(format!("steps of {} tokens are too long", options.batch_tokens_max)));
        }
        let out = Self { library, shape };
        if !out.computes(device).map_err(backend)? {
            let name = library.name();
            let why =
                format!("{name} computed nothing on this device; was it built for its compute capability?");
            return Err(refuse(why));
        }
        Ok(out)
    }

    /// One row of a page whose keys are 0 and values 1: attention of whatever queries is 1 everywhere.
    fn computes(&self, device: &Arc<Device>) -> Result<bool, DriverError> {
        const ONE: u16 = 0x3f80;
        let AttentionShape { heads, kv_heads, head_dim, page_tokens } = self.shape;
        let (tokens, width, page) = (page_tokens, heads * head_dim, kv_heads * page_tokens * head_dim);
        let mut content = vec![0u8; tokens * width * 2];
        let mut put = |bytes: &[u8]| {
            content.resize(content.len().next_multiple_of(256), 0);
            let at = content.len();
            content.extend_from_slice(bytes);
            at
        };
        let attended = put(&vec![0; tokens * width * 2]);
        let keys = put(&vec![0; page * 2]);
        let values = put(bytemuck::cast_slice(&vec![ONE; page]));
        let sums = put(&vec![0; heads * tokens * 4]);
        let tables = put(bytemuck::cast_slice(&[0u32]));
        let ends = put(bytemuck::cast_slice(&[0, tokens as u32]));
        let memory = device.allocate(content.len())?;
        memory.write(0, &content, &device.compute)?;
        let at = |offset: usize| memory.at(offset, 0);
        let call = PrefillCall {
            shape: self.shape,
            rows: 1,
            tokens,
            row_tokens_max: tokens,
            row_positions_max: tokens,
            queries: at(0),
            token_stride: width,
            attended: at(attended),
            sums: at(sums),
            keys: at(keys),
            values: at(values),
            page_stride: page,
            page_tables: at(tables),
            row_pages_max: 1,
            token_ends: at(ends),
            position_ends: at(ends),
            stream: device.compute.cu_stream().cast(),
        };
        // SAFETY: all of it lies in `memory`, which lives until the stream is waited for, below; `allocate` has bound the
        // context.
        unsafe { self.library.launch(&call) };
        let mut out = vec![0u16; tokens * width];
        memory.read(attended, bytemuck::cast_slice_mut(&mut out), &device.compute)?;
        Ok(out.iter().all(|&value| value == ONE))
    }
}

impl Pass<'_> {
    /// Attention of the tokens that are in tiles, by the library.
    pub fn attend_by(&self, prefill: &Prefill, layer: usize) -> Result<(), DriverError> {
        let (scratch, orders) = (self.scratch, &self.orders);
        let (shape, of) = (prefill.shape, &orders.prefill);
        let AttentionShape { heads, kv_heads, head_dim, page_tokens } = shape;
        let (width, tokens) = (heads * head_dim, orders.count - orders.apart);
        let int = |value: usize| Argument::Int(value as i32);
        let from = |range: &Range<usize>| self.at(range) + (orders.apart * width * 4) as u64;
        let (rounded, attended) = (self.at(&scratch.bf16), self.at(&scratch.f16));
        let queries = &mut [Argument::Address(rounded), Argument::Address(from(&scratch.q)), int(width)];
        self.launch("round_bf16", (tokens, 1, 1), 256, 0, queries)?;
        let layer_keys = layer * 2 * kv_heads * page_tokens * head_dim * 2;
        let keys = self.cache.memory.address() + layer_keys as u64;
        let call = PrefillCall {
            shape,
            rows: of.rows,
            tokens,
            row_tokens_max: of.row_tokens_max,
            row_positions_max: of.row_positions_max,
            queries: rounded,
            token_stride: width.next_multiple_of(COLUMNS),
            attended,
            sums: self.at(&scratch.partial),
            keys,
            values: keys + (kv_heads * page_tokens * head_dim * 2) as u64,
            page_stride: self.cache.page_bytes() / 2,
            page_tables: self.order_at(of.page_tables),
            row_pages_max: of.row_pages_max,
            token_ends: self.order_at(of.token_ends),
            position_ends: self.order_at(of.position_ends),
            stream: self.device.compute.cu_stream().cast(),
        };
        // SAFETY: scratch memory as planned for the batch's bounds, with room for sums and for 16-bit queries and results as
        // `Prefill::new` has seen; blocks that the executor has checked; and the stream's context is the thread's.
        unsafe { prefill.library.launch(&call) };
        // The embedding's kernel widens the rows of a bf16 table that are named: here each in turn.
        let to = Argument::Address(from(&scratch.attended));
        let each = Argument::Address(self.order_at(of.each));
        self.launch(
            "embed_bf16",
            (tokens, 1, 1),
            128,
            0,
            &mut [to, Argument::Address(attended), each, int(width)],
        )
    }
}
