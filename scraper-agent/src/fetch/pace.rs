//! One host's pace: how many requests at once, and how long between two.
//!
//! The delay follows what the host shows: never shorter than its own latency, doubled by 429, 503 and broken
//! connections, let down slowly by good answers, never above the bound. Retry-After and robots' crawl-delay are
//! floors. [`Pace`] is pure; [`Paces`] adds the clock and the waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::config::ScrapingConfig;

/// How one host is treated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    min: Duration,
    max: Duration,
    crawl_delay: Duration,
    delay: Duration,
}

impl Pace {
    /// Starts at `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, crawl_delay: Duration::ZERO, delay: min }
    }

    /// Between two requests now.
    pub fn delay(&self) -> Duration {
        self.delay.max(self.crawl_delay).clamp(self.min, self.max)
    }

    /// What robots.txt asks for.
    pub fn set_crawl_delay(&mut self, delay: Duration) {
        self.crawl_delay = delay.min(self.max);
    }

    /// A good answer: half way towards the latency seen.
    pub fn good(&mut self, latency: Duration) {
        self.delay = ((self.delay + latency.max(self.min)) / 2).clamp(self.min, self.max);
    }

    /// The host is busy: twice as long, or what it asks for.
    pub fn busy(&mut self, asked: Option<Duration>) -> Duration {
        self.delay = (self.delay.max(self.min.max(FLOOR)) * 2).min(self.max);
        asked.unwrap_or(Duration::ZERO).max(self.delay())
    }
}

/// Doubling starts here, also where the least delay is zero.
const FLOOR: Duration = Duration::from_millis(10);

/// All hosts of a run. Bounded by the run's page budget, for only fetched hosts are here.
pub struct Paces {
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    per_host: usize,
    min: Duration,
    max: Duration,
}

struct Host {
    slots: Arc<Semaphore>,
    state: Mutex<HostState>,
}

struct HostState {
    pace: Pace,
    next_at: Instant,
    /// It asked for a longer wait than a run takes: seconds. It is asked nothing more in this run.
    left: Option<u64>,
}

/// The right to send one request to a host; returned by [`Turn::done`].
pub struct Turn {
    host: Arc<Host>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Paces {
    /// For a run.
    pub fn new(config: &ScrapingConfig) -> Self {
        Self {
            hosts: Mutex::default(),
            per_host: config.per_host,
            min: Duration::from_millis(config.delay_ms_min),
            max: Duration::from_millis(config.delay_ms_max),
        }
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = host_key(url);
        let host = hosts.entry(key).or_insert_with(|| {
            let state =
                HostState { pace: Pace::new(self.min, self.max), next_at: Instant::now(), left: None };
            Arc::new(Host { slots: Arc::new(Semaphore::new(self.per_host)), state: Mutex::new(state) })
        });
        Arc::clone(host)
    }

    /// Waits until the host may be asked.
    ///
    /// # Errors
    /// The seconds that the host asked for, where this run does not wait that long.
    pub async fn turn(&self, url: &Url) -> Result<Turn, u64> {
        let host = self.host(url);
        // The semaphore is never closed; without a permit the pace alone holds.
        let slot = Arc::clone(&host.slots).acquire_owned().await.ok();
        let wait = {
            let mut state = host.lock();
            if let Some(seconds) = state.left {
                return Err(seconds);
            }
            let now = Instant::now();
            let at = state.next_at.max(now);
            state.next_at = after(at, state.pace.delay());
            at - now
        };
        tokio::time::sleep(wait).await;
        // Another request may have been told meanwhile.
        let left = host.lock().left;
        left.map_or(Ok(Turn { host, _slot: slot }), Err)
    }

    /// What robots.txt asks for.
    pub fn set_crawl_delay(&self, url: &Url, delay: Duration) {
        self.host(url).lock().pace.set_crawl_delay(delay);
    }
}

impl Host {
    fn lock(&self) -> std::sync::MutexGuard<'_, HostState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Reports how the host answered: `busy` with what it asked for. Returns the pause before the next request.
    pub fn done(self, latency: Duration, busy: Option<Option<Duration>>) -> Duration {
        let mut state = self.host.lock();
        let pause = match busy {
            Some(asked) => state.pace.busy(asked),
            None => {
                state.pace.good(latency);
                state.pace.delay()
            }
        };
        state.next_at = state.next_at.max(after(Instant::now(), pause));
        pause
    }

    /// The host asked for a longer wait than a run takes.
    pub fn leave(self, seconds: u64) {
        self.host.lock().left = Some(seconds);
    }
}

/// No pause is longer, whatever a host or a setting says.
pub const PAUSE_SECONDS_MAX: u64 = 24 * 3600;

/// `pause` after `at`, the pause bounded so that the clock cannot overflow.
fn after(at: Instant, pause: Duration) -> Instant {
    at.checked_add(pause.min(Duration::from_secs(PAUSE_SECONDS_MAX))).unwrap_or(at)
}

/// Scheme, name and port: what one robots.txt and one pace are for.
pub fn host_key(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn the_delay_stays_within_bounds_whatever_happens() {
        let mut pace = Pace::new(MIN, MAX);
        let mut seed = 7_u64;
        for _ in 0..1000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match seed >> 62 {
                0 => drop(pace.busy(None)),
                1 => drop(pace.busy(Some(Duration::from_millis(seed >> 52)))),
                2 => pace.good(Duration::from_millis(seed >> 50)),
                _ => pace.set_crawl_delay(Duration::from_millis(seed >> 51)),
            }
            assert!((MIN..=MAX).contains(&pace.delay()), "{pace:?}");
        }
    }

    #[test]
    fn busy_hosts_get_longer_pauses_and_good_ones_recover() {
        let mut pace = Pace::new(MIN, MAX);
        let first = pace.busy(None);
        let second = pace.busy(None);
        assert!(second > first && first > MIN);
        assert_eq!(pace.busy(Some(Duration::from_secs(60))), Duration::from_secs(60));
        for _ in 0..20 {
            pace.good(Duration::from_millis(1));
        }
        assert!(pace.delay() < first);
        pace.set_crawl_delay(Duration::from_secs(5));
        assert_eq!(pace.delay(), Duration::from_secs(5));
    }
}
