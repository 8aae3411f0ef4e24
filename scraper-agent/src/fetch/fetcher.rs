//! Fetching over http(s): robots.txt, redirects, retries, and one request with its limits.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::Utc;
use futures::StreamExt as _;
use reqwest::Response;
use reqwest::header;
use url::Url;

use crate::config::ScrapingConfig;
use crate::error::AgentError;
use crate::fetch::cache::{CachedPage, PageCache};
use crate::fetch::headers::{crawl_delay, header_text, is_page, parse_retry_after};
use crate::fetch::hosts::{Host, Hosts};
use crate::fetch::rebuildable::blocking;
use crate::fetch::robots::{self, RobotsAnswer};
use crate::fetch::{FetchError, FetchedPage, address, is_transient_status};

/// Fetches pages; one for all runs of an agent.
pub struct Fetcher {
    http: reqwest::Client,
    config: ScrapingConfig,
    hosts: Arc<Hosts>,
    cache: Option<Arc<PageCache>>,
}

/// A page as one answer brought it.
struct Body {
    content_type: Option<String>,
    bytes: Vec<u8>,
    etag: Option<String>,
    modified: Option<String>,
}

/// What one request brought.
enum Answer {
    Page(Body),
    NotModified,
    Redirect(String),
    Busy { status: u16, retry_after: Option<Duration> },
}

