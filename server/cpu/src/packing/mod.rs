//! Weights as the kernels want them, packed once at load and then the only copy.
//!
//! A matrix `[rows, columns]` is cut into tiles of 16 rows ([`Form`] draws a tile). An int32 lane is an output row,
//! so no sum crosses lanes; the file's own bits are kept, so decode reads what the file weighs; and a tile is one
//! run of memory, so a thread that takes tiles in order streams. Formats without a form of their own (F32, F16, BF16
//! and the small K and IQ quants) are rounded to 8 bits per 32, which loses half a step of 127 of a group's largest.

mod form;
mod split;
mod storage;

use half::f16;
use quarry_formats::quant::TensorType;

pub use form::{BLOCK_GROUPS, BlockParts, Form, Layout, SUPER};
pub use storage::{Arena, Storage};

use crate::threads::{Shares, Threads, Tiles};

/// Rows of a tile.
pub const TILE: usize = 16;
/// Columns of a group.
pub const GROUP: usize = 32;

/// A packed matrix.
pub struct PackedMatrix {
    form: Form,
    rows: usize,
    columns: usize,
    groups: usize,
    layout: Layout,
    storage: Storage,
}

/// One tile, borrowed. Made only by [`PackedMatrix::tile`], so its bytes are as long as its layout says.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    form: Form,
    groups: usize,
    layout: Layout,
    bytes: &'a [u8],
}

/// Pointers to the parts of a tile's block, for the kernels; [`BlockParts`] says what each is.
#[derive(Clone, Copy)]
pub struct PartPointers {
    pub(crate) low: *const u8,
    pub(crate) high: *const u8,
    pub(crate) scale: *const u8,
    pub(crate) sub: *const u8,
    pub(crate) min: *const u8,
    pub(crate) sub_min: *const u8,
}

impl<'a> Tile<'a> {
    /// The parts of block `b`, good while the tile's matrix lives.
    #[inline(always)]
    pub fn parts(&self, b: usize) -> PartPointers {
        let (base, parts) = (self.bytes.as_ptr(), self.layout.block(b));
        // SAFETY: each part begins within the tile's bytes or at their end, as `Layout::new` counted them.
        unsafe {
            PartPointers {
                low: base.add(parts.low),
                high: base.add(parts.high),
                scale: base.add(parts.scale),
                sub: base.add(parts.sub),
                min: base.add(parts.min),
                sub_min: base.add(parts.sub_min),
            }
        }
    }

    /// How it is laid out.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Groups of 32 columns.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Its size and where its blocks are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// All of it: [`Layout::bytes`] bytes, aligned to a cache line.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The integer of (row of the tile, column), before the offset.
    pub fn integer(&self, row: usize, column: usize) -> i32 {
        let (group, k) = (column / GROUP, column % GROUP);
        let (parts, i) = (self.layout.block(group / BLOCK_GROUPS), group % BLOCK_GROUPS);
        let low = &self.bytes[parts.low + i * self.form.low_bytes()..];
        let place = row * 4 + k % 4;
        let nibble = || i32::from(low[k % 16 / 4 * 64 + place] >> (4 * (k / 16)) & 15);
        let high = &self.bytes[parts.high + i * self.form.high_bytes()..];
        match self.form.bits() {
            4 => nibble(),
            5 => nibble() | i32::from(high[place] >> (k / 4) & 1) << 4,
            6 => nibble() | i32::from(high[k / 16 * 64 + place] >> (2 * (k % 16 / 4)) & 3) << 4,
            _ => i32::from(low[k / 4 * 64 + place]),
        }
    }

    /// The scale of (row of the tile, column); a product of an 11-bit and an 8-bit number, so exact.
    pub fn scale(&self, row: usize, column: usize) -> f32 {
        let group = column / GROUP;
        let (parts, i) = (self.layout.block(group / BLOCK_GROUPS), group % BLOCK_GROUPS);
        let sub = |at: usize| self.bytes[parts.sub + at];
        match self.form {
            Form::K4 | Form::K5 => self.half(parts.scale, row) * f32::from(sub(i * TILE + row)),
            Form::K6 => {
                let sub = sub((2 * i + column % GROUP / 16) * TILE + row) as i8;
                self.half(parts.scale, row) * f32::from(sub)
            }
            _ => self.half(parts.scale, i * TILE + row),
        }
    }

    /// What is subtracted at (row of the tile, column).
    pub fn min(&self, row: usize, column: usize) -> f32 {
        let group = column / GROUP;
        let (parts, i) = (self.layout.block(group / BLOCK_GROUPS), group % BLOCK_GROUPS);
        match (self.form.has_min(), self.form.is_super()) {
            (false, _) => 0.0,
            (true, false) => self.half(parts.min, i * TILE + row),
            (true, true) => self.half(parts.min, row) * f32::from(self.bytes[parts.sub_min + i * TILE + row]),
        }
    }

    fn half(&self, part: usize, index: usize) -> f32 {
        let at = part + index * 2;
        f16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]).to_f32()
    }
}

impl PackedMatrix {
    /// Packs `[rows, columns]` of `kind` from `bytes`, whole rows one after another.
    ///
    /// # Errors
    /// The operating system's, when it gives no memory.
    pub fn pack(
        kind: TensorType,
        rows: usize,
        columns: usize,
        bytes: &[u8],
        threads: &mut Threads,
        arena: &mut Arena,
    ) -> std::io::Result<Self> {
        let form = Form::of(kind);
        let groups = columns.div_ceil(GROUP);
        let layout = Layout::new(form, groups);
        let tiles = rows.div_ceil(TILE);
        let mut storage = arena.zeroed(tiles * layout.bytes)?;
        let row_bytes = kind.row_bytes(columns);
        let out = Shares::new(storage.as_mut_slice());
        let work = Tiles::split(tiles, 4, threads.count());
        let region = |thread: usize| {
            while let Some(run) = work.take(thread) {
                for tile in run {
                    // SAFETY: `work` hands each tile to one thread, and the storage outlives the region.
                    let part = unsafe { out.slice(tile * layout.bytes, layout.bytes) };
                    let mut writer = split::TileWriter::new(form, layout, part);
                    for lane in 0..TILE.min(rows - tile * TILE) {
                        let row = tile * TILE + lane;
                        let bytes = &bytes[row * row_bytes..(row + 1) * row_bytes];
                        writer.row(lane, kind, columns, bytes);
                    }
                }
            }
        };
        if threads.run(&region).is_err() {
            return Err(std::io::Error::other("a thread failed while weights were packed"));
        }
        Ok(Self { form, rows, columns, groups, layout, storage })
    }

    /// How tiles are laid out.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Output rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Tiles of 16 rows.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.tiles() * self.layout.bytes
    }

    /// A tile.
    pub fn tile(&self, index: usize) -> Tile<'_> {
        let bytes = &self.storage.as_slice()[index * self.layout.bytes..(index + 1) * self.layout.bytes];
        Tile { form: self.form, groups: self.groups, layout: self.layout, bytes }
    }

    /// One row's weights, for embeddings; `out` has [`PackedMatrix::columns`] elements.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        let (tile, row) = (self.tile(index / TILE), index % TILE);
        for (column, out) in out.iter_mut().enumerate() {
            let q = tile.integer(row, column) - self.form.offset();
            *out = tile.scale(row, column) * q as f32 - tile.min(row, column);
        }
    }
}
