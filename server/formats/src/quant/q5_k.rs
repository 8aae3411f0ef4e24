//! Q5_K: 256 elements in 8 groups of 32, 5.5 bits per weight.
//!
//! ```text
//! 0..2     d       f16
//! 2..4     dmin    f16
//! 4..16    scales  eight 6-bit (scale, min) pairs, see `unpack_scales`
//! 16..48   qh      bit g of byte i is the fifth bit of element i of group g
//! 48..176  qs      of each 32 bytes, low nibbles are one group, high nibbles the next
//! ```
//! `x = (d * scale) * q - (dmin * min)`

/// Bytes of a block.
pub const BYTES: usize = 176;

/// The 5-bit integers of a block, in element order.
pub fn integers(block: &[u8; BYTES]) -> [u8; 256] {
    std::array::from_fn(|i| {
        let byte = block[48 + i / 64 * 32 + i % 32];
        let low = if i % 64 < 32 { byte & 15 } else { byte >> 4 };
        low | (block[16 + i % 32] >> (i / 32) & 1) << 4
    })
}

/// Decodes one block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; 256]) {
    let (d, dmin) = (super::half_at(block, 0), super::half_at(block, 2));
    let mut packed = [0; 12];
    packed.copy_from_slice(&block[4..16]);
    let scales = super::unpack_scales(&packed);
    for (i, q) in integers(block).into_iter().enumerate() {
        let (scale, min) = scales[i / 32];
        out[i] = d * f32::from(scale) * f32::from(q) - dmin * f32::from(min);
    }
}
