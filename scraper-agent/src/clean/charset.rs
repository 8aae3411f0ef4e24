//! Bytes to text: byte-order mark, then header, then the page's own declaration, then UTF-8, then a guess by the bytes
//! (chardetng, which Firefox uses).

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// Bytes in which a page's own declaration is looked for (HTML standard, 13.2.3.2).
const PRESCAN_BYTES: usize = 1024;

/// Decodes a body; malformed bytes become U+FFFD. An unknown charset name counts as none.
pub fn decode(bytes: &[u8], content_type: Option<&str>) -> String {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned();
    }
    let header = content_type.and_then(|value| named(value.as_bytes()));
    let declared = header.or_else(|| named(&bytes[..bytes.len().min(PRESCAN_BYTES)]));
    if let Some(encoding) = declared.filter(|encoding| *encoding != UTF_8) {
        return encoding.decode_without_bom_handling(bytes).0.into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // Declared UTF-8 with some bad bytes stays UTF-8.
        Err(_) if declared.is_some() || is_mostly_utf8(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Err(_) => guess(bytes).decode_without_bom_handling(bytes).0.into_owned(),
    }
}

/// Whether more characters are right than wrong, of those that are no ASCII: a page cut off, or put together from two.
fn is_mostly_utf8(bytes: &[u8]) -> bool {
    let (mut right, mut wrong) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        right += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        wrong += usize::from(!chunk.invalid().is_empty());
    }
    right > wrong
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Deny)
}

/// The encoding after `charset=`.
fn named(text: &[u8]) -> Option<&'static Encoding> {
    let lower = text.to_ascii_lowercase();
    let mut rest = &lower[..];
    while let Some(at) = rest.windows(7).position(|w| w == b"charset") {
        rest = &rest[at + 7..];
        let trimmed = rest.trim_ascii_start();
        if let Some(value) = trimmed.strip_prefix(b"=") {
            let value = value.trim_ascii_start();
            let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
            let end = value.iter().position(|b| !(b.is_ascii_alphanumeric() || b"-_:.".contains(b)));
            return Encoding::for_label(&value[..end.unwrap_or(value.len())]);
        }
    }
    None
}
