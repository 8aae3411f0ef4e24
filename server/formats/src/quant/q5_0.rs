//! Q5_0: 32 elements, 5.5 bits per weight.
//!
//! ```text
//! 0..2   d   f16
//! 2..6   qh  bit i is the fifth bit of element i
//! 6..22  qs  low nibble of byte i is element i, high nibble element i + 16
//! ```
//! `x = d * (q - 16)`

/// Bytes of a block.
pub const BYTES: usize = 22;

/// The 5-bit integers of a block, 0 to 31.
pub fn integers(block: &[u8; BYTES]) -> [u8; 32] {
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    std::array::from_fn(|i| {
        let byte = block[6 + i % 16];
        let low = if i < 16 { byte & 15 } else { byte >> 4 };
        low | ((high >> i & 1) as u8) << 4
    })
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; 32]) {
    let d = super::half_at(block, 0);
    for (out, q) in out.iter_mut().zip(integers(block)) {
        *out = d * (i32::from(q) - 16) as f32;
    }
}
