//! Q6_K: 256 elements in 16 groups of 16, 6.5625 bits per weight.
//!
//! ```text
//! 0..128    ql      low 4 bits: of each 64 bytes (128 elements), low nibbles are elements 0..64, high 64..128
//! 128..192  qh      high 2 bits: of each 32 bytes, bit pair p of byte i is element 32 p + i
//! 192..208  scales  i8, one per 16 elements
//! 208..210  d       f16
//! ```
//! `x = (d * scale) * (q - 32)`

/// Bytes of a block.
pub const BYTES: usize = 210;

/// The 6-bit integers of a block less 32: -32 to 31, in element order.
pub fn integers(block: &[u8; BYTES]) -> [i8; 256] {
    std::array::from_fn(|i| {
        let (half, j) = (i / 128, i % 128);
        let byte = block[half * 64 + j % 64];
        let low = if j < 64 { byte & 15 } else { byte >> 4 };
        let high = block[128 + half * 32 + j % 32] >> (j / 32 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; 256]) {
    let d = super::half_at(block, 208);
    for (i, q) in integers(block).into_iter().enumerate() {
        out[i] = d * f32::from(block[192 + i / 16] as i8) * f32::from(q);
    }
}
