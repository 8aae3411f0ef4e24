//! The manifests and a cache folder, and what can be done with them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::Files;
use crate::manifest::{self, Manifest, Source};
use crate::pull::{self, Fetchers, Order, Progress, Pulled};
use crate::{ModelsError, assemble};

/// Known models over a cache folder.
#[derive(Debug)]
pub struct Registry {
    cache: PathBuf,
    manifests: Vec<Manifest>,
    fetchers: Fetchers,
}

/// A known model and whether it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<'a> {
    /// What is known of it.
    pub manifest: &'a Manifest,
    /// Where its file is or would be.
    pub path: PathBuf,
    /// Whether it is there.
    pub state: State,
}

/// What the cache has of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Absent,
    /// The beginning; a pull goes on from there.
    Partial {
        /// Bytes so far.
        bytes: u64,
    },
    /// A file of the right length.
    Here {
        /// Its length.
        bytes: u64,
    },
    /// A file of a wrong length.
    Damaged {
        /// Its length.
        bytes: u64,
    },
}

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its sum.
    pub sha256: String,
    /// The manifest has a sum and this is it; else only length (where known) and beginning were checked.
    pub sum_known: bool,
}

impl Registry {
    /// The embedded manifests over `cache` (see [`crate::cache_dir_from`]). Nothing is created yet.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self::with(cache, manifest::embedded(), Fetchers::default())
    }

    /// With other manifests and ways to fetch.
    pub fn with(cache: impl Into<PathBuf>, manifests: Vec<Manifest>, fetchers: Fetchers) -> Self {
        Registry { cache: cache.into(), manifests, fetchers }
    }

    /// All that is known.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// A model by name.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`], which lists the names.
    pub fn manifest(&self, name: &str) -> Result<&Manifest, ModelsError> {
        let found = self.manifests.iter().find(|manifest| manifest.name == name);
        found.ok_or_else(|| ModelsError::Unknown {
            name: name.to_owned(),
            known: self.manifests.iter().map(|manifest| manifest.name.clone()).collect(),
        })
    }

    /// All known models with their state; the defaults first, as in [`Registry::manifests`].
    pub fn list(&self) -> Vec<Listing<'_>> {
        self.manifests
            .iter()
            .map(|manifest| {
                let files = self.files(manifest);
                Listing { manifest, path: files.model(), state: state(manifest, &files) }
            })
            .collect()
    }

    /// The file of a model that is here; its length is checked, its sum is not.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`], [`ModelsError::Absent`].
    pub fn path(&self, name: &str) -> Result<PathBuf, ModelsError> {
        let manifest = self.manifest(name)?;
        let files = self.files(manifest);
        match pull::here(manifest, &files) {
            Some(_) => Ok(files.model()),
            None => Err(ModelsError::Absent { name: name.to_owned(), path: files.model() }),
        }
    }

    /// Gets a model if it is not here. `local` is tried before the manifest's sources.
    ///
    /// # Errors
    /// [`ModelsError::NoSource`] with one reason per source.
    pub fn pull(
        &self,
        name: &str,
        local: Option<&Path>,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Pulled, ModelsError> {
        let manifest = self.manifest(name)?;
        let first = local.map(|path| Source::Local { path: path.to_owned() });
        Order { manifest, files: &self.files(manifest), fetchers: &self.fetchers, first }.run(progress)
    }

    /// Computes the sum of a model's file and compares it. `progress` is told bytes read and bytes in all.
    ///
    /// # Errors
    /// [`ModelsError::Absent`], [`ModelsError::Damaged`].
    pub fn verify(&self, name: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, ModelsError> {
        let manifest = self.manifest(name)?;
        let path = self.files(manifest).model();
        let Ok(metadata) = fs::metadata(&path) else {
            return Err(ModelsError::Absent { name: name.to_owned(), path });
        };
        let (bytes, expected) = (metadata.len(), manifest.sha256.as_deref());
        match assemble::check_whole(&path, manifest.bytes, expected, &mut |done| progress(done, bytes)) {
            Ok(sha256) => Ok(Verified { path, bytes, sha256, sum_known: expected.is_some() }),
            Err(source) => Err(ModelsError::Damaged { name: name.to_owned(), path, source }),
        }
    }

    /// Removes a model's file and whatever pulls left of it; returns the bytes freed. A server that has it mapped
    /// keeps its map.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`], [`ModelsError::Cache`].
    pub fn remove(&self, name: &str) -> Result<u64, ModelsError> {
        let files = self.files(self.manifest(name)?);
        let _lock = files.lock(&mut |_| {})?;
        let rest = files.clean().map_err(|(path, error)| ModelsError::cache("remove", &path)(error))?;
        let path = files.model();
        let Ok(metadata) = fs::metadata(&path) else { return Ok(rest) };
        fs::remove_file(&path).map_err(ModelsError::cache("remove", &path))?;
        Ok(rest + metadata.len())
    }

    fn files(&self, manifest: &Manifest) -> Files {
        Files::new(&self.cache, &manifest.name)
    }
}

fn state(manifest: &Manifest, files: &Files) -> State {
    if let Some(bytes) = pull::here(manifest, files) {
        return State::Here { bytes };
    }
    if let Ok(metadata) = fs::metadata(files.model()) {
        return State::Damaged { bytes: metadata.len() };
    }
    let partials = files.partials();
    let largest = partials.iter().filter_map(|path| fs::metadata(path).ok()).map(|m| m.len()).max();
    match largest {
        Some(bytes) if bytes > 0 => State::Partial { bytes },
        _ => State::Absent,
    }
}
