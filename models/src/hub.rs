//! The model hub over HTTPS: `ENDPOINT/REPO/resolve/REVISION/FILE`, with a range request to resume.
//!
//! What the hub itself knows of a file is asked by HEAD: large files are kept by their sha256, which the answer names
//! (`x-linked-etag`, `x-linked-size`) before it redirects to where the bytes are.
//!
//! `hf-hub` 1.0 would bring its content-addressed storage client with some 200 crates; one GET is all we need.
//! The request runs on a thread of its own with a small runtime, so that callers may be synchronous or not.

use std::thread;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, RANGE};

use crate::SourceError;
use crate::assemble::Assembly;

/// The public hub.
pub const HUB_DEFAULT: &str = "https://huggingface.co";
/// A hub that cannot be reached must not keep anyone waiting: the next source is tried.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// From the request to the answer's head: name lookup and redirects included.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Without a byte of the body.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(60);
/// Lengths and ranges are those of the file, not of what it was squeezed into on the way.
const AS_IT_IS: &str = "identity";

/// Fetches files of the hub.
#[derive(Clone, Debug)]
pub struct HubClient {
    /// Scheme and host, no slash at the end.
    pub endpoint: String,
}

impl Default for HubClient {
    fn default() -> Self {
        HubClient { endpoint: HUB_DEFAULT.to_owned() }
    }
}

impl HubClient {
    /// What the hub says of a file; `None` where the repository has no such file.
    pub(crate) fn describe(
        &self,
        repo: &str,
        revision: &str,
        file: &str,
    ) -> Result<Option<Remote>, SourceError> {
        let url = self.url(repo, revision, file);
        on_a_thread(&url, describe(&url))
    }

    /// Appends the file to `assembly` from where that ends, at most `bytes_max` in all. `progress` is told bytes so far
    /// and, where the hub says it, bytes of the whole.
    pub(crate) fn fetch(
        &self,
        (repo, revision, file): (&str, &str, &str),
        bytes_max: u64,
        assembly: &mut Assembly,
        progress: &mut (dyn FnMut(u64, Option<u64>) + Send),
    ) -> Result<(), SourceError> {
        let url = self.url(repo, revision, file);
        on_a_thread(&url, download(&url, bytes_max, assembly, progress))
    }

    fn url(&self, repo: &str, revision: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{revision}/{file}", self.endpoint)
    }
}

/// A file as the hub describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Its length, where the hub says it.
    pub bytes: Option<u64>,
    /// Its sum, lower-case hex, where the hub keeps it by its sum.
    pub sha256: Option<String>,
    /// The commit that the revision stands for.
    pub commit: Option<String>,
}

/// Runs a request on a thread and a runtime of its own.
fn on_a_thread<T: Send>(
    url: &str,
    work: impl Future<Output = Result<T, SourceError>> + Send,
) -> Result<T, SourceError> {
    let hub = |message: String| SourceError::Hub { url: url.to_owned(), message };
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| hub(error.to_string()))?;
        let result = runtime.block_on(work);
        // A name lookup cannot be cancelled; do not wait for one that hangs.
        runtime.shutdown_background();
        result
    };
    thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| Err(hub("the download thread panicked".to_owned())))
}

async fn describe(url: &str) -> Result<Option<Remote>, SourceError> {
    let hub = |message: String| SourceError::Hub { url: url.to_owned(), message };
    let failed = |error: reqwest::Error| hub(reason(&error));
    // Not followed: the answer that redirects is the one that knows the file.
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIME_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(failed)?;
    let request = client.head(url).header(ACCEPT_ENCODING, AS_IT_IS);
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, request.send()).await;
    let answer = answer.map_err(|_| hub(format!("no answer within {} s", ANSWER_TIME_MAX.as_secs())))?;
    let answer = answer.map_err(failed)?;
    let status = answer.status();
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !status.is_success() && !status.is_redirection() {
        return Err(hub(format!("the hub answered {status}")));
    }
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| header(name).and_then(|text| text.parse().ok());
    // The length of a redirecting answer is its own.
    let own_length = || if status.is_success() { number("content-length") } else { None };
    let sum =
        header("x-linked-etag").map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_lowercase());
    let is_hex =
        |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(Some(Remote {
        bytes: number("x-linked-size").or_else(own_length),
        sha256: sum.filter(|sum| is_hex(sum, 64)),
        commit: header("x-repo-commit").filter(|commit| is_hex(commit, 40)).map(str::to_owned),
    }))
}

async fn download(
    url: &str,
    bytes_max: u64,
    assembly: &mut Assembly,
    progress: &mut (dyn FnMut(u64, Option<u64>) + Send),
) -> Result<(), SourceError> {
    let hub = |message: String| SourceError::Hub { url: url.to_owned(), message };
    let failed = |error: reqwest::Error| hub(reason(&error));
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIME_MAX)
        .read_timeout(SILENCE_TIME_MAX)
        .build()
        .map_err(failed)?;
    let start = assembly.length();
    let mut request = client.get(url).header(ACCEPT_ENCODING, AS_IT_IS);
    if start > 0 {
        request = request.header(RANGE, format!("bytes={start}-"));
    }
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, request.send()).await;
    let answer = answer.map_err(|_| hub(format!("no answer within {} s", ANSWER_TIME_MAX.as_secs())))?;
    let mut answer = answer.map_err(failed)?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => assembly.truncate(start)?,
        StatusCode::OK => assembly.truncate(0)?,
        // Everything was already here; whether it is right is for the sum to say.
        StatusCode::RANGE_NOT_SATISFIABLE if start > 0 => return assembly.truncate(start),
        status => return Err(hub(format!("the hub answered {status}"))),
    }
    let total = answer.content_length().map(|rest| assembly.length() + rest);
    let too_long = |found: u64| SourceError::Size { what: url.to_owned(), found, expected: bytes_max };
    if let Some(found) = total.filter(|&total| total > bytes_max) {
        return Err(too_long(found));
    }
    while let Some(bytes) = answer.chunk().await.map_err(failed)? {
        if assembly.length() + bytes.len() as u64 > bytes_max {
            return Err(too_long(assembly.length() + bytes.len() as u64));
        }
        assembly.write(&bytes)?;
        progress(assembly.length(), total);
    }
    match total {
        Some(expected) if expected != assembly.length() => {
            Err(SourceError::Size { what: url.to_owned(), found: assembly.length(), expected })
        }
        _ => Ok(()),
    }
}

/// The innermost cause: "connection refused" says more than "error sending request".
fn reason(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}
