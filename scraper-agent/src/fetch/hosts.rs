//! What is known of hosts: pace, robots.txt, cookies. It belongs to the agent, so that each of its runs goes on where
//! the one before it was; pace and robots.txt are kept for the next process, too, as long as they are fresh.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use url::Url;

use crate::config::ScrapingConfig;
use crate::error::AgentError;
use crate::fetch::cookies::Cookies;
use crate::fetch::pace::{HostPace, host_key};
use crate::fetch::rebuildable::{blocking, join, split};
use crate::fetch::robots::{self, HostRobots, Learned, RobotsAnswer};

/// Hosts in memory at most; those that were used longest ago and are idle make room.
const HOSTS_MAX: usize = 4096;
/// Hosts kept for the next process at most; what is stale makes room.
const KEPT_MAX: usize = 4096;
/// A longer robots.txt is not kept.
const KEPT_ROBOTS_BYTES_MAX: usize = 64 << 10;
/// A delay that is older says nothing of the host today.
const DELAY_KNOWN_FOR: TimeDelta = TimeDelta::hours(1);

/// All hosts of an agent.
pub struct Hosts {
    config: ScrapingConfig,
    user_agent: String,
    known: Mutex<HashMap<String, Arc<Host>>>,
    cookies: Arc<Cookies>,
    kept: Option<sled::Tree>,
}

/// One host.
pub struct Host {
    key: String,
    /// How often it is asked.
    pub pace: HostPace,
    robots: HostRobots,
    /// What was kept of it has been looked for.
    is_resumed: OnceCell<()>,
    last_use: Mutex<Instant>,
}

/// As kept, before the text of robots.txt.
#[derive(Serialize, Deserialize)]
struct Kept {
    at: DateTime<Utc>,
    delay_ms: u64,
    left_until: Option<DateTime<Utc>>,
    robots: Option<KeptRobots>,
}

#[derive(Serialize, Deserialize)]
struct KeptRobots {
    at: DateTime<Utc>,
    /// There is a file; else the host says that there is none.
    is_file: bool,
}

impl Kept {
    /// Nothing of it holds any more.
    fn is_stale(&self, now: DateTime<Utc>) -> bool {
        now - self.at >= DELAY_KNOWN_FOR
            && self.left_until.is_none_or(|until| until <= now)
            && self.robots.as_ref().is_none_or(|robots| now - robots.at >= robots::KNOWN_FOR)
    }
}

impl Hosts {
    /// With what earlier processes left in `kept`, if there is such a database.
    ///
    /// # Errors
    /// The database's.
    pub fn new(config: &ScrapingConfig, kept: Option<&sled::Db>) -> Result<Self, AgentError> {
        let kept = kept.map(|db| db.open_tree("hosts")).transpose()?;
        if let Some(tree) = &kept {
            drop_stale(tree)?;
        }
        let (config, user_agent) = (config.clone(), config.user_agent());
        Ok(Self { config, user_agent, known: Mutex::default(), cookies: Arc::default(), kept })
    }

    /// This session's cookies.
    pub fn cookies(&self) -> Arc<Cookies> {
        Arc::clone(&self.cookies)
    }

    /// A run begins: what an earlier one could not get may be asked for again.
    pub fn begin_run(&self) {
        self.lock().values().for_each(|host| host.robots.forget_unknown());
    }

    /// The host of an address.
    pub async fn host(&self, url: &Url) -> Arc<Host> {
        let (host, leaving) = self.in_memory(url);
        self.keep(leaving).await;
        host.is_resumed.get_or_init(|| self.resume(&host)).await;
        host
    }

    /// What a host's robots.txt says; `fetch` brings it where it is not known.
    pub async fn robots<F, Fut>(&self, host: &Arc<Host>, url: &Url, fetch: F) -> Arc<RobotsAnswer>
    where
        F: FnOnce(Url) -> Fut,
        Fut: Future<Output = Result<Option<Vec<u8>>, String>>,
    {
        let (answer, is_news) = host.robots.answer(&self.user_agent, url, fetch).await;
        if is_news {
            self.keep(vec![Arc::clone(host)]).await;
        }
        answer
    }

