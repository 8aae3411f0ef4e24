//! The model hub over HTTPS: `ENDPOINT/REPO/resolve/main/FILE`, with a range request to resume.
//!
//! `hf-hub` 1.0 would bring its content-addressed storage client with some 200 crates; one GET is all we need.
//! The request runs on a thread of its own with a small runtime, so that callers may be synchronous or not.

use std::thread;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RANGE;

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
    /// Appends the file to `assembly` from where that ends. `progress` is told bytes so far and, where the hub
    /// says it, bytes of the whole.
    pub(crate) fn fetch(
        &self,
        repo: &str,
        file: &str,
        assembly: &mut Assembly,
        progress: &mut (dyn FnMut(u64, Option<u64>) + Send),
    ) -> Result<(), SourceError> {
        let url = format!("{}/{repo}/resolve/main/{file}", self.endpoint);
        let hub = |message: String| SourceError::Hub { url: url.clone(), message };
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| hub(error.to_string()))?;
            let result = runtime.block_on(download(&url, assembly, progress));
            // A name lookup cannot be cancelled; do not wait for one that hangs.
            runtime.shutdown_background();
            result
        };
        thread::scope(|scope| scope.spawn(work).join())
            .unwrap_or_else(|_| Err(hub("the download thread panicked".to_owned())))
    }
}

async fn download(
    url: &str,
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
    let mut request = client.get(url);
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
    while let Some(bytes) = answer.chunk().await.map_err(failed)? {
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
