//! Reading a folder's small files within bounds.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde_json::Value;

use super::limits::CONFIG_BYTES_MAX;
use crate::FormatError;

/// What is wrong with the folder.
pub(super) fn problem(folder: &Path, problem: String) -> FormatError {
    FormatError::Folder { folder: folder.to_owned(), problem }
}

/// A file's bytes, at most `limit`; `None` where there is no such file.
pub(super) fn bytes(folder: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, FormatError> {
    let path = folder.join(name);
    let failed = |source| FormatError::Open { path: path.clone(), source };
    // Asked before opening: opening a pipe would wait for a writer.
    match fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.is_file() => return Err(FormatError::NotAFile.within(&path)),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a longer file is noticed, whatever it said of its length.
    File::open(&path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(problem(folder, format!("{name} is over the limit of {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// A file's text.
pub(super) fn text(folder: &Path, name: &str, limit: u64) -> Result<Option<String>, FormatError> {
    let Some(bytes) = bytes(folder, name, limit)? else { return Ok(None) };
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| problem(folder, format!("{name} is not valid UTF-8")))
}

/// A file's JSON object.
pub(super) fn json(folder: &Path, name: &str) -> Result<Option<Value>, FormatError> {
    json_within(folder, name, CONFIG_BYTES_MAX)
}

/// A file's JSON object, at most `limit` bytes of text.
pub(super) fn json_within(folder: &Path, name: &str, limit: u64) -> Result<Option<Value>, FormatError> {
    let Some(bytes) = bytes(folder, name, limit)? else { return Ok(None) };
    let bad = |problem: String| FormatError::Json { what: name.to_owned(), problem }.within(folder);
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if value.is_object() { Ok(Some(value)) } else { Err(bad("is not an object".to_owned())) }
}
