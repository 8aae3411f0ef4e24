//! The numbers of a step that kernels read: tokens, positions, places in the cache, block tables. One copy to the device.

use quarry_model::executor::Batch;

use crate::kv::KvCache;

/// Where each array begins in the bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orders {
    pub tokens: usize,
    pub positions: usize,
    /// u64 a token: byte offset in the arena of the block that the token's position is in.
    pub block_offsets: usize,
    /// u32 a token: its position's place in that block.
    pub slots: usize,
    /// u32 a token: where its row's table begins in `tables`.
    pub table_begins: usize,
    /// u64 a block: byte offsets of all rows' blocks, row after row.
    pub tables: usize,
    /// u32 a wanted position: which token of the batch.
    pub wanted: usize,
    /// Tokens of the batch, all rows together.
    pub count: usize,
    pub wanted_count: usize,
    /// The largest position, by token.
    pub last_position: usize,
}

impl Orders {
    /// Fills `bytes`; rows are checked.
    pub fn write(batch: &Batch<'_>, cache: &KvCache, bytes: &mut Vec<u8>) -> Self {
        let block_tokens = cache.shape.block_tokens;
        bytes.clear();
        let mut orders = Self::default();
        let (mut tables, mut begins): (Vec<u64>, Vec<u32>) = (Vec::new(), Vec::new());
        let (mut offsets, mut slots, mut positions) =
            (Vec::<u64>::new(), Vec::<u32>::new(), Vec::<u32>::new());
        let (mut tokens, mut wanted) = (Vec::<u32>::new(), Vec::<u32>::new());
        for row in batch.rows {
            let begin = tables.len() as u32;
            let end = row.first_position + row.tokens.len();
            let used = &row.blocks[..end.div_ceil(block_tokens)];
            tables.extend(used.iter().map(|block| cache.offset(*block) as u64));
            wanted.extend(row.wanted.iter().map(|offset| (tokens.len() + offset) as u32));
            for (index, &token) in row.tokens.iter().enumerate() {
                let position = row.first_position + index;
                tokens.push(token);
                positions.push(position as u32);
                offsets.push(tables[begin as usize + position / block_tokens]);
                slots.push((position % block_tokens) as u32);
                begins.push(begin);
            }
            orders.last_position = orders.last_position.max(end - 1);
        }
        (orders.count, orders.wanted_count) = (tokens.len(), wanted.len());
        let mut put = |array: &[u8]| {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            let at = bytes.len();
            bytes.extend_from_slice(array);
            at
        };
        orders.tables = put(bytemuck::cast_slice(&tables));
        orders.block_offsets = put(bytemuck::cast_slice(&offsets));
        orders.tokens = put(bytemuck::cast_slice(&tokens));
        orders.positions = put(bytemuck::cast_slice(&positions));
        orders.slots = put(bytemuck::cast_slice(&slots));
        orders.table_begins = put(bytemuck::cast_slice(&begins));
        orders.wanted = put(bytemuck::cast_slice(&wanted));
        orders
    }
}
