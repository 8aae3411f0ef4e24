//! Q8_0: 32 elements, 8.5 bits per weight.
//!
//! ```text
//! 0..2   d   f16
//! 2..34  qs  i8
//! ```
//! `x = d * q`

/// Bytes of a block.
pub const BYTES: usize = 34;

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; 32]) {
    let d = super::half_at(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = d * f32::from(q as i8);
    }
}
