//! Matrices in the forms that the kernels read, made on the host from a file's rows.
//!
//! ```text
//! form   element            weights                                             scales, f16 pairs (s, m)
//! q4     s·u − m, u 0..15   [rows/16][columns/64][32 lanes][16 bytes]           [rows/16][columns/32][16 rows]
//! awq    as q4              the same                                            [rows/16][columns/128][16 rows]
//! q8     s·i − m            [rows/16][columns/32][32 lanes][16 bytes]           the same
//! w16    bf16 or f16        [rows/16][columns/16][32 lanes][16 bytes]           none
//! ```
//! A lane's 16 bytes are what it needs of the A fragment of mma.m16n8k32 (s8) or mma.m16n8k16 (16 bit), as the PTX
//! manual draws them, so that a warp reads 512 bytes in a row. Rows are padded to 16, columns to 64, with zeros.

use half::{bf16, f16};
pub use quarry_cuda_layout::{COLUMNS, Form, GROUP, TILE};
use quarry_formats::quant::{
    BlockAWQ4, BlockIQ4NL, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ8_0,
    TensorType, blocks, decode, unpack_scales,
};

use crate::host_bytes::HostBytes;

/// A matrix in host memory.
pub struct HostMatrix {
    pub form: Form,
    pub rows: usize,
    pub columns: usize,
    pub weights: HostBytes,
    pub scales: HostBytes,
}

impl HostMatrix {
    /// From a file's rows, in a form for their type, [`Form::Q8`] being one for every type; `zeroed` gives memory.
    pub fn pack(
        kind: TensorType,
        form: Form,
        rows: usize,
        columns: usize,
        bytes: &[u8],
        zeroed: &dyn Fn(usize) -> HostBytes,
    ) -> Self {
        let (weights, scales) = form.bytes(rows, columns);
        let mut matrix = Self { form, rows, columns, weights: zeroed(weights), scales: zeroed(scales) };
        let row_bytes = kind.row_bytes(columns);
        let mut halves = vec![0u16; columns];
        for row in 0..rows {
            let bytes = &bytes[row * row_bytes..(row + 1) * row_bytes];
            if form.is_integer() {
                groups(kind, columns, bytes, &mut |group, values| matrix.put_group(row, group, values));
            } else {
                to_halves(kind, bytes, &mut halves);
                matrix.put_halves(row, &halves);
            }
        }
        matrix
    }

    fn put_group(&mut self, row: usize, group: usize, values: &Group) {
        let (tile, inner) = (row / TILE, row % TILE);
        let columns = self.columns.next_multiple_of(COLUMNS);
        let (groups, scale_columns) = (columns / GROUP, self.form.scale_columns());
        let scale = tile * columns.div_ceil(scale_columns) + group * GROUP / scale_columns;
        let at = (scale * TILE + inner) * 4;
        self.scales[at..at + 2].copy_from_slice(&values.scale.to_le_bytes());
        self.scales[at + 2..at + 4].copy_from_slice(&values.min.to_le_bytes());
        // Row g of a tile is lane 4g..4g+3's first row, row g + 8 their second.
        let (lane, second) = (inner % 8 * 4, inner / 8);
        for t in 0..4 {
            if self.form != Form::Q8 {
                let word = group % 2 * 2 + second;
                let at = ((tile * groups / 2 + group / 2) * 32 + lane + t) * 16 + word * 4;
                for b in 0..4 {
                    self.weights[at + b] = values.q[4 * t + b] as u8 | (values.q[16 + 4 * t + b] as u8) << 4;
                }
            } else {
                let at = ((tile * groups + group) * 32 + lane + t) * 16 + second * 4;
                for b in 0..4 {
                    self.weights[at + b] = values.q[4 * t + b] as i8 as u8;
                    self.weights[at + 8 + b] = values.q[16 + 4 * t + b] as i8 as u8;
                }
            }
        }
    }

