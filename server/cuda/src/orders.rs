//! The numbers of a step that kernels read: tokens, positions, places in the cache, block tables. One copy to the device.

use std::cmp::Reverse;

use quarry_cuda_layout::SPLIT;
use quarry_model::executor::{Batch, Row};

use crate::kv::KvCache;
use crate::prefill::PrefillOrders;

/// Where each array begins in the bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orders {
    pub tokens: usize,
    pub positions: usize,
    /// u64 a token: byte offset in the arena of the block that the token's position is in.
    pub block_offsets: usize,
    /// u32 a token: its position's place in that block, or that it has none.
    pub slots: usize,
    /// u32 a token: where its row's table begins in `tables`.
    pub table_begins: usize,
    /// u64 a block: byte offsets of all rows' blocks, row after row.
    pub tables: usize,
    /// u32 a wanted position: which token of the batch.
    pub wanted: usize,
    /// u32 a tile of `attend_prefill`: its first token, and how many they are.
    pub tile_firsts: usize,
    pub tile_counts: usize,
    pub tiles: usize,
    /// Tokens of the batch, all rows together.
    pub count: usize,
    /// Of these the first, which no tile has: they go to `attend`.
    pub apart: usize,
    /// Splits of the longest of these; at least one.
    pub splits: usize,
    pub wanted_count: usize,
    /// Set where the batch was filled up to a shape that comes again and again.
    pub bucket: Option<Bucket>,
    /// For a library that computes what tiles have.
    pub prefill: PrefillOrders,
}

/// A shape of batches without tiles. Everything that a launch is told follows from it, so a recorded pass fits all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// Tokens, and so many positions are gathered.
    pub tokens: usize,
    pub splits: usize,
}

impl Bucket {
    /// The smallest that holds a batch; none where it has more than [`BUCKET_TOKENS`] tokens or than `tokens_max`.
    fn holding(tokens: usize, splits: usize, tokens_max: usize) -> Option<Self> {
        let tokens = if tokens <= 8 { tokens } else { tokens.next_multiple_of(8) };
        (tokens > 0 && tokens <= tokens_max.min(BUCKET_TOKENS))
            .then(|| Self { tokens, splits: splits.next_power_of_two() })
    }
}

/// Tokens of the largest bucket.
const BUCKET_TOKENS: usize = 64;
/// The slot of a token that fills a bucket: its keys and values are not kept.
const NO_SLOT: u32 = u32::MAX;

/// Tokens up to which a row's attention is computed token by token.
const APART_TOKENS: usize = 8;

/// Tokens of a row that `attend_prefill` takes together.
struct Tile {
    first: u32,
    count: u32,
    position: usize,
}

impl Orders {
    /// Fills `bytes`; rows are checked. Tiles have up to `tile_tokens` tokens; with 0 there are none. Rows without tiles
    /// come first, whatever their order in the batch; wanted positions keep the batch's. A batch without tiles is filled up
    /// to its [`Bucket`] where that has at most `tokens_max` tokens: with first tokens of a sequence, which nobody wants.
    /// `by_library` adds what a library needs that computes the tiles' rows.
    pub fn write(
        batch: &Batch<'_>,
        cache: &KvCache,
        tile_tokens: usize,
        tokens_max: usize,
        by_library: bool,
        bytes: &mut Vec<u8>,
    ) -> Self {
        let block_tokens = cache.shape.block_tokens;
        bytes.clear();
        let mut orders = Self { splits: 1, ..Self::default() };
        let (mut tables, mut begins): (Vec<u64>, Vec<u32>) = (Vec::new(), Vec::new());
        let (mut offsets, mut slots, mut positions) =
            (Vec::<u64>::new(), Vec::<u32>::new(), Vec::<u32>::new());
        let (mut tokens, mut wanted) = (Vec::<u32>::new(), Vec::<u32>::new());
        let mut tiles = Vec::<Tile>::new();
        let in_tiles = |row: &Row<'_>| tile_tokens > 0 && row.tokens.len() > APART_TOKENS;
        let mut firsts = vec![0; batch.rows.len()];
        let apart = batch.rows.iter().enumerate().filter(|(_, row)| !in_tiles(row));
        let others = batch.rows.iter().enumerate().filter(|(_, row)| in_tiles(row));
        for (number, row) in apart.chain(others) {
            let begin = tables.len() as u32;
            let first = tokens.len();
            let end = row.first_position + row.tokens.len();
            let used = &row.blocks[..end.div_ceil(block_tokens)];
            tables.extend(used.iter().map(|block| cache.offset(*block) as u64));
            firsts[number] = first;
            for (index, &token) in row.tokens.iter().enumerate() {
                let position = row.first_position + index;
                tokens.push(token);
                positions.push(position as u32);
                offsets.push(tables[begin as usize + position / block_tokens]);
                slots.push((position % block_tokens) as u32);
                begins.push(begin);
            }
            if in_tiles(row) {
                tiles.extend((0..row.tokens.len()).step_by(tile_tokens).map(|offset| Tile {
                    first: (first + offset) as u32,
                    count: tile_tokens.min(row.tokens.len() - offset) as u32,
                    position: row.first_position + offset,
                }));
            } else {
                orders.apart = tokens.len();
                orders.splits = orders.splits.max(end.div_ceil(SPLIT));
            }
        }
        for (row, first) in batch.rows.iter().zip(firsts) {
            wanted.extend(row.wanted.iter().map(|offset| (first + offset) as u32));
        }
        // Those that take longest first: none is left alone at the end.
        tiles.sort_by_key(|tile| Reverse(tile.position));
        let tile_firsts: Vec<u32> = tiles.iter().map(|tile| tile.first).collect();
        let tile_counts: Vec<u32> = tiles.iter().map(|tile| tile.count).collect();
        orders.tiles = tiles.len();
        (orders.count, orders.wanted_count) = (tokens.len(), wanted.len());
        if tiles.is_empty() && wanted.len() <= tokens.len() {
            orders.bucket = Bucket::holding(tokens.len(), orders.splits, tokens_max);
        }
        if let Some(bucket) = orders.bucket {
            for array in [&mut tokens, &mut positions, &mut begins, &mut wanted] {
                array.resize(bucket.tokens, 0);
            }
            slots.resize(bucket.tokens, NO_SLOT);
            offsets.resize(bucket.tokens, 0);
            (orders.count, orders.apart, orders.splits) = (bucket.tokens, bucket.tokens, bucket.splits);
        }
        let mut put = |array: &[u8]| {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            let at = bytes.len();
            bytes.extend_from_slice(array);
            at
        };
        orders.block_offsets = put(bytemuck::cast_slice(&offsets));
        orders.tokens = put(bytemuck::cast_slice(&tokens));
        orders.positions = put(bytemuck::cast_slice(&positions));
        orders.slots = put(bytemuck::cast_slice(&slots));
        orders.table_begins = put(bytemuck::cast_slice(&begins));
        orders.wanted = put(bytemuck::cast_slice(&wanted));
        orders.tile_firsts = put(bytemuck::cast_slice(&tile_firsts));
        orders.tile_counts = put(bytemuck::cast_slice(&tile_counts));
        if by_library && orders.tiles > 0 {
            let rows: Vec<&Row<'_>> = batch.rows.iter().filter(|row| in_tiles(row)).collect();
            orders.prefill = PrefillOrders::write(&rows, cache, &mut put);
        }
        // Last, for its length is no part of a bucket.
        orders.tables = put(bytemuck::cast_slice(&tables));
        orders
    }
}
