//! Q4_1: 32 elements, 5 bits per weight.
//!
//! ```text
//! 0..2   d   f16
//! 2..4   m   f16
//! 4..20  qs  low nibble of byte i is element i, high nibble element i + 16
//! ```
//! `x = d * q + m`

/// Bytes of a block.
pub const BYTES: usize = 20;

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; 32]) {
    let (d, m) = (super::half_at(block, 0), super::half_at(block, 2));
    for (i, &q) in block[4..].iter().enumerate() {
        out[i] = d * f32::from(q & 15) + m;
        out[i + 16] = d * f32::from(q >> 4) + m;
    }
}
