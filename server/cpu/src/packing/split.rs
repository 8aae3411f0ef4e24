//! From a file's blocks to a tile's planes, row by row.

use half::f16;
use quarry_formats::quant::{
    BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, TensorType, blocks,
    decode, unpack_scales,
};

use super::form::{Form, Planes, SUPER};
use super::{GROUP, TILE};

/// Writes one tile.
pub struct TileWriter<'a> {
    form: Form,
    planes: Planes,
    out: &'a mut [u8],
}

impl<'a> TileWriter<'a> {
    /// Over the tile's bytes, which are zero.
    pub fn new(form: Form, planes: Planes, out: &'a mut [u8]) -> Self {
        Self { form, planes, out }
    }

    /// One row of `columns` weights from the file's bytes.
    pub fn row(&mut self, lane: usize, kind: TensorType, columns: usize, bytes: &[u8]) {
        match kind {
            TensorType::Q4_0 => {
                for (g, b) in blocks::<BlockQ4_0>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.integers().map(|q| (q + 8) as u8));
                    self.half(self.planes.scale, g, lane, b.d);
                }
            }
            TensorType::Q5_0 => {
                for (g, b) in blocks::<BlockQ5_0>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.integers().map(|q| (q + 16) as u8));
                    self.half(self.planes.scale, g, lane, b.d);
                }
            }
            TensorType::Q8_0 => {
                for (g, b) in blocks::<BlockQ8_0>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.qs.map(|q| (q as u8) ^ 0x80));
                    self.half(self.planes.scale, g, lane, b.d);
                }
            }
            TensorType::Q4_1 => {
                for (g, b) in blocks::<BlockQ4_1>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.integers());
                    self.half(self.planes.scale, g, lane, b.d);
                    self.half(self.planes.min, g, lane, negative(b.m));
                }
            }
            TensorType::Q5_1 => {
                for (g, b) in blocks::<BlockQ5_1>(bytes).iter().enumerate() {
                    self.integers(lane, g, &b.integers());
                    self.half(self.planes.scale, g, lane, b.d);
                    self.half(self.planes.min, g, lane, negative(b.m));
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
                    self.half(self.planes.scale, s, lane, b.d);
                    for (i, scale) in b.scales.iter().enumerate() {
                        self.out[self.planes.sub + (s * 2 * SUPER + i) * TILE + lane] = *scale as u8;
                    }
                }
            }
            _ => {
                let mut values = vec![0f32; columns];
                decode(kind, bytes, &mut values);
                for (g, values) in values.chunks(GROUP).enumerate() {
                    let (q, scale) = round_group(values);
                    self.integers(lane, g, &q);
                    self.half(self.planes.scale, g, lane, scale);
                }
            }
        }
    }

    /// Q4_K and Q5_K share their head: d, dmin, 12 bytes of scales.
    fn super_scales(&mut self, lane: usize, s: usize, d: [u8; 2], dmin: [u8; 2], packed: &[u8; 12]) {
        self.half(self.planes.scale, s, lane, d);
        self.half(self.planes.min, s, lane, dmin);
        let (scales, mins) = unpack_scales(packed);
        for i in 0..SUPER {
            let at = (s * SUPER + i) * TILE + lane;
            self.out[self.planes.sub + at] = scales[i];
            self.out[self.planes.sub_min + at] = mins[i];
        }
    }

    fn super_block(&mut self, lane: usize, s: usize, q: &[u8; 256]) {
        for (i, q) in q.as_chunks::<GROUP>().0.iter().enumerate() {
            self.integers(lane, s * SUPER + i, q);
        }
    }

    fn half(&mut self, plane: usize, index: usize, lane: usize, value: [u8; 2]) {
        let at = plane + (index * TILE + lane) * 2;
        self.out[at..at + 2].copy_from_slice(&value);
    }

    fn integers(&mut self, lane: usize, group: usize, q: &[u8; GROUP]) {
        let bits = self.form.bits();
        let low = &mut self.out[group * self.form.low_bytes()..(group + 1) * self.form.low_bytes()];
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
        let start = self.planes.high + group * self.form.high_bytes();
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