    /// Keeps what is known for the next process. A failure costs no more than that.
    pub async fn save(&self) {
        let all = self.lock().values().cloned().collect();
        self.keep(all).await;
    }

    /// Keeps what is known of one host.
    pub async fn save_one(&self, host: &Arc<Host>) {
        self.keep(vec![Arc::clone(host)]).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Host>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host, and those that made room for it.
    fn in_memory(&self, url: &Url) -> (Arc<Host>, Vec<Arc<Host>>) {
        let key = host_key(url);
        let mut known = self.lock();
        if let Some(host) = known.get(&key) {
            *host.last_use.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return (Arc::clone(host), Vec::new());
        }
        let leaving = if known.len() >= HOSTS_MAX { make_room(&mut known) } else { Vec::new() };
        let host = Arc::new(Host {
            key: key.clone(),
            pace: HostPace::new(&self.config),
            robots: HostRobots::default(),
            is_resumed: OnceCell::new(),
            last_use: Mutex::new(Instant::now()),
        });
        known.insert(key, Arc::clone(&host));
        (host, leaving)
    }

    async fn resume(&self, host: &Arc<Host>) {
        let Some(tree) = self.kept.clone() else { return };
        let (host, agent) = (Arc::clone(host), self.user_agent.clone());
        let work = move || {
            let Ok(Some(value)) = tree.get(&host.key) else { return };
            let Some((kept, text)) = split::<Kept>(&value) else { return };
            let now = Utc::now();
            let delay = (now - kept.at < DELAY_KNOWN_FOR).then(|| Duration::from_millis(kept.delay_ms));
            host.pace.resume(delay, kept.left_until.filter(|until| *until > now));
            if let Some(robots) = kept.robots.filter(|robots| now - robots.at < robots::KNOWN_FOR) {
                let text = robots.is_file.then(|| text.into());
                host.robots.resume(Learned::of(&agent, text, robots.at));
            }
        };
        blocking(work).await;
    }

    async fn keep(&self, hosts: Vec<Arc<Host>>) {
        let Some(tree) = self.kept.clone() else { return };
        if hosts.is_empty() {
            return;
        }
        let kept = blocking(move || hosts.iter().try_for_each(|host| write(&tree, host))).await;
        if let Some(Err(error)) = kept {
            tracing::warn!(%error, "what is known of hosts is not kept");
        }
    }
}

/// Takes out idle hosts, those that were used longest ago first.
fn make_room(known: &mut HashMap<String, Arc<Host>>) -> Vec<Arc<Host>> {
    let used = |host: &Arc<Host>| *host.last_use.lock().unwrap_or_else(PoisonError::into_inner);
    let mut idle: Vec<(Instant, String)> = known
        .iter()
        .filter(|(_, host)| Arc::strong_count(host) == 1)
        .map(|(key, host)| (used(host), key.clone()))
        .collect();
    idle.sort_unstable();
    // A quarter at once, so that room is not made for each host.
    idle.into_iter().take(HOSTS_MAX / 4).filter_map(|(_, key)| known.remove(&key)).collect()
}

fn write(tree: &sled::Tree, host: &Host) -> Result<(), AgentError> {
    if tree.len() >= KEPT_MAX && !tree.contains_key(&host.key)? {
        drop_stale(tree)?;
        if tree.len() >= KEPT_MAX {
            return Ok(());
        }
    }
    let (delay, left_until) = host.pace.state();
    let learned =
        host.robots.learned().filter(|l| l.text.as_ref().is_none_or(|t| t.len() <= KEPT_ROBOTS_BYTES_MAX));
    let robots = learned.as_ref().map(|l| KeptRobots { at: l.at, is_file: l.text.is_some() });
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let kept = Kept { at: Utc::now(), delay_ms, left_until, robots };
    let text = learned.and_then(|learned| learned.text);
    tree.insert(&host.key, join(&kept, text.as_deref().unwrap_or_default())?)?;
    Ok(())
}

fn drop_stale(tree: &sled::Tree) -> Result<(), AgentError> {
    let now = Utc::now();
    for entry in tree.iter() {
        let (key, value) = entry?;
        if split::<Kept>(&value).is_none_or(|(kept, _)| kept.is_stale(now)) {
            tree.remove(key)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::rebuildable;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[tokio::test]
    async fn the_next_process_knows_what_is_fresh_and_forgets_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let config = ScrapingConfig::default();
        let (rude, missing, page) =
            (url("http://a.example/"), url("http://b.example/"), url("http://a.example/x"));
        {
            let db = rebuildable::open(folder.path()).unwrap();
            let hosts = Hosts::new(&config, Some(&db)).unwrap();
            let host = hosts.host(&rude).await;
            let rules = || async { Ok(Some(b"User-agent: *\nDisallow: /x\n".to_vec())) };
            hosts.robots(&host, &rude, |_| rules()).await;
            let none = hosts.host(&missing).await;
            hosts.robots(&none, &missing, |_| async { Ok(None) }).await;
            none.pace.turn().await.ok().unwrap().leave(7200);
            host.pace.turn().await.ok().unwrap().done(Duration::ZERO, Some(None));
            hosts.save().await;
            // An entry of long ago.
            let at = Utc::now() - TimeDelta::days(2);
            let old = Kept { at, delay_ms: 9, left_until: None, robots: None };
            db.open_tree("hosts").unwrap().insert("http://old.example", join(&old, b"").unwrap()).unwrap();
        }
        let db = rebuildable::open(folder.path()).unwrap();
        let hosts = Hosts::new(&config, Some(&db)).unwrap();
        assert_eq!(db.open_tree("hosts").unwrap().len(), 2, "stale entries are gone");
        let host = hosts.host(&rude).await;
        assert!(host.pace.state().0 > Duration::from_millis(config.delay_ms_min), "still slow");
        let answer = hosts.robots(&host, &rude, |_| async { panic!("fetched though it is fresh") }).await;
        assert!(matches!(&*answer, RobotsAnswer::Rules(rules) if !rules.allowed(&page)));
        let none = hosts.host(&missing).await;
        assert!(none.pace.turn().await.is_err(), "it asked for two hours");
        let answer = hosts.robots(&none, &missing, |_| async { panic!("fetched though it is fresh") }).await;
        assert!(matches!(&*answer, RobotsAnswer::AllowAll));
    }

    #[tokio::test]
    async fn unknown_is_not_kept_and_a_new_run_asks_again() {
        let folder = tempfile::tempdir().unwrap();
        let db = rebuildable::open(folder.path()).unwrap();
        let page = url("http://a.example/");
        let config = ScrapingConfig::default();
        for _ in 0..2 {
            let hosts = Hosts::new(&config, Some(&db)).unwrap();
            let host = hosts.host(&page).await;
            let down = |_| async { Err("down".to_owned()) };
            assert!(matches!(&*hosts.robots(&host, &page, down).await, RobotsAnswer::Unknown(_)));
            let again = hosts.robots(&host, &page, |_| async { panic!("too soon") }).await;
            assert!(matches!(&*again, RobotsAnswer::Unknown(_)));
            hosts.begin_run();
            let back = hosts.robots(&host, &page, |_| async { Ok(None) }).await;
            assert!(matches!(&*back, RobotsAnswer::AllowAll));
            db.open_tree("hosts").unwrap().clear().unwrap();
        }
    }

    #[tokio::test]
    async fn memory_is_bounded_and_what_is_in_use_stays() {
        let hosts = Hosts::new(&ScrapingConfig::default(), None).unwrap();
        let used = hosts.host(&url("http://used.example/")).await;
        for n in 0..HOSTS_MAX {
            hosts.host(&url(&format!("http://h{n}.example/"))).await;
        }
        assert!(hosts.lock().len() <= HOSTS_MAX);
        assert!(Arc::ptr_eq(&used, &hosts.host(&url("http://used.example/x")).await));
    }
}
