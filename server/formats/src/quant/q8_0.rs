//! Q8_0: 32 signed bytes under one scale, 8.5 bits per weight.
//!
//! ```text
//! byte  0   1    2 ………………………………………… 33
//!      [d: f16] [qs: 32 × i8         ]
//! x = d · q
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, TensorType, extreme, half, inverse, to_half};

/// 32 elements; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale, half precision.
    pub d: [u8; 2],
    /// Elements.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34 && align_of::<BlockQ8_0>() == 1);

impl Block for BlockQ8_0 {
    const KIND: TensorType = TensorType::Q8_0;
    const ELEMENTS: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = half(self.d);
        for (out, &q) in out.iter_mut().zip(&self.qs) {
            *out = f32::from(q) * d;
        }
    }

    /// Ties are rounded away from zero, as the reference does.
    fn encode(values: &[f32]) -> Self {
        let d = extreme(values).abs() / 127.0;
        let id = inverse(d);
        let mut qs = [0; 32];
        for (q, &x) in qs.iter_mut().zip(values) {
            *q = (x * id).round() as i8;
        }
        BlockQ8_0 { d: to_half(d), qs }
    }
}
