//! A small career site written for Quarry, in the binary: what the demo crawls and the tests measure.
//!
//! Its pages differ as real ones do; `truth.json` beside them says what each holds. Two pages leave in old charsets
//! named only by the header, all carry an ETag, and one old address redirects.

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

/// Path with query, body in UTF-8, charset it is sent in.
const PAGES: &[(&str, &str, &str)] = &[
    ("/", include_str!("../sample-site/index.html"), "utf-8"),
    ("/about.html", include_str!("../sample-site/about.html"), "utf-8"),
    ("/partners.html", include_str!("../sample-site/partners.html"), "utf-8"),
    ("/internal/handbook.html", include_str!("../sample-site/internal/handbook.html"), "utf-8"),
    ("/jobs/", include_str!("../sample-site/jobs/index.html"), "utf-8"),
    ("/jobs/?page=2", include_str!("../sample-site/jobs/page-2.html"), "utf-8"),
    ("/jobs/plain.html", include_str!("../sample-site/jobs/plain.html"), "utf-8"),
    ("/jobs/right.html", include_str!("../sample-site/jobs/right.html"), "utf-8"),
    ("/jobs/wrong.html", include_str!("../sample-site/jobs/wrong.html"), "utf-8"),
    ("/jobs/shell.html", include_str!("../sample-site/jobs/shell.html"), "utf-8"),
    ("/jobs/german.html", include_str!("../sample-site/jobs/german.html"), "iso-8859-1"),
    ("/jobs/ukrainian.html", include_str!("../sample-site/jobs/ukrainian.html"), "windows-1251"),
    ("/jobs/hourly.html", include_str!("../sample-site/jobs/hourly.html"), "utf-8"),
    ("/jobs/monthly.html", include_str!("../sample-site/jobs/monthly.html"), "utf-8"),
    ("/jobs/thousands.html", include_str!("../sample-site/jobs/thousands.html"), "utf-8"),
    ("/jobs/cookies.html", include_str!("../sample-site/jobs/cookies.html"), "utf-8"),
    ("/jobs/long.html", include_str!("../sample-site/jobs/long.html"), "utf-8"),
    ("/jobs/expired.html", include_str!("../sample-site/jobs/expired.html"), "utf-8"),
];

const ROBOTS: &str = include_str!("../sample-site/robots.txt");
const SITEMAP: &str = include_str!("../sample-site/sitemap.xml");

/// What each page holds, as JSON.
pub const TRUTH: &str = include_str!("../sample-site/truth.json");

/// An address that moved, and where to.
const MOVED: (&str, &str) = ("/jobs/old.html", "/jobs/plain.html");

struct Page {
    path: &'static str,
    content_type: String,
    etag: String,
    bytes: Vec<u8>,
}

/// The site, ready to be served.
pub fn router() -> Router {
    let mut pages: Vec<Page> =
        PAGES.iter().map(|&(path, text, charset)| page(path, text, "text/html", charset)).collect();
    pages.push(page("/robots.txt", ROBOTS, "text/plain", "utf-8"));
    pages.push(page("/sitemap.xml", SITEMAP, "application/xml", "utf-8"));
    Router::new().fallback(answer).with_state(Arc::new(pages))
}

/// Serves the site until the task is dropped.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    axum::serve(listener, router()).await
}

fn page(path: &'static str, text: &str, essence: &str, charset: &str) -> Page {
    let encoding = encoding_rs::Encoding::for_label(charset.as_bytes()).unwrap_or(encoding_rs::UTF_8);
    let bytes = encoding.encode(text).0.into_owned();
    let digest = Sha256::digest(&bytes);
    let etag = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Page { path, content_type: format!("{essence}; charset={charset}"), etag: format!("\"{etag}\""), bytes }
}

async fn answer(
    State(pages): State<Arc<Vec<Page>>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Response {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    if path == MOVED.0 {
        return Redirect::permanent(MOVED.1).into_response();
    }
    let Some(page) = pages.iter().find(|page| page.path == path) else {
        return (StatusCode::NOT_FOUND, "There is no such page.").into_response();
    };
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == page.etag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let headers = [(header::CONTENT_TYPE, page.content_type.clone()), (header::ETAG, page.etag.clone())];
    (headers, page.bytes.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_speaks_of_every_page_that_may_be_read() {
        let truth: Vec<serde_json::Value> = serde_json::from_str(TRUTH).unwrap();
        let mut told: Vec<&str> = truth.iter().map(|t| t["path"].as_str().unwrap()).collect();
        let mut served: Vec<&str> =
            PAGES.iter().map(|p| p.0).filter(|p| !p.starts_with("/internal")).collect();
        told.sort_unstable();
        served.sort_unstable();
        assert_eq!(told, served);
        assert!(served.len() >= 14);
    }

    #[test]
    fn charsets_lose_no_letter() {
        for &(path, text, charset) in PAGES {
            let encoding = encoding_rs::Encoding::for_label(charset.as_bytes()).unwrap();
            assert!(!encoding.encode(text).2, "{path} does not fit into {charset}");
        }
    }
}
