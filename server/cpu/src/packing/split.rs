//! From a file's blocks to a tile's records, row by row.

use half::f16;
use quarry_formats::quant::{
    BlockAWQ4, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
    TensorType, blocks, decode, unpack_scales,
};

use super::form::{BLOCK_GROUPS, BlockParts, Form, Layout, SUPER};
use super::{GROUP, TILE};

/// Writes one tile.
pub struct TileWriter<'a> {
    form: Form,
    layout: Layout,
    out: &'a mut [u8],
}

impl<'a> TileWriter<'a> {
    /// Over the tile's bytes, which are zero.
    pub fn new(form: Form, layout: Layout, out: &'a mut [u8]) -> Self {
        Self { form, layout, out }
    }

    /// One row of `columns` weights from the file's bytes.
    pub fn row(&mut self, lane: usize, kind: TensorType, columns: usize, bytes: &[u8]) {
        match kind {
            TensorType::Q4_0 => {
                for (g, b) in blocks::<BlockQ4_0>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.integers().map(|q| (q + 8) as u8));
                    self.scale(g, lane, b.d);
                }
            }
            TensorType::Q5_0 => {
                for (g, b) in blocks::<BlockQ5_0>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.integers().map(|q| (q + 16) as u8));
                    self.scale(g, lane, b.d);
                }
            }
            TensorType::Q8_0 => {
                for (g, b) in blocks::<BlockQ8_0>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.qs.map(|q| (q as u8) ^ 0x80));
                    self.scale(g, lane, b.d);
                }
            }
            TensorType::Q4_1 => {
                for (g, b) in blocks::<BlockQ4_1>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.integers());
                    self.scale(g, lane, b.d);
                    self.min(g, lane, negative(b.m));
                }
            }
            TensorType::AWQ4 => {
                for (g, b) in blocks::<BlockAWQ4>(bytes).iter().enumerate() {
                    let shift = if self.form == Form::Q5 { 16 - b.z } else { 0 };
                    let scale = f16::from_le_bytes(b.d).to_f32();
                    let min = f16::from_f32(scale * f32::from(b.z)).to_le_bytes();
                    for (i, q) in b.integers().as_chunks::<GROUP>().0.iter().enumerate() {
                        let g = 4 * g + i;
                        self.integers(lane, g, &q.map(|q| q + shift));
                        self.scale(g, lane, b.d);
                        if self.form.has_min() {
                            self.min(g, lane, min);
                        }
                    }
                }
            }
            TensorType::Q5_1 => {
                for (g, b) in blocks::<BlockQ5_1>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.integers());
                    self.scale(g, lane, b.d);
                    self.min(g, lane, negative(b.m));
                }
            }
            TensorType::Q4K => {
                for (s, b) in blocks::<BlockQ4K>(bytes).iter().enumerate() {
                    self.super_block(lane, s, &b.integers());
                    self.super_scales(lane, s, b.d, b.dmin, &b.scales);
                }
            }
            TensorType::Q5K => {
                for (s, b) in blocks::<BlockQ5K>(bytes).iter().enumerate() {
                    self.super_block(lane, s, &b.integers());
                    self.super_scales(lane, s, b.d, b.dmin, &b.scales);
                }
            }
            TensorType::Q6K => {
                for (s, b) in blocks::<BlockQ6K>(bytes).iter().enumerate() {
                    self.super_block(lane, s, &b.integers().map(|q| (q + 32) as u8));
                    self.scale(s * SUPER, lane, b.d);
                    for (i, scales) in b.scales.as_chunks::<2>().0.iter().enumerate() {
                        let (parts, i) = self.place(s * SUPER + i);
                        for (half, scale) in scales.iter().enumerate() {
                            self.out[parts.sub + (2 * i + half) * TILE + lane] = *scale as u8;
                        }
                    }
                }
            }
            _ => {
                let mut values = vec![0f32; columns];
                decode(kind, bytes, &mut values);
                for (g, values) in values.chunks(GROUP).enumerate() {
                    let (q, scale) = round_group(values);
                    self.integers(lane, g, &q);
                    self.scale(g, lane, scale);
                }
            }
        }
    }

    /// Q4_K and Q5_K share their head: d, dmin, 12 bytes of scales.
    fn super_scales(&mut self, lane: usize, s: usize, d: [u8; 2], dmin: [u8; 2], packed: &[u8; 12]) {
        self.scale(s * SUPER, lane, d);
        self.min(s * SUPER, lane, dmin);
        let (scales, mins) = unpack_scales(packed);
        for i in 0..SUPER {
            let (parts, place) = self.place(s * SUPER + i);
            self.out[parts.sub + place * TILE + lane] = scales[i];
            self.out[parts.sub_min + place * TILE + lane] = mins[i];
        }
    }

    /// The block of a group, and which of its groups it is.
    fn place(&self, group: usize) -> (BlockParts, usize) {
        (self.layout.block(group / BLOCK_GROUPS), group % BLOCK_GROUPS)
    }

    fn scale(&mut self, group: usize, lane: usize, value: [u8; 2]) {
        let (parts, i) = self.place(group);
        self.half(parts.scale + i * TILE * 2, lane, value);
    }

    fn min(&mut self, group: usize, lane: usize, value: [u8; 2]) {
        let (parts, i) = self.place(group);
        self.half(parts.min + i * TILE * 2, lane, value);
    }

    fn super_block(&mut self, lane: usize, s: usize, q: &[u8; 256]) {
        for (i, q) in q.as_chunks::<GROUP>().0.iter().enumerate() {
            self.integers(lane, s * SUPER + i, q);
        }
    }

    fn half(&mut self, at: usize, lane: usize, value: [u8; 2]) {
        self.out[at + lane * 2..at + lane * 2 + 2].copy_from_slice(&value);
    }

    fn integers(&mut self, lane: usize, group: usize, q: &[u8; GROUP]) {
        let bits = self.form.bits();
        let (parts, i) = self.place(group);
        let low = parts.low + i * self.form.low_bytes();
        let low = &mut self.out[low..low + self.form.low_bytes()];
        let place = lane * 4;
        if bits == 8 {
            for (line, four) in low.as_chunks_mut::<64>().0.iter_mut().zip(q.as_chunks::<4>().0) {
                line[place..place + 4].copy_from_slice(four);
            }
            return;
        }
        for (i, line) in low.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            for k in 0..4 {
                line[place + k] = q[4 * i + k] & 15 | (q[16 + 4 * i + k] & 15) << 4;
            }
        }
        let start = parts.high + i * self.form.high_bytes();
        let high = &mut self.out[start..start + self.form.high_bytes()];
        match bits {
            5 => {
                for k in 0..4 {
                    high[place + k] = (0..8).fold(0, |byte, i| byte | (q[4 * i + k] >> 4) << i);
                }
            }
            6 => {
                for (h, line) in high.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                    for k in 0..4 {
                        let two = |i: usize| (q[16 * h + 4 * i + k] >> 4) << (2 * i);
                        line[place + k] = two(0) | two(1) | two(2) | two(3);
                    }
                }
            }
            _ => {}
        }
    }
}

/// A half with its sign turned: minimums are subtracted here, files add them.
fn negative([low, high]: [u8; 2]) -> [u8; 2] {
    [low, high ^ 0x80]
}

/// Values as 8-bit integers plus 128, and the f16 scale, rounded up so that no integer passes 127.
fn round_group(values: &[f32]) -> ([u8; GROUP], [u8; 2]) {
    let max = values.iter().fold(0f32, |m, v| m.max(v.abs())).min(127.0 * f16::MAX.to_f32());
    let mut scale = f16::from_f32(max / 127.0);
    if scale.to_f32() * 127.0 < max {
        scale = f16::from_bits(scale.to_bits() + 1);
    }
    let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
    let mut q = [128u8; GROUP];
    for (q, v) in q.iter_mut().zip(values) {
        *q = ((v * inverse).round_ties_even().clamp(-127.0, 127.0) as i32 + 128) as u8;
    }
    (q, scale.to_le_bytes())
}
