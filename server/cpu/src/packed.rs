//! Weights as the kernels want them.
//!
//! ```text
//! matrix [rows, columns] → tiles of 16 rows; a tile → groups of 32 columns; a group is
//!   q      512 bytes: for each 4 columns, for each of the 16 rows, 4 unsigned integers
//!   scale  16 f32
//!   min    16 f32, only in matrices that need it
//! weight = scale * (q - offset) + min        (offset is one number per matrix)
//! ```
//! An int32 lane is an output row, so no horizontal sum ever happens; unsigned weights leave the signed operand,
//! which may come from memory, to the activations. Q4_0, Q4_1, Q5_0, Q8_0, Q4_K and Q5_K keep their integers
//! exactly; Q6_K (a scale per 16) and floats are rounded to 8 bits per 32, which loses at most 1/254 of a group's
//! largest weight.

use quarry_formats::quant::{
    BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5K, BlockQ8_0, TensorType, blocks, decode, unpack_scales,
};

use crate::threads::{Shares, Threads, Tiles};

/// Rows of a tile.
pub const TILE: usize = 16;
/// Columns of a group.
pub const GROUP: usize = 32;
/// Bytes of a group of a tile.
pub const GROUP_BYTES: usize = TILE * GROUP;

/// A packed matrix.
pub struct PackedMatrix {
    rows: usize,
    columns: usize,
    groups: usize,
    offset: i32,
    q: Vec<u8>,
    scales: Vec<f32>,
    mins: Vec<f32>,
}

/// One tile, borrowed.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    /// `groups × 512` bytes.
    pub q: &'a [u8],
    /// `groups × 16`.
    pub scales: &'a [f32],
    /// `groups × 16`, or empty.
    pub mins: &'a [f32],
    /// Subtracted from every q.
    pub offset: i32,
}

/// One row's group before it is interleaved.
struct Group {
    q: [u8; GROUP],
    scale: f32,
    min: f32,
}

impl PackedMatrix {
    /// Packs `[rows, columns]` of `kind` from `bytes`, whole rows one after another.
    pub fn pack(kind: TensorType, rows: usize, columns: usize, bytes: &[u8], threads: &mut Threads) -> Self {
        let groups = columns.div_ceil(GROUP);
        let tiles = rows.div_ceil(TILE);
        let asymmetric = matches!(kind, TensorType::Q4_1 | TensorType::Q4K | TensorType::Q5K);
        let offset = match kind {
            TensorType::Q4_0 => 8,
            TensorType::Q5_0 => 16,
            _ if asymmetric => 0,
            _ => 128,
        };
        let mut q = vec![0u8; tiles * groups * GROUP_BYTES];
        let mut scales = vec![0f32; tiles * groups * TILE];
        let mut mins = vec![0f32; if asymmetric { scales.len() } else { 0 }];
        let row_bytes = kind.row_bytes(columns);
        let (q_out, s_out, m_out) = (Shares::new(&mut q), Shares::new(&mut scales), Shares::new(&mut mins));
        let work = Tiles::new(tiles, 4);
        let region = |_: usize| {
            let mut row_groups = Vec::with_capacity(groups);
            while let Some(run) = work.take() {
                for tile in run {
                    // SAFETY: `work` hands each tile to one thread, the buffers outlive the region, and a tile's
                    // parts do not overlap another's.
                    let (q, s, m) = unsafe {
                        (
                            q_out.slice(tile * groups * GROUP_BYTES, groups * GROUP_BYTES),
                            s_out.slice(tile * groups * TILE, groups * TILE),
                            if asymmetric {
                                m_out.slice(tile * groups * TILE, groups * TILE)
                            } else {
                                &mut []
                            },
                        )
                    };
                    for lane in 0..TILE.min(rows - tile * TILE) {
                        let row = tile * TILE + lane;
                        row_groups.clear();
                        split_row(
                            kind,
                            columns,
                            &bytes[row * row_bytes..(row + 1) * row_bytes],
                            &mut row_groups,
                        );
                        for (g, group) in row_groups.iter().enumerate() {
                            for (k, &value) in group.q.iter().enumerate() {
                                q[g * GROUP_BYTES + k / 4 * TILE * 4 + lane * 4 + k % 4] = value;
                            }
                            s[g * TILE + lane] = group.scale;
                            if asymmetric {
                                m[g * TILE + lane] = group.min;
                            }
                        }
                    }
                }
            }
        };
        if threads.run(&region).is_err() {
            unreachable!("packing has no panicking path for a checked tensor");
        }
        Self { rows, columns, groups, offset, q, scales, mins }
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
        self.q.len() + 4 * (self.scales.len() + self.mins.len())
    }

