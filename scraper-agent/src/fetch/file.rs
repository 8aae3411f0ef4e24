//! Saved pages: files and folders.
//!
//! A saved page's own address matters (links, ATS rules, identity), so it is looked for in the page: the comment that
//! browsers write, `<link rel=canonical>`, `og:url`, `<base>`; else the file's own.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use regex::Regex;
use url::Url;

use crate::error::AgentError;
use crate::fetch::{FetchError, FetchedPage};

/// Reads one saved page.
pub fn read(path: &Path, bytes_max: usize) -> Result<FetchedPage, FetchError> {
    let failed = |why: String| FetchError::File { path: path.display().to_string(), why };
    let metadata = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("is no file".to_owned()));
    }
    if metadata.len() > bytes_max as u64 {
        let length = metadata.len();
        return Err(failed(format!("{length} bytes are more than scraping.body_bytes_max = {bytes_max}")));
    }
    let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    let own = || {
        let absolute = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
        Url::from_file_path(&absolute).map_err(|()| failed("has no address".to_owned()))
    };
    let url = match declared_address(&bytes) {
        Some(url) => url,
        None => own()?,
    };
    let fetched_at = metadata.modified().map_or_else(|_| Utc::now(), DateTime::<Utc>::from);
    Ok(FetchedPage { url, content_type: None, bytes, fetched_at, from_cache: false, redirects: 0 })
}

/// The saved pages of a folder and its folders, in order of name.
pub fn walk(folder: &Path, files_max: usize) -> Result<Vec<PathBuf>, AgentError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(AgentError::io(&folder))?;
        for entry in entries {
            let entry = entry.map_err(AgentError::io(&folder))?;
            let kind = entry.file_type().map_err(AgentError::io(entry.path()))?;
            // Links are not followed: a link to a parent would never end.
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && is_saved_page(&entry.path()) {
                files.push(entry.path());
                if files.len() > files_max {
                    return Err(AgentError::Seed {
                        seed: folder.display().to_string(),
                        why: format!("more than scraping.files_max = {files_max} pages"),
                    });
                }
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_saved_page(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    matches!(extension.as_str(), "html" | "htm" | "xhtml")
}

/// Where in the file its address is looked for; a canonical link is in the head.
const HEAD_BYTES: usize = 256 << 10;

fn declared_address(bytes: &[u8]) -> Option<Url> {
    static SAVED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)<!--\s*saved from url=\(\d+\)(\S+)").expect("a constant pattern compiles")
    });
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?is)<(link|meta|base)\b[^>]{0,2000}>").expect("a constant pattern compiles")
    });
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?is)\b(?:href|content)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))"#)
            .expect("a constant pattern compiles")
    });
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES)]);
    let web = |text: &str| {
        let url = Url::parse(&text.trim().replace("&amp;", "&")).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(url)
    };
    if let Some(url) = SAVED.captures(&head).and_then(|c| web(&c[1])) {
        return Some(url);
    }
    let mut best: Option<(u8, Url)> = None;
    for tag in TAG.find_iter(&head) {
        let lower = tag.as_str().to_ascii_lowercase();
        let rank = if lower.starts_with("<link") && lower.contains("canonical") {
            0
        } else if lower.starts_with("<meta") && lower.contains("og:url") {
            1
        } else if lower.starts_with("<base") {
            2
        } else {
            continue;
        };
        let Some(found) = ADDRESS.captures(tag.as_str()) else { continue };
        let text = (1..=3).find_map(|i| found.get(i)).map_or("", |m| m.as_str());
        // `content="og:url"` of a reversed tag is no address and falls out here.
        if let Some(url) = web(text).filter(|_| best.as_ref().is_none_or(|(r, _)| rank < *r)) {
            best = Some((rank, url));
        }
    }
    best.map(|(_, url)| url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declared_address_is_found_in_order_of_trust() {
        let find = |html: &str| declared_address(html.as_bytes()).map(String::from);
        let all = r#"<base href="https://a.example/b/"><meta property="og:url" content='https://a.example/o'>
            <link href="https://a.example/c?x=1&amp;y=2" rel=canonical>"#;
        assert_eq!(find(all).as_deref(), Some("https://a.example/c?x=1&y=2"));
        assert_eq!(find(r#"<base href="https://a.example/b/">"#).as_deref(), Some("https://a.example/b/"));
        let saved = "<!-- saved from url=(0025)https://b.example/job/1 --><link rel=canonical href=https://c.example/>";
        assert_eq!(find(saved).as_deref(), Some("https://b.example/job/1"));
        assert_eq!(find("<link rel=canonical href='/relative'>"), None);
        assert_eq!(find("<link rel=canonical href='javascript:x'>"), None);
    }

    #[test]
    fn folders_give_their_pages_in_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["b/2.htm", "a.HTML", "c.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let names: Vec<_> = walk(folder.path(), 10)
            .unwrap()
            .iter()
            .map(|p| p.strip_prefix(folder.path()).unwrap().to_owned())
            .collect();
        assert_eq!(names, [PathBuf::from("a.HTML"), PathBuf::from("b/2.htm")]);
        assert!(walk(folder.path(), 1).is_err());
        let page = read(&folder.path().join("a.HTML"), 10).unwrap();
        assert_eq!(page.url.scheme(), "file");
        assert!(read(&folder.path().join("a.HTML"), 0).unwrap_err().to_string().contains("body_bytes_max"));
    }
}
