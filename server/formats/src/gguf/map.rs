//! The only place that maps a file.

use std::fs::File;
use std::io::Error;
use std::ops::Deref;
use std::path::Path;

use super::parse::FormatError;

/// The bytes of a weight file: mapped, or held.
#[derive(Debug)]
pub enum Bytes {
    /// A private read-only map.
    Map(memmap2::Mmap),
    /// In memory, for tests.
    Held(Vec<u8>),
}

impl Bytes {
    /// Maps `path`.
    ///
    /// # Errors
    /// [`FormatError::Io`] with the path.
    pub fn map(path: &Path) -> Result<Self, FormatError> {
        let broken = |source: Error| FormatError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(broken)?;
        // SAFETY: the map is private and read-only, and its length is the file's at this moment. Model files are
        // written to a temporary name and renamed, never truncated in place (quarry-models), so no page goes away
        // under the map; another program that truncates the file would raise SIGBUS, as it would in every engine.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(broken)?;
        Ok(Self::Map(map))
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Held(bytes) => bytes,
        }
    }
}
