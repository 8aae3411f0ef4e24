//! Q4_0: 32 elements, 4.5 bits per weight.
//!
//! ```text
//! 0..2   d   f16
//! 2..18  qs  low nibble of byte i is element i, high nibble element i + 16
//! ```
//! `x = d * (q - 8)`

/// Bytes of a block.
pub const BYTES: usize = 18;

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; 32]) {
    let d = super::half_at(block, 0);
    for (i, &q) in block[2..].iter().enumerate() {
        out[i] = d * (i32::from(q & 15) - 8) as f32;
        out[i + 16] = d * (i32::from(q >> 4) - 8) as f32;
    }
}
