//! robots.txt by RFC 9309: once per host and day, 4xx allows all, unreachable or 5xx allows nothing until known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use texting_robots::Robot;
use tokio::sync::OnceCell;
use url::Url;

use crate::fetch::pace::host_key;

/// Redirects followed for a robots.txt (RFC 9309, 2.3.1.2).
pub const REDIRECTS_MAX: usize = 5;
/// Bytes of a robots.txt that are read (RFC 9309, 2.5).
const BYTES_MAX: usize = 500 << 10;
/// An answer older than this is asked for again (RFC 9309, 2.4).
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// "Unknown" is asked again sooner.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// What a host says.
pub enum RobotsAnswer {
    /// By its rules.
    Rules(Box<Robot>),
    /// There is none.
    AllowAll,
    /// It could not be read, and why.
    Unknown(String),
}

type Entry = (Instant, Arc<OnceCell<Arc<RobotsAnswer>>>);

/// The answers of a run's hosts.
pub struct RobotsCache {
    agent: String,
    hosts: Mutex<HashMap<String, Entry>>,
}

impl RobotsCache {
    /// For this user agent.
    pub fn new(agent: String) -> Self {
        Self { agent, hosts: Mutex::default() }
    }

    /// The host's answer; `fetch` brings the file once, however many ask at the same time. `Ok(None)` means 4xx.
    pub async fn answer<F, Fut>(&self, url: &Url, fetch: F) -> Arc<RobotsAnswer>
    where
        F: FnOnce(Url) -> Fut,
        Fut: Future<Output = Result<Option<Vec<u8>>, String>>,
    {
        let cell = self.cell(url);
        let answer = cell.get_or_init(|| async {
            let Ok(robots_url) = url.join("/robots.txt") else {
                return Arc::new(RobotsAnswer::Unknown(format!("{url} has no robots.txt address")));
            };
            Arc::new(match fetch(robots_url).await {
                Ok(Some(bytes)) => parse(&self.agent, &bytes),
                Ok(None) => RobotsAnswer::AllowAll,
                Err(why) => RobotsAnswer::Unknown(why),
            })
        });
        Arc::clone(answer.await)
    }

    fn cell(&self, url: &Url) -> Arc<OnceCell<Arc<RobotsAnswer>>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, cell) = hosts.entry(host_key(url)).or_insert_with(|| (now, Arc::default()));
        let keep = match cell.get().map(|a| &**a) {
            Some(RobotsAnswer::Unknown(_)) => UNKNOWN_FOR,
            _ => KNOWN_FOR,
        };
        if now - *since > keep {
            *since = now;
            *cell = Arc::default();
        }
        Arc::clone(cell)
    }
}

fn parse(agent: &str, bytes: &[u8]) -> RobotsAnswer {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    // Rules are matched by the product name, not by the whole header.
    let product = agent.split('/').next().unwrap_or(agent);
    match Robot::new(product, bytes) {
        Ok(robot) => RobotsAnswer::Rules(Box::new(robot)),
        Err(error) => RobotsAnswer::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_fetch_serves_all_and_each_answer_means_what_the_rfc_says() {
        let cache = RobotsCache::new("quarry-agent/1 (x)".to_owned());
        let url = Url::parse("http://a.example/jobs/1").unwrap();
        let rules =
            b"User-agent: *\nDisallow: /\n\nUser-agent: quarry-agent\nDisallow: /private\nCrawl-delay: 3\n"
                .to_vec();
        let answer = cache.answer(&url, |_| async { Ok(Some(rules)) }).await;
        let RobotsAnswer::Rules(robot) = &*answer else { panic!("no rules") };
        assert!(robot.allowed("http://a.example/jobs/1"));
        assert!(!robot.allowed("http://a.example/private/x"));
        assert_eq!(robot.delay, Some(3.0));
        let again = cache.answer(&url, |_| async { panic!("fetched twice") }).await;
        assert!(matches!(&*again, RobotsAnswer::Rules(_)));

        let missing = Url::parse("http://b.example/").unwrap();
        assert!(matches!(&*cache.answer(&missing, |_| async { Ok(None) }).await, RobotsAnswer::AllowAll));
        let down = Url::parse("http://c.example/").unwrap();
        let answer = cache.answer(&down, |_| async { Err("answered 500".to_owned()) }).await;
        assert!(matches!(&*answer, RobotsAnswer::Unknown(why) if why.contains("500")));
    }
}
