//! What a user names: a saved page, a folder of them, or an address.

use std::path::{Path, PathBuf};

use url::Url;

use crate::config::ScrapingConfig;
use crate::error::AgentError;
use crate::fetch::file;
use crate::frontier::{SCORE_SEED, entry};
use crate::store::Found;

/// A starting point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seed {
    /// A saved page.
    File(PathBuf),
    /// Saved pages.
    Folder(PathBuf),
    /// An address.
    Url(Url),
}

impl Seed {
    /// Reads what a user typed: an http(s) address, or a path that exists.
    pub fn parse(text: &str) -> Result<Self, AgentError> {
        let bad = |why: &str| AgentError::Seed { seed: text.to_owned(), why: why.to_owned() };
        if let Ok(url) = Url::parse(text)
            && text.contains("://")
        {
            return match url.scheme() {
                "http" | "https" if url.host_str().is_some() => Ok(Self::Url(url)),
                "file" => url
                    .to_file_path()
                    .map_err(|()| bad("is no path"))
                    .and_then(|path| Self::path(&path, text)),
                _ => Err(bad("only http, https and file addresses can be read")),
            };
        }
        Self::path(Path::new(text), text)
    }

    fn path(path: &Path, text: &str) -> Result<Self, AgentError> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(Self::Folder(path.to_owned())),
            Ok(_) => Ok(Self::File(path.to_owned())),
            Err(error) => {
                let why =
                    format!("no such file or folder ({error}); an address begins with http:// or https://");
                Err(AgentError::Seed { seed: text.to_owned(), why })
            }
        }
    }

    /// The pages that it stands for.
    pub fn pages(&self, config: &ScrapingConfig) -> Result<Vec<Found>, AgentError> {
        let saved = |path: &Path, why: &str| Found {
            source: path.display().to_string(),
            host: String::new(),
            why: why.to_owned(),
            depth: 0,
            paging: 0,
            score: SCORE_SEED,
        };
        match self {
            Self::File(path) => Ok(vec![saved(path, "a seed")]),
            Self::Folder(folder) => {
                let why = format!("a file of {}", folder.display());
                Ok(file::walk(folder, config.files_max)?.iter().map(|path| saved(path, &why)).collect())
            }
            Self::Url(url) => Ok(vec![entry(url, "a seed".to_owned(), 0, 0, SCORE_SEED)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_type() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.html");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(Seed::parse("https://a.example/jobs").unwrap(), Seed::Url(_)));
        assert!(matches!(Seed::parse(file.to_str().unwrap()).unwrap(), Seed::File(_)));
        assert!(matches!(Seed::parse(folder.path().to_str().unwrap()).unwrap(), Seed::Folder(_)));
        for bad in ["ftp://a.example/", "no-such-file.html", "example.com/jobs"] {
            assert!(matches!(Seed::parse(bad), Err(AgentError::Seed { .. })), "{bad}");
        }
    }
}
