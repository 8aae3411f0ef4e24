//! Getting a page: a saved file, or an http(s) address, politely and within limits.
//!
//! Redirects are followed by hand, so that each hop passes robots.txt and the address policy like a first request.
//! Bodies are read piece by piece against the bound. What a page cost its host (latency, 429, 503) sets the pace of
//! the next request there.

pub mod address;
pub mod cache;
pub mod cookies;
mod fetcher;
pub mod file;
mod headers;
pub mod hosts;
pub mod pace;
pub mod rebuildable;
pub mod robots;

use chrono::{DateTime, Utc};
use url::Url;

pub use fetcher::Fetcher;
pub use hosts::Hosts;

/// A document as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedPage {
    /// Where it was in the end, after redirects; a saved file's own address.
    pub url: Url,
    /// The `content-type` header.
    pub content_type: Option<String>,
    /// Decompressed.
    pub bytes: Vec<u8>,
    /// When it was fetched; a saved file's date of change.
    pub fetched_at: DateTime<Utc>,
    /// The host said that the cached copy still holds.
    pub from_cache: bool,
    /// Redirects followed.
    pub redirects: usize,
}

/// Why a page could not be got. Each says what a user could do about it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum FetchError {
    #[error("{url}: robots.txt does not allow this agent to read it")]
    Robots { url: Url },
    #[error(
        "{host}: robots.txt could not be read ({why}); as long as it is unknown, nothing of this host is fetched (RFC 9309)"
    )]
    RobotsUnknown { host: String, why: String },
    #[error("{host} is a private address ({address}); set scraping.allow_private to fetch it")]
    PrivateAddress { host: String, address: String },
    #[error("{url} redirects in a loop: it was visited before")]
    RedirectLoop { url: Url },
    #[error("{url}: more than {max} redirects")]
    TooManyRedirects { url: Url, max: usize },
    #[error("{url}: redirect to {location:?}, which is no http or https address")]
    BadRedirect { url: Url, location: String },
    #[error("{url}: longer than scraping.body_bytes_max = {max} bytes")]
    TooLarge { url: Url, max: usize },
    #[error("{url}: content type {content_type} is no page")]
    NotAPage { url: Url, content_type: String },
    #[error("{url} answered {status}")]
    Status { url: Url, status: u16 },
    #[error("{url} its host asks to wait {seconds} s, more than scraping.retry_after_seconds_max")]
    AsksToWait { url: Url, seconds: u64 },
    #[error("{url}: no answer within {seconds} s")]
    Timeout { url: Url, seconds: u64 },
    #[error("{url}: {why}")]
    Connection { url: Url, why: String },
    #[error("{path}: {why}")]
    File { path: String, why: String },
}

impl FetchError {
    /// Whether a later run may fare better: the host or the way to it failed, not the page.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RobotsUnknown { .. }
            | Self::AsksToWait { .. }
            | Self::Timeout { .. }
            | Self::Connection { .. } => true,
            Self::Status { status, .. } => is_transient_status(*status),
            _ => false,
        }
    }

    /// Whether the host says that there is no such page, or none any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }
}

/// Request Timeout, Too Early, Too Many Requests, and a server's failures but "not implemented" and "version not
/// supported", which it would repeat.
pub(crate) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429) || (500..=599).contains(&status) && !matches!(status, 501 | 505)
}