impl Fetcher {
    /// Sets up connections; connects to nothing yet.
    ///
    /// # Errors
    /// Connections that cannot be set up.
    pub fn new(
        config: &ScrapingConfig,
        hosts: Arc<Hosts>,
        cache: Option<Arc<PageCache>>,
    ) -> Result<Self, AgentError> {
        let http = reqwest::Client::builder()
            .user_agent(config.user_agent())
            .connect_timeout(Duration::from_secs(config.connect_seconds_max))
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(address::PolicyResolver { allow_private: config.allow_private }))
            .cookie_provider(hosts.cookies())
            .no_proxy()
            .build()
            .map_err(|e| AgentError::Http(e.to_string()))?;
        Ok(Self { config: config.clone(), hosts, http, cache })
    }

    /// Gets a page, following redirects.
    ///
    /// # Errors
    /// Each says what a user could do about it.
    pub async fn fetch(&self, start: &Url) -> Result<FetchedPage, FetchError> {
        let mut url = start.clone();
        url.set_fragment(None);
        let mut visited = vec![url.clone()];
        loop {
            address::check_literal(&url, self.config.allow_private)?;
            let host = self.hosts.host(&url).await;
            self.check_robots(&host, &url).await?;
            let cached = self.cached(&url).await;
            let redirects = visited.len() - 1;
            match self.request_with_retries(&host, &url, cached.as_ref()).await? {
                Answer::Redirect(location) => {
                    url = self.next_hop(&url, location, &visited)?;
                    visited.push(url.clone());
                }
                Answer::Page(body) => return Ok(self.keep(url, body, redirects).await),
                Answer::NotModified => {
                    // A host that answers 304 to a request without a condition has no page for us.
                    let Some(page) = cached else { return Err(FetchError::Status { url, status: 304 }) };
                    let CachedPage { content_type, bytes, fetched_at, .. } = page;
                    return Ok(FetchedPage {
                        url,
                        content_type,
                        bytes,
                        fetched_at,
                        from_cache: true,
                        redirects,
                    });
                }
                Answer::Busy { status, .. } => return Err(FetchError::Status { url, status }),
            }
        }
    }

    fn next_hop(&self, from: &Url, location: String, visited: &[Url]) -> Result<Url, FetchError> {
        let next = from.join(&location).ok().filter(|next| matches!(next.scheme(), "http" | "https"));
        let mut next = next.ok_or_else(|| FetchError::BadRedirect { url: from.clone(), location })?;
        next.set_fragment(None);
        if visited.contains(&next) {
            return Err(FetchError::RedirectLoop { url: next });
        }
        let max = self.config.redirects_max;
        if visited.len() > max {
            return Err(FetchError::TooManyRedirects { url: visited[0].clone(), max });
        }
        Ok(next)
    }

    async fn cached(&self, url: &Url) -> Option<CachedPage> {
        let (cache, url) = (Arc::clone(self.cache.as_ref()?), url.clone());
        blocking(move || cache.get(&url)).await.flatten()
    }

    /// Into the cache, where the host says how to ask for it again.
    async fn keep(&self, url: Url, body: Body, redirects: usize) -> FetchedPage {
        let Body { content_type, bytes, etag, modified } = body;
        let fetched_at = Utc::now();
        if let Some(cache) = &self.cache
            && (etag.is_some() || modified.is_some())
        {
            let (cache, key) = (Arc::clone(cache), url.clone());
            let page = CachedPage {
                etag,
                modified,
                content_type: content_type.clone(),
                fetched_at,
                bytes: bytes.clone(),
            };
            if let Some(Err(error)) = blocking(move || cache.put(&key, &page)).await {
                tracing::warn!(%url, %error, "page not cached");
            }
        }
        FetchedPage { url, content_type, bytes, fetched_at, from_cache: false, redirects }
    }

    async fn check_robots(&self, host: &Arc<Host>, url: &Url) -> Result<(), FetchError> {
        if !self.config.obey_robots {
            return Ok(());
        }
        let answer = self.hosts.robots(host, url, |robots_url| self.fetch_robots(robots_url)).await;
        match &*answer {
            RobotsAnswer::Rules(rules) => {
                if let Some(delay) = rules.delay() {
                    host.pace.set_crawl_delay(crawl_delay(delay));
                }
                if rules.allowed(url) { Ok(()) } else { Err(FetchError::Robots { url: url.clone() }) }
            }
            RobotsAnswer::AllowAll => Ok(()),
            RobotsAnswer::Unknown(why) => Err(FetchError::RobotsUnknown {
                host: url.host_str().unwrap_or_default().to_owned(),
                why: why.clone(),
            }),
        }
    }

    /// RFC 9309, 2.3: redirects followed up to five times, 4xx allows all, anything else is unknown.
    async fn fetch_robots(&self, mut url: Url) -> Result<Option<Vec<u8>>, String> {
        for _ in 0..=robots::REDIRECTS_MAX {
            address::check_literal(&url, self.config.allow_private).map_err(|e| e.to_string())?;
            let host = self.hosts.host(&url).await;
            match self.request_with_retries(&host, &url, None).await {
                Ok(Answer::Page(body)) => return Ok(Some(body.bytes)),
                Ok(Answer::Redirect(location)) => {
                    url = url.join(&location).map_err(|e| format!("redirect to {location:?}: {e}"))?;
                    if !matches!(url.scheme(), "http" | "https") {
                        return Err(format!("redirect to {url}"));
                    }
                }
                Err(FetchError::Status { status, .. })
                    if (400..=499).contains(&status) && !is_transient_status(status) =>
                {
                    return Ok(None);
                }
                Ok(Answer::NotModified) => return Err("answered 304".to_owned()),
                Ok(Answer::Busy { status, .. }) => return Err(format!("answered {status}")),
                Err(error) => return Err(error.to_string()),
            }
        }
        // The RFC lets a crawler treat too many redirects as "unavailable", which allows all.
        Ok(None)
    }

    async fn request_with_retries(
        &self,
        host: &Arc<Host>,
        url: &Url,
        cached: Option<&CachedPage>,
    ) -> Result<Answer, FetchError> {
        let asks_to_wait = |seconds| FetchError::AsksToWait { url: url.clone(), seconds };
        let mut tries = 0;
        loop {
            let turn = host.pace.turn().await.map_err(asks_to_wait)?;
            let started = Instant::now();
            let limit = Duration::from_secs(self.config.fetch_seconds_max);
            let result = match tokio::time::timeout(limit, self.request(url, cached)).await {
                Ok(result) => result,
                Err(_) => Err(FetchError::Timeout { url: url.clone(), seconds: limit.as_secs() }),
            };
            let busy = match &result {
                Ok(Answer::Busy { retry_after, .. }) => Some(*retry_after),
                Err(error) if error.is_transient() => Some(None),
                _ => None,
            };
            if let Some(Some(asked)) = busy
                && asked.as_secs() > self.config.retry_after_seconds_max
            {
                turn.leave(asked.as_secs());
                self.hosts.save_one(host).await;
                return Err(asks_to_wait(asked.as_secs()));
            }
            let pause = turn.done(started.elapsed(), busy);
            if busy.is_none() || tries >= self.config.retries_max {
                return result;
            }
            tries += 1;
            tracing::debug!(%url, tries, pause_ms = pause.as_millis() as u64, "host busy, trying again");
        }
    }

    async fn request(&self, url: &Url, cached: Option<&CachedPage>) -> Result<Answer, FetchError> {
        let mut request = self
            .http
            .get(url.clone())
            .header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.5")
            .header(header::ACCEPT_LANGUAGE, "en,*;q=0.5");
        if let Some(etag) = cached.and_then(|c| c.etag.as_deref()) {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(modified) = cached.and_then(|c| c.modified.as_deref()) {
            request = request.header(header::IF_MODIFIED_SINCE, modified);
        }
        let response = request.send().await.map_err(|e| connection_error(url, &e))?;
        let text = |name| header_text(response.headers(), name);
        match response.status().as_u16() {
            304 => Ok(Answer::NotModified),
            301 | 302 | 303 | 307 | 308 => match text(header::LOCATION) {
                Some(location) => Ok(Answer::Redirect(location)),
                None => Err(FetchError::BadRedirect { url: url.clone(), location: String::new() }),
            },
            status @ (429 | 503) => {
                let retry_after = text(header::RETRY_AFTER);
                let retry_after = retry_after.and_then(|v| parse_retry_after(&v, SystemTime::now()));
                Ok(Answer::Busy { status, retry_after })
            }
            200..=299 => self.read(url, response).await.map(Answer::Page),
            status => Err(FetchError::Status { url: url.clone(), status }),
        }
    }

    /// The body, piece by piece against the bound.
    async fn read(&self, url: &Url, response: Response) -> Result<Body, FetchError> {
        let text = |name| header_text(response.headers(), name);
        let content_type = text(header::CONTENT_TYPE);
        if let Some(content_type) = content_type.as_ref().filter(|t| !is_page(t)) {
            return Err(FetchError::NotAPage { url: url.clone(), content_type: content_type.clone() });
        }
        let (etag, modified) = (text(header::ETAG), text(header::LAST_MODIFIED));
        let max = self.config.body_bytes_max;
        let too_large = || FetchError::TooLarge { url: url.clone(), max };
        if response.content_length().is_some_and(|length| length > max as u64) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|e| connection_error(url, &e))?;
            if bytes.len() + piece.len() > max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Body { content_type, bytes, etag, modified })
    }
}

/// The address policy's refusal hides inside the connector's error; it is brought back as itself.
fn connection_error(url: &Url, error: &reqwest::Error) -> FetchError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref::<address::Refused>() {
            return FetchError::PrivateAddress {
                host: refused.host.clone(),
                address: refused.address.to_string(),
            };
        }
        why = inner.to_string();
        source = inner.source();
    }
    FetchError::Connection { url: url.clone(), why }
}
