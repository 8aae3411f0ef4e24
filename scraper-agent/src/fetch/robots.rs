//! robots.txt by RFC 9309: once per host and day, 4xx allows all, unreachable or 5xx allows nothing for now: it is asked
//! for again a few times in a run, and its pages are left for a later one.

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
/// Fetches of one host's robots.txt in a run that end as "unknown" at most.
const UNKNOWN_TRIES_MAX: u32 = 3;

/// What a host says.
pub enum RobotsAnswer {
    /// By its rules.
    Rules(Box<Robot>),
    /// There is none.
    AllowAll,
    /// It could not be read, and why.
    Unknown(String),
}

/// An answer and when it came.
type Known = Arc<OnceCell<(Instant, Arc<RobotsAnswer>)>>;

/// What is known of one host.
#[derive(Default)]
struct Host {
    known: Known,
    /// Answers before `known` that were "unknown".
    unknown_tries: u32,
}

/// The answers of a run's hosts.
pub struct RobotsCache {
    agent: String,
    hosts: Mutex<HashMap<String, Host>>,
    unknown_for: Duration,
}

impl RobotsCache {
    /// For this user agent.
    pub fn new(agent: String) -> Self {
        Self { agent, hosts: Mutex::default(), unknown_for: UNKNOWN_FOR }
    }

    /// The host's answer; `fetch` brings the file once, however many ask at the same time. `Ok(None)` means 4xx.
    pub async fn answer<F, Fut>(&self, url: &Url, fetch: F) -> Arc<RobotsAnswer>
    where
        F: FnOnce(Url) -> Fut,
        Fut: Future<Output = Result<Option<Vec<u8>>, String>>,
    {
        let known = self.known(url);
        let answer = known.get_or_init(|| async {
            let answer = match url.join("/robots.txt") {
                Ok(robots_url) => match fetch(robots_url).await {
                    Ok(Some(bytes)) => parse(&self.agent, &bytes),
                    Ok(None) => RobotsAnswer::AllowAll,
                    Err(why) => RobotsAnswer::Unknown(why),
                },
                Err(_) => RobotsAnswer::Unknown(format!("{url} has no robots.txt address")),
            };
            (Instant::now(), Arc::new(answer))
        });
        Arc::clone(&answer.await.1)
    }

    /// The host's answer, empty where it is to be asked for (again).
    fn known(&self, url: &Url) -> Known {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(host_key(url)).or_default();
        if let Some((at, answer)) = host.known.get() {
            let is_unknown = matches!(&**answer, RobotsAnswer::Unknown(_));
            let is_stale = at.elapsed() >= if is_unknown { self.unknown_for } else { KNOWN_FOR };
            if is_stale && (!is_unknown || host.unknown_tries + 1 < UNKNOWN_TRIES_MAX) {
                host.unknown_tries += u32::from(is_unknown);
                host.known = Known::default();
            }
        }
        Arc::clone(&host.known)
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

    #[tokio::test]
    async fn unknown_is_asked_again_a_bounded_number_of_times() {
        let cache =
            RobotsCache { unknown_for: Duration::ZERO, ..RobotsCache::new("quarry-agent/1".to_owned()) };
        let ask = async |host: &str, failing: u32| {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            let mut fetched = 0;
            for _ in 0..10 {
                let now = fetched;
                let fetch = async |_| {
                    fetched += 1;
                    if now < failing { Err("answered 500".to_owned()) } else { Ok(None) }
                };
                if matches!(&*cache.answer(&url, fetch).await, RobotsAnswer::AllowAll) {
                    return (fetched, true);
                }
            }
            (fetched, false)
        };
        assert_eq!(ask("comes-back.example", 2).await, (3, true));
        assert_eq!(ask("stays-away.example", 99).await, (UNKNOWN_TRIES_MAX, false));
    }
}