    /// A tile.
    pub fn tile(&self, index: usize) -> Tile<'_> {
        let (q, s) = (self.groups * GROUP_BYTES, self.groups * TILE);
        let mins = if self.mins.is_empty() { &[][..] } else { &self.mins[index * s..(index + 1) * s] };
        Tile {
            q: &self.q[index * q..(index + 1) * q],
            scales: &self.scales[index * s..(index + 1) * s],
            mins,
            offset: self.offset,
        }
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(bytes).to_f32()
}

/// Splits one row into groups with their integers.
fn split_row(kind: TensorType, columns: usize, bytes: &[u8], out: &mut Vec<Group>) {
    let signed = |q: [i8; GROUP], offset: i16, d: [u8; 2]| Group {
        q: q.map(|q| (i16::from(q) + offset) as u8),
        scale: half(d),
        min: 0.0,
    };
    match kind {
        TensorType::Q4_0 => {
            out.extend(blocks::<BlockQ4_0>(bytes).iter().map(|b| signed(b.integers(), 8, b.d)));
        }
        TensorType::Q5_0 => {
            out.extend(blocks::<BlockQ5_0>(bytes).iter().map(|b| signed(b.integers(), 16, b.d)));
        }
        TensorType::Q8_0 => {
            out.extend(blocks::<BlockQ8_0>(bytes).iter().map(|b| signed(b.qs, 128, b.d)));
        }
        TensorType::Q4_1 => out.extend(blocks::<BlockQ4_1>(bytes).iter().map(|b| Group {
            q: b.integers(),
            scale: half(b.d),
            min: half(b.m),
        })),
        TensorType::Q4K => {
            for b in blocks::<BlockQ4K>(bytes) {
                split_super_block(b.d, b.dmin, &b.scales, &b.integers(), out);
            }
        }
        TensorType::Q5K => {
            for b in blocks::<BlockQ5K>(bytes) {
                split_super_block(b.d, b.dmin, &b.scales, &b.integers(), out);
            }
        }
        TensorType::F32
        | TensorType::F16
        | TensorType::BF16
        | TensorType::Q5_1
        | TensorType::Q2K
        | TensorType::Q3K
        | TensorType::Q6K
        | TensorType::IQ4NL
        | TensorType::IQ4XS => {
            let mut values = vec![0f32; columns];
            decode(kind, bytes, &mut values);
            out.extend(values.chunks(GROUP).map(round_group));
        }
    }
}

/// Q4_K and Q5_K share their head: d, dmin, 12 bytes of scales.
fn split_super_block(
    d: [u8; 2],
    dmin: [u8; 2],
    packed: &[u8; 12],
    integers: &[u8; 256],
    out: &mut Vec<Group>,
) {
    let (d, dmin) = (half(d), half(dmin));
    let (scales, mins) = unpack_scales(packed);
    for (q, (scale, min)) in integers.as_chunks::<GROUP>().0.iter().zip(scales.into_iter().zip(mins)) {
        out.push(Group { q: *q, scale: d * f32::from(scale), min: -dmin * f32::from(min) });
    }
}

fn round_group(values: &[f32]) -> Group {
    let max = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let scale = max / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut q = [128u8; GROUP];
    for (q, v) in q.iter_mut().zip(values) {
        *q = ((v * inverse).round_ties_even() as i32 + 128).clamp(1, 255) as u8;
    }
    Group { q, scale, min: 0.0 }
}
