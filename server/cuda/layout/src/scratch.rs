//! Device memory of a step: one piece, cut once.

use std::ops::Range;

use quarry_model::backend::ActivateOptions;
use quarry_model::spec::DecoderSpec;

use crate::draws::DrawRoom;
use crate::form::{COLUMNS, GROUP};

/// Where pieces begin, in bytes.
const ALIGN: usize = 256;
/// Rows of logits that are on the device at once.
pub const HEAD_ROWS: usize = 64;
/// Bytes for the parts of attention that are merged later; one token's may need more.
const PARTIAL_BYTES: usize = 32 << 20;
/// Keys of a split of attention.
pub const SPLIT: usize = 256;
/// Queries of a tile of `attend_prefill`: tokens times the query heads that share a key-value head.
const TILE_QUERIES: usize = 64;

/// Byte ranges within the scratch memory. `T` is the most tokens of a batch.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Residual stream, f32 `T × hidden`.
    pub x: Range<usize>,
    /// f32 `T × (heads + 2 · kv_heads) · head_dim`.
    pub qkv: Range<usize>,
    /// Rotated queries, f32 `T × heads · head_dim`.
    pub q: Range<usize>,
    /// What attention gives, of the same shape.
    pub attended: Range<usize>,
    /// f32 `T × 2 · mlp_hidden`.
    pub gate_up: Range<usize>,
    /// Activations as integers.
    pub integers: Range<usize>,
    /// Their scales.
    pub scales: Range<usize>,
    /// Their sums.
    pub sums: Range<usize>,
    /// Activations as bf16.
    pub bf16: Range<usize>,
    /// Activations as f16.
    pub f16: Range<usize>,
    /// See `attend` in kernels/attend.cu.
    pub partial: Range<usize>,
    /// Wanted positions' residual stream, f32 `T × hidden`.
    pub last: Range<usize>,
    /// f32 [`HEAD_ROWS`]` × max(vocab, hidden)`.
    pub logits: Range<usize>,
    /// Room for drawing [`HEAD_ROWS`] rows.
    pub draws: Range<usize>,
    /// How it is cut.
    pub draw_room: DrawRoom,
    /// Numbers of the step that the host sends.
    pub orders: Range<usize>,
    /// In all.
    pub bytes: usize,
    /// Positions that a sequence may have.
    pub positions_max: usize,
}

impl Scratch {
    /// For sequences of at most `positions_max` positions.
    pub fn plan(spec: &DecoderSpec, options: &ActivateOptions, positions_max: usize) -> Self {
        let tokens = options.batch_tokens_max;
        let (query, kv) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let widest = spec.hidden.max(query).max(spec.mlp_hidden).next_multiple_of(COLUMNS);
        let token_partial = spec.heads * positions_max.div_ceil(SPLIT) * (2 + spec.head_dim) * 4;
        let tables = options.batch_rows_max * positions_max.div_ceil(options.block_tokens.max(1));
        let mut out = Self { positions_max, ..Self::default() };
        let mut end = 0usize;
        let mut cut = |bytes: usize| {
            let begin = end.next_multiple_of(ALIGN);
            end = begin + bytes;
            begin..end
        };
        out.x = cut(tokens * spec.hidden * 4);
        out.qkv = cut(tokens * (query + 2 * kv) * 4);
        out.q = cut(tokens * query * 4);
        out.attended = cut(tokens * query * 4);
        out.gate_up = cut(tokens * 2 * spec.mlp_hidden * 4);
        out.integers = cut(tokens * widest);
        out.scales = cut(tokens * widest / GROUP * 4);
        out.sums = cut(tokens * widest / GROUP * 4);
        out.bf16 = cut(tokens * widest * 2);
        out.f16 = cut(tokens * widest * 2);
        out.partial = cut(token_partial.max(PARTIAL_BYTES.min(tokens * token_partial)));
        out.last = cut(tokens * spec.hidden * 4);
        out.logits = cut(HEAD_ROWS.min(tokens) * spec.vocab.max(spec.hidden) * 4);
        out.draw_room = DrawRoom::plan(HEAD_ROWS.min(tokens), spec.vocab);
        out.draws = cut(out.draw_room.bytes);
        out.orders =
            cut(orders_bytes(tokens, tables) + library_bytes(tokens, options.batch_rows_max, tables));
        out.bytes = end;
        out
    }

    /// Tokens of a tile of `attend_prefill`; 0 where the model has too many query heads for one key-value head.
    pub fn tile_tokens(spec: &DecoderSpec) -> usize {
        TILE_QUERIES / (spec.heads / spec.kv_heads.max(1)).max(1)
    }

    /// Tokens whose attention fits the room for its parts, at `splits` splits; at least one.
    pub fn attend_tokens(&self, spec: &DecoderSpec, splits: usize) -> usize {
        (self.partial.len() / (spec.heads * splits * (2 + spec.head_dim) * 4)).max(1)
    }
}

fn orders_bytes(tokens: usize, tables: usize) -> usize {
    // Nine arrays, each of which may begin a little later; a tile has a token at least.
    tokens * (7 * 4 + 8) + tables * 8 + 9 * 8
}

/// What a library that computes prefill attention is sent besides, for tables of so many blocks together.
fn library_bytes(tokens: usize, rows: usize, blocks: usize) -> usize {
    // Tables, ends of tokens and positions, each token's number; each array may begin a little later.
    4 * (blocks + 2 * (rows + 1) + tokens) + 4 * 8
}
