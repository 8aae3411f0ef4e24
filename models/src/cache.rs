//! The cache folder: its place, the names in it, the lock.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::{Format, Manifest};
use crate::{ModelsError, folder};

/// The user's cache folder for Quarry: `QUARRY_CACHE`, else `XDG_CACHE_HOME/quarry`, else `HOME/.cache/quarry`.
/// `None` where none of them is set; an empty or relative value counts as not set, as the XDG description says.
pub fn cache_dir_from(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |key: &str| env(key).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("QUARRY_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("quarry")))
        .or_else(|| Some(folder("HOME")?.join(".cache").join("quarry")))
}

/// The files of one model in the cache.
pub(crate) struct Files {
    pub folder: PathBuf,
    name: String,
    format: Format,
}

impl Files {
    pub(crate) fn new(cache: &Path, manifest: &Manifest) -> Self {
        Files { folder: cache.join("models"), name: manifest.name.clone(), format: manifest.format }
    }

    /// The whole, checked file or folder.
    pub(crate) fn model(&self) -> PathBuf {
        match self.format {
            Format::Gguf => self.folder.join(format!("{}.gguf", self.name)),
            Format::Folder => self.folder.join(&self.name),
        }
    }

    /// The sum that the hub gave for a file whose manifest has none.
    pub(crate) fn sum(&self) -> PathBuf {
        self.folder.join(format!("{}.sha256", self.name))
    }

    /// What [`Files::model`] is there, by its bytes; `None` where it is not, or is something else.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let metadata = fs::metadata(self.model()).ok()?;
        match self.format {
            Format::Gguf => metadata.is_file().then_some(metadata.len()),
            Format::Folder => metadata.is_dir().then(|| folder::bytes_in(&self.model())),
        }
    }

    /// What a pull from one kind of source has so far.
    pub(crate) fn partial(&self, tag: &str) -> PathBuf {
        self.folder.join(format!("{}.{tag}.partial", self.name))
    }

    /// All partial files that exist.
    pub(crate) fn partials(&self) -> Vec<PathBuf> {
        ["local", "hub", "pip"]
            .map(|tag| self.partial(tag))
            .into_iter()
            .filter(|path| path.exists())
            .collect()
    }

    /// A folder for downloads in progress.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.folder.join(format!("{}.downloads", self.name))
    }

    /// Removes the partial files and downloads; returns the bytes of the partial files.
    pub(crate) fn clean(&self) -> Result<u64, (PathBuf, io::Error)> {
        let mut freed = 0;
        for path in self.partials() {
            freed += bytes_of(&path);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| (path, error))?;
        }
        match fs::remove_dir_all(self.downloads()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err((self.downloads(), error)),
            _ => Ok(freed),
        }
    }

    /// Holds this model against other threads and processes until the result is dropped (or the process ends).
    /// `waiting` is told the lock's path if somebody else has it.
    pub(crate) fn lock(&self, waiting: &mut dyn FnMut(&Path)) -> Result<File, ModelsError> {
        fs::create_dir_all(&self.folder).map_err(ModelsError::cache("create", &self.folder))?;
        let path = self.folder.join(format!("{}.lock", self.name));
        let file = File::create(&path).map_err(ModelsError::cache("create", &path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => waiting(&path),
            Err(TryLockError::Error(source)) => {
                return Err(ModelsError::Cache { what: "lock", path, source });
            }
        }
        file.lock().map_err(ModelsError::cache("lock", &path))?;
        Ok(file)
    }
}

/// Bytes of a file, or of the files in a folder.
pub(crate) fn bytes_of(path: &Path) -> u64 {
    if path.is_dir() {
        folder::bytes_in(path)
    } else {
        fs::metadata(path).map_or(0, |metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_folder_is_the_first_absolute_one() {
        let at = |set: &[(&str, &str)]| {
            cache_dir_from(|key| set.iter().find(|(k, _)| *k == key).map(|(_, v)| v.into()))
        };
        assert_eq!(at(&[("QUARRY_CACHE", "/q"), ("HOME", "/h")]), Some("/q".into()));
        assert_eq!(at(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some("/x/quarry".into()));
        assert_eq!(at(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")]), Some("/h/.cache/quarry".into()));
        assert_eq!(at(&[("QUARRY_CACHE", "relative")]), None);
    }
}
