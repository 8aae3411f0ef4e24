//! Reads little-endian values from a byte slice; each read is checked against what is left.

use std::fmt::Display;

use super::limits::{ARRAY_ELEMENTS_MAX, HEADER_BYTES_MAX};
use crate::FormatError;

/// A reader over the header part of a file: at most [`HEADER_BYTES_MAX`] bytes.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    elements_left: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0, elements_left: ARRAY_ELEMENTS_MAX }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes to the end of the file.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `length` bytes. `what` is rendered only for an error.
    pub(super) fn take(&mut self, length: u64, what: &dyn Display) -> Result<&'a [u8], FormatError> {
        let left = self.left();
        if length > left as u64 {
            return Err(FormatError::Truncated { what: what.to_string(), at: self.at, needed: length, left });
        }
        // `length` is at most `left`, so it and the sum fit.
        let end = self.at + length as usize;
        if end > HEADER_BYTES_MAX {
            return Err(FormatError::Limit {
                what: what.to_string(),
                at: self.at,
                found: end as u64,
                limit_name: "HEADER_BYTES_MAX",
                limit: HEADER_BYTES_MAX as u64,
            });
        }
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub(super) fn array<const N: usize>(&mut self, what: &dyn Display) -> Result<[u8; N], FormatError> {
        let taken = self.take(N as u64, what)?;
        Ok(taken.try_into().expect("take returns exactly the length asked for"))
    }

    pub(super) fn u32(&mut self, what: &dyn Display) -> Result<u32, FormatError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &dyn Display) -> Result<u64, FormatError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A `u64` count of things that each take at least `bytes_min` bytes, checked against `limit` and the rest of
    /// the file, so that a lying count is refused before anything is read for it.
    pub(super) fn count(
        &mut self,
        what: &dyn Display,
        bytes_min: u64,
        (limit_name, limit): (&'static str, usize),
    ) -> Result<usize, FormatError> {
        let at = self.at;
        let count = self.u64(what)?;
        if count > limit as u64 {
            return Err(FormatError::Limit {
                what: what.to_string(),
                at,
                found: count,
                limit_name,
                limit: limit as u64,
            });
        }
        // `count` is at most a limit constant, so the product cannot overflow.
        let needed = count * bytes_min;
        if needed > self.left() as u64 {
            return Err(FormatError::Truncated { what: what.to_string(), at, needed, left: self.left() });
        }
        Ok(count as usize)
    }

    /// A length-prefixed UTF-8 string of at most `limit` bytes.
    pub(super) fn string(
        &mut self,
        what: &dyn Display,
        limit: (&'static str, usize),
    ) -> Result<&'a str, FormatError> {
        let at = self.at;
        let length = self.count(what, 1, limit)?;
        let bytes = self.take(length as u64, what)?;
        std::str::from_utf8(bytes).map_err(|_| FormatError::Text {
            what: what.to_string(),
            at,
            expected: "valid UTF-8",
        })
    }

    /// A name: like [`Cursor::string`], not empty, no control characters.
    pub(super) fn name(
        &mut self,
        what: &dyn Display,
        limit: (&'static str, usize),
    ) -> Result<&'a str, FormatError> {
        let at = self.at;
        let name = self.string(what, limit)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            let expected = "a name without control characters";
            return Err(FormatError::Text { what: what.to_string(), at, expected });
        }
        Ok(name)
    }

    /// An array's element count, charged against [`ARRAY_ELEMENTS_MAX`] for the whole file.
    pub(super) fn elements(&mut self, what: &dyn Display, bytes_min: u64) -> Result<usize, FormatError> {
        let at = self.at;
        let count = self.count(what, bytes_min, ("ARRAY_ELEMENTS_MAX", ARRAY_ELEMENTS_MAX))?;
        let Some(left) = self.elements_left.checked_sub(count) else {
            return Err(FormatError::Limit {
                what: what.to_string(),
                at,
                found: (ARRAY_ELEMENTS_MAX - self.elements_left + count) as u64,
                limit_name: "ARRAY_ELEMENTS_MAX",
                limit: ARRAY_ELEMENTS_MAX as u64,
            });
        };
        self.elements_left = left;
        Ok(count)
    }
}
