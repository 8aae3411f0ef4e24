//! The reversible map between bytes and printable characters of byte-level BPE.
//!
//! Source: GPT-2's `bytes_to_unicode` (Radford et al. 2019, encoder.py): printable Latin-1 maps to itself, the rest
//! to U+0100 and up in order.

/// The character that stands for each byte.
pub fn alphabet() -> [char; 256] {
    let mut next = 0x100u32;
    std::array::from_fn(|byte| {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).unwrap_or('\u{fffd}')
    })
}

/// The bytes a token's text stands for; `None` where a character is no byte's.
pub fn bytes_of(text: &str, inverse: &[Option<u8>]) -> Option<Vec<u8>> {
    text.chars().map(|c| inverse.get(c as usize).copied().flatten()).collect()
}

/// Character code to byte.
pub fn inverse() -> Vec<Option<u8>> {
    let mut inverse = vec![None; 0x200];
    for (byte, c) in alphabet().into_iter().enumerate() {
        inverse[c as usize] = Some(byte as u8);
    }
    inverse
}
