//! The manifests and a cache folder, and what can be done with them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Files, bytes_of};
use crate::hub::HubClient;
use crate::manifest::{self, Format, Manifest, Source};
use crate::pull::{self, Fetchers, Order, Progress, Pulled};
use crate::{ModelsError, assemble, folder};

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
    /// Its sum; a folder's is that of its list of sums.
    pub sha256: String,
    /// What it was compared with.
    pub against: Against,
}

/// What a sum is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The sum in the manifest.
    Manifest,
    /// What the hub said when it was pulled; for small files of a folder, what came then.
    Hub,
    /// Nothing: only length (where known) and beginning were checked.
    Nothing,
}

impl Registry {
    /// The embedded manifests over `cache` (see [`crate::cache_dir_from`]). Nothing is created yet.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self::with(cache, manifest::embedded(), Fetchers::default())
    }

    /// The same, with another hub: its address without a slash at the end.
    pub fn with_hub(cache: impl Into<PathBuf>, endpoint: &str) -> Self {
        let hub = HubClient { endpoint: endpoint.trim_end_matches('/').to_owned() };
        Self::with(cache, manifest::embedded(), Fetchers { hub, ..Fetchers::default() })
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

    /// A model by its own name, or by that of the hub (with or without its owner, in any case) and a quantization; without
    /// one, the first that is known.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`], which lists the names; [`ModelsError::Quantization`], which lists the quantizations.
    pub fn resolve(&self, name: &str, quantization: Option<&str>) -> Result<&Manifest, ModelsError> {
        self.resolve_for(name, quantization, None)
    }

    /// The same; a name of the hub without a quantization means the model in the `preferred` one, in lower case, if it is
    /// known in that.
    ///
    /// # Errors
    /// As [`Registry::resolve`].
    pub fn resolve_for(
        &self,
        name: &str,
        quantization: Option<&str>,
        preferred: Option<&str>,
    ) -> Result<&Manifest, ModelsError> {
        let own = |suffix: &str| {
            self.manifests.iter().find(|m| m.name == format!("{}{suffix}", name.to_lowercase()))
        };
        let wanted = quantization.map(normalized);
        let with_suffix = wanted.as_ref().and_then(|wanted| own(&format!("-{wanted}")));
        if let Some(found) = with_suffix.or_else(|| own("").filter(|m| suits(m, wanted.as_deref()))) {
            return Ok(found);
        }
        let is_called = |manifest: &&Manifest| {
            let model = manifest.model.as_deref().unwrap_or_default();
            let short = model.rsplit('/').next().unwrap_or_default();
            !model.is_empty() && (model.eq_ignore_ascii_case(name) || short.eq_ignore_ascii_case(name))
        };
        let mut called: Vec<&Manifest> = self.manifests.iter().filter(is_called).collect();
        if let Some(at) =
            preferred.and_then(|preferred| called.iter().position(|m| suits(m, Some(preferred))))
        {
            let first = called.remove(at);
            called.insert(0, first);
        }
        if let Some(found) = called.iter().find(|m| suits(m, wanted.as_deref())) {
            return Ok(found);
        }
        // Where nothing is called so, a name of our own in another quantization, or the list of all names.
        let known = if called.is_empty() {
            vec![self.manifest(&name.to_lowercase()).or_else(|_| self.manifest(name))?]
        } else {
            called
        };
        Err(ModelsError::Quantization {
            name: name.to_owned(),
            quantization: quantization.unwrap_or_default().to_owned(),
            known: known.iter().map(|m| m.quantization.to_lowercase()).collect(),
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
        let files = self.files(manifest);
        let path = files.model();
        let Some(bytes) = files.bytes() else {
            return Err(ModelsError::Absent { name: name.to_owned(), path });
        };
        let damaged = |source| ModelsError::Damaged { name: name.to_owned(), path: path.clone(), source };
        let mut progress = |done| progress(done, bytes);
        if manifest.format == Format::Folder {
            let (sha256, bytes) = folder::verify(&path, &mut progress).map_err(damaged)?;
            return Ok(Verified { path, bytes, sha256, against: Against::Hub });
        }
        let told = fs::read_to_string(files.sum()).ok();
        let (expected, against) = match (&manifest.sha256, &told) {
            (Some(sum), _) => (Some(sum.as_str()), Against::Manifest),
            (None, Some(sum)) => (Some(sum.trim()), Against::Hub),
            (None, None) => (None, Against::Nothing),
        };
        let sha256 =
            assemble::check_whole(&path, manifest.bytes, expected, &mut progress).map_err(damaged)?;
        Ok(Verified { path, bytes, sha256, against })
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
        let Some(bytes) = files.bytes() else { return Ok(rest) };
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(ModelsError::cache("remove", &path))?;
        match fs::remove_file(files.sum()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ModelsError::cache("remove", &files.sum())(error))
            }
            _ => Ok(rest + bytes),
        }
    }

    fn files(&self, manifest: &Manifest) -> Files {
        Files::new(&self.cache, manifest)
    }
}

/// A quantization's name as manifests have it, in lower case: `awq-4bit` is `awq`.
fn normalized(quantization: &str) -> String {
    let name = quantization.to_lowercase();
    name.strip_suffix("-4bit").map(str::to_owned).unwrap_or(name)
}

fn suits(manifest: &Manifest, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| manifest.quantization.to_lowercase() == wanted)
}

fn state(manifest: &Manifest, files: &Files) -> State {
    if let Some(bytes) = pull::here(manifest, files) {
        return State::Here { bytes };
    }
    if let Ok(metadata) = fs::metadata(files.model()) {
        return State::Damaged { bytes: metadata.len() };
    }
    match files.partials().iter().map(|path| bytes_of(path)).max() {
        Some(bytes) if bytes > 0 => State::Partial { bytes },
        _ => State::Absent,
    }
}
