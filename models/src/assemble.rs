//! A file that grows piece by piece, with a sum over all of it; what an earlier try left is kept where it is whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::SourceError;

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// What every GGUF file begins with.
const GGUF_MAGIC: &[u8; 4] = b"GGUF";

/// Sum of a file, lower-case hex. `progress` is told the bytes read so far.
pub(crate) fn sha256_of(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<String, SourceError> {
    let mut file = File::open(path).map_err(SourceError::io("open", path, 0))?;
    let mut hasher = Sha256::new();
    copy(&mut file, path, u64::MAX, &mut |chunk, done| {
        hasher.update(chunk);
        progress(done);
        Ok(())
    })?;
    Ok(hex(hasher))
}

/// Takes a chunk and the bytes so far.
type ChunkTaker<'a> = dyn FnMut(&[u8], u64) -> Result<(), SourceError> + 'a;

/// Feeds at most `limit` bytes of `from` to `each`, with the count so far; returns the count.
fn copy(from: &mut dyn Read, name: &Path, limit: u64, each: &mut ChunkTaker<'_>) -> Result<u64, SourceError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut done = 0;
    while done < limit {
        let want = usize::try_from(limit - done).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let count = from.read(&mut buffer[..want]).map_err(SourceError::io("read", name, 0))?;
        if count == 0 {
            break;
        }
        done += count as u64;
        each(&buffer[..count], done)?;
    }
    Ok(done)
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file being put together.
pub(crate) struct Assembly {
    path: PathBuf,
    file: File,
    length: u64,
    total: u64,
}

impl Assembly {
    /// Opens `path`, keeping what is there. `total` is the bytes of the whole, 0 where not known.
    pub(crate) fn open(path: &Path, total: u64) -> Result<Self, SourceError> {
        let failed = SourceError::io("open", path, total);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let length = file.metadata().map_err(SourceError::io("read", path, total))?.len();
        Ok(Assembly { path: path.to_owned(), file, length, total })
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Drops everything from `length` on.
    pub(crate) fn truncate(&mut self, length: u64) -> Result<(), SourceError> {
        let path = &self.path;
        self.file.set_len(length).map_err(SourceError::io("truncate", path, self.total))?;
        self.file.seek(SeekFrom::Start(length)).map_err(SourceError::io("seek in", path, self.total))?;
        self.length = length;
        Ok(())
    }

    /// Adds bytes at the end; [`Assembly::truncate`] must have been called once before.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.file.write_all(bytes).map_err(SourceError::io("write", &self.path, self.total))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Adds a piece of exactly `bytes` with the sum `sha256`; on any failure the file is as before.
    pub(crate) fn append_piece(
        &mut self,
        what: &str,
        from: &mut dyn Read,
        bytes: u64,
        sha256: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SourceError> {
        let start = self.length;
        let result = self.append_checked(what, from, bytes, sha256, progress);
        if result.is_err() {
            self.truncate(start)?;
        }
        result
    }

    fn append_checked(
        &mut self,
        what: &str,
        from: &mut dyn Read,
        bytes: u64,
        sha256: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SourceError> {
        let start = self.length;
        let mut hasher = Sha256::new();
        // One byte more than wanted, so that a longer piece is noticed.
        let found = copy(from, Path::new(what), bytes.saturating_add(1), &mut |chunk, done| {
            hasher.update(chunk);
            self.write(chunk)?;
            progress(start + done.min(bytes));
            Ok(())
        })?;
        if found != bytes {
            return Err(SourceError::Size { what: what.to_owned(), found, expected: bytes });
        }
        check_sum(what, hex(hasher), Some(sha256))
    }

    /// Adds a whole file.
    pub(crate) fn append_file(
        &mut self,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SourceError> {
        let mut from = File::open(path).map_err(SourceError::io("open", path, 0))?;
        copy(&mut from, path, u64::MAX, &mut |chunk, done| {
            self.write(chunk)?;
            progress(done);
            Ok(())
        })?;
        Ok(())
    }

    /// Writes through to the disk and closes.
    pub(crate) fn finish(self) -> Result<(), SourceError> {
        self.file.sync_all().map_err(SourceError::io("write", &self.path, self.total))
    }
}

fn check_sum(what: &str, found: String, expected: Option<&str>) -> Result<(), SourceError> {
    match expected {
        Some(expected) if !found.eq_ignore_ascii_case(expected) => {
            Err(SourceError::Checksum { what: what.to_owned(), found, expected: expected.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Checks a whole file: length and sum where they are known, and that it begins as GGUF. Returns its sum.
pub(crate) fn check_whole(
    path: &Path,
    bytes: Option<u64>,
    sha256: Option<&str>,
    progress: &mut dyn FnMut(u64),
) -> Result<String, SourceError> {
    let what = path.file_name().map_or_else(|| path.display().to_string(), |n| n.display().to_string());
    let mut file = File::open(path).map_err(SourceError::io("open", path, 0))?;
    let found = file.metadata().map_err(SourceError::io("read", path, 0))?.len();
    if let Some(expected) = bytes.filter(|&expected| expected != found) {
        return Err(SourceError::Size { what, found, expected });
    }
    let mut magic = [0; 4];
    if file.read_exact(&mut magic).is_err() || &magic != GGUF_MAGIC {
        return Err(SourceError::NotGguf { what });
    }
    let sum = sha256_of(path, progress)?;
    check_sum(&what, sum.clone(), sha256)?;
    Ok(sum)
}