    fn put_halves(&mut self, row: usize, halves: &[u16]) {
        let (tile, inner) = (row / TILE, row % TILE);
        let steps = self.columns.next_multiple_of(COLUMNS) / 16;
        let (g, second) = (inner % 8, inner / 8);
        for (column, value) in halves.iter().enumerate() {
            // Registers: (row g, low k), (row g + 8, low k), (row g, high k), (row g + 8, high k); two elements each.
            let (step, k) = (column / 16, column % 16);
            let (register, t, element) = (second + 2 * (k / 8), k % 8 / 2, k % 2);
            let at = ((tile * steps + step) * 32 + g * 4 + t) * 16 + register * 4 + element * 2;
            self.weights[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// 32 weights as integers: `scale · q − min`.
struct Group {
    q: [i16; GROUP],
    scale: f16,
    min: f16,
}

fn to_halves(kind: TensorType, bytes: &[u8], out: &mut [u16]) {
    match kind {
        TensorType::F16 | TensorType::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = u16::from_le_bytes(*bytes);
            }
        }
        _ => {
            let mut values = vec![0.0; out.len()];
            decode(kind, bytes, &mut values);
            for (out, value) in out.iter_mut().zip(values) {
                *out = bf16::from_f32(value).to_bits();
            }
        }
    }
}

/// A row's groups in order.
fn groups(kind: TensorType, columns: usize, bytes: &[u8], put: &mut dyn FnMut(usize, &Group)) {
    let half = f16::from_le_bytes;
    match kind {
        TensorType::Q4_0 => {
            for (g, b) in blocks::<BlockQ4_0>(bytes).iter().enumerate() {
                let q = b.integers().map(|q| i16::from(q) + 8);
                let min = f16::from_f32(8.0 * half(b.d).to_f32());
                put(g, &Group { q, scale: half(b.d), min });
            }
        }
        TensorType::Q5_0 => {
            for (g, b) in blocks::<BlockQ5_0>(bytes).iter().enumerate() {
                put(g, &Group { q: b.integers().map(i16::from), scale: half(b.d), min: f16::ZERO });
            }
        }
        TensorType::Q8_0 => {
            for (g, b) in blocks::<BlockQ8_0>(bytes).iter().enumerate() {
                put(g, &Group { q: b.qs.map(i16::from), scale: half(b.d), min: f16::ZERO });
            }
        }
        TensorType::IQ4NL => {
            for (g, b) in blocks::<BlockIQ4NL>(bytes).iter().enumerate() {
                put(g, &Group { q: b.integers().map(i16::from), scale: half(b.d), min: f16::ZERO });
            }
        }
        TensorType::Q4_1 => {
            for (g, b) in blocks::<BlockQ4_1>(bytes).iter().enumerate() {
                put(g, &Group { q: b.integers().map(i16::from), scale: half(b.d), min: -half(b.m) });
            }
        }
        TensorType::Q5_1 => {
            for (g, b) in blocks::<BlockQ5_1>(bytes).iter().enumerate() {
                put(g, &Group { q: b.integers().map(i16::from), scale: half(b.d), min: -half(b.m) });
            }
        }
        TensorType::AWQ4 => {
            for (s, b) in blocks::<BlockAWQ4>(bytes).iter().enumerate() {
                let scale = half(b.d);
                let min = f16::from_f32(scale.to_f32() * f32::from(b.z));
                for (i, q) in b.integers().as_chunks::<GROUP>().0.iter().enumerate() {
                    put(4 * s + i, &Group { q: q.map(i16::from), scale, min });
                }
            }
        }
        TensorType::Q4K => {
            for (s, b) in blocks::<BlockQ4K>(bytes).iter().enumerate() {
                super_block(s, &b.integers(), b.d, b.dmin, &b.scales, put);
            }
        }
        TensorType::Q5K => {
            for (s, b) in blocks::<BlockQ5K>(bytes).iter().enumerate() {
                super_block(s, &b.integers(), b.d, b.dmin, &b.scales, put);
            }
        }
        _ => {
            let mut values = vec![0.0; columns];
            decode(kind, bytes, &mut values);
            for (g, values) in values.chunks(GROUP).enumerate() {
                put(g, &rounded(values));
            }
        }
    }
}

/// Q4_K and Q5_K share their head.
fn super_block(
    s: usize,
    integers: &[u8; 256],
    d: [u8; 2],
    dmin: [u8; 2],
    packed: &[u8; 12],
    put: &mut dyn FnMut(usize, &Group),
) {
    let (d, dmin) = (f16::from_le_bytes(d).to_f32(), f16::from_le_bytes(dmin).to_f32());
    let (scales, mins) = unpack_scales(packed);
    for (i, q) in integers.as_chunks::<GROUP>().0.iter().enumerate() {
        let scale = f16::from_f32(d * f32::from(scales[i]));
        let min = f16::from_f32(dmin * f32::from(mins[i]));
        put(8 * s + i, &Group { q: q.map(i16::from), scale, min });
    }
}

/// Values as 8-bit integers, and the f16 scale, rounded up so that no integer passes 127.
fn rounded(values: &[f32]) -> Group {
    let max = values.iter().fold(0f32, |m, v| m.max(v.abs())).min(127.0 * f16::MAX.to_f32());
    let mut scale = f16::from_f32(max / 127.0);
    if scale.to_f32() * 127.0 < max {
        scale = f16::from_bits(scale.to_bits() + 1);
    }
    let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
    let mut q = [0; GROUP];
    for (q, v) in q.iter_mut().zip(values) {
        *q = (v * inverse).round_ties_even().clamp(-127.0, 127.0) as i16;
    }
    Group { q, scale, min: f16::ZERO }
}
