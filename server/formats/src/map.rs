//! The bytes of a file: mapped, or owned for tests and fuzzing. The crate's only `unsafe` is the map and what it tells
//! the system about it.
//!
//! If someone else truncates a mapped file, reading past its new end raises SIGBUS and ends the process; writing
//! into it changes weights under our feet. No portable call prevents either. The registry therefore replaces
//! model files by rename and removes them by unlink, both of which leave an existing map intact.

use std::fs::{self, File};
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

use crate::FormatError;

/// Read-only bytes.
pub(crate) enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a regular file.
    pub(crate) fn map(path: &Path) -> Result<Self, FormatError> {
        let failed = |source| FormatError::Open { path: path.to_owned(), source };
        // Asked before opening: opening a pipe would wait for a writer.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(FormatError::NotAFile.within(path));
        }
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Bytes::Owned(Vec::new()));
        }
        #[expect(unsafe_code, reason = "mapping is the point of this file")]
        // SAFETY: `file` is open for reading, is a regular file and is not empty (checked above); the map is
        // private to this type and only lent as `&[u8]`. That nobody truncates or rewrites the file meanwhile is
        // the module's documented assumption.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Bytes::Mapped(map))
    }

    /// Lets the memory of a range go; its bytes come from the file again when they are read.
    pub(crate) fn release(&self, range: Range<usize>) {
        let Bytes::Mapped(map) = self else { return };
        if range.end > map.len() || range.is_empty() {
            return;
        }
        #[expect(unsafe_code, reason = "the system is told which pages it may take")]
        // SAFETY: the range lies in the map, which nobody writes: a page that is dropped is read from the file again and
        // holds the same bytes, for whoever still has a reference to it too.
        let released =
            unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        // Where the system does not care, memory is taken a little longer.
        drop(released);
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
