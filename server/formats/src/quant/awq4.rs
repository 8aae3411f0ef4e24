//! AWQ4: 128 unsigned 4-bit numbers under one scale and one zero point, as AWQ checkpoints have them (Lin et al. 2023,
//! arXiv:2306.00978). Files hold them column-wise in three tensors; [`crate::awq`] gathers these blocks from there, so
//! no file has this layout, and GGUF has no such type.
//!
//! ```text
//! byte  0   1    2    3 ……………………………… 66
//!      [d: f16] [z] [qs: 64 bytes     ]
//! low nibble of qs[j]  = element 2 j,  high nibble = element 2 j + 1      (j in 0..64)
//! x = d · (q − z)                      exact in f32: 11 bits times 4
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, half, inverse, to_half};

/// 128 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockAWQ4 {
    /// Scale, half precision.
    pub d: [u8; 2],
    /// Zero point, 0 to 15.
    pub z: u8,
    /// Nibbles.
    pub qs: [u8; 64],
}

const _: () = assert!(size_of::<BlockAWQ4>() == 67 && align_of::<BlockAWQ4>() == 1);

impl BlockAWQ4 {
    /// `q` of each element, 0 to 15.
    pub fn integers(&self) -> [u8; 128] {
        std::array::from_fn(|i| self.qs[i / 2] >> (4 * (i % 2)) & 15)
    }
}

impl Block for BlockAWQ4 {
    const KIND: TensorType = TensorType::AWQ4;
    const ELEMENTS: usize = 128;

    fn decode(&self, out: &mut [f32]) {
        let (d, z) = (half(self.d), i32::from(self.z));
        for (out, q) in out.iter_mut().zip(self.integers()) {
            *out = d * (i32::from(q) - z) as f32;
        }
    }

    fn encode(values: &[f32]) -> Self {
        let max = values.iter().copied().fold(0.0_f32, f32::max);
        let min = values.iter().copied().fold(0.0_f32, f32::min);
        let d = to_half((max - min) / 15.0);
        let id = inverse(half(d));
        let z = (-min * id).round().clamp(0.0, 15.0);
        let q = |x: f32| (x * id + z).round().clamp(0.0, 15.0) as u8;
        let qs = std::array::from_fn(|j| q(values[2 * j]) | q(values[2 * j + 1]) << 4);
        BlockAWQ4 { d, z: z as u8, qs }
    }
}
