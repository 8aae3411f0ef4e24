//! One host's pace: how many requests at once, and how long between two.
//!
//! The delay follows what the host shows: never shorter than its own latency, doubled by 429, 503 and broken
//! connections, let down slowly by good answers, never above the bound. Retry-After and robots' crawl-delay are
//! floors. [`Pace`] is pure; [`HostPace`] adds the clock and the waiting, and a host that asked for a long wait is left
//! alone until it is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
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

    /// Goes on with the delay of an earlier time.
    pub fn resume(&mut self, delay: Duration) {
        self.delay = delay.clamp(self.min, self.max);
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

/// Several processes that a host sent away together must not come back together: a pause after a refusal is longer by
/// up to this part of itself.
const JITTER: f64 = 0.25;

/// A host's pace with its clock.
pub struct HostPace {
    slots: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    pace: Pace,
    next_at: Instant,
    /// It asked for a longer wait than a run takes: it is asked nothing until then.
    left_until: Option<DateTime<Utc>>,
}

/// The right to send one request to a host; given back by [`Turn::done`] or [`Turn::leave`].
pub struct Turn<'a> {
    host: &'a HostPace,
    _slot: Option<OwnedSemaphorePermit>,
}

impl HostPace {
    /// Nothing known yet.
    pub fn new(config: &ScrapingConfig) -> Self {
        let (min, max) =
            (Duration::from_millis(config.delay_ms_min), Duration::from_millis(config.delay_ms_max));
        let state = State { pace: Pace::new(min, max), next_at: Instant::now(), left_until: None };
        Self { slots: Arc::new(Semaphore::new(config.per_host)), state: Mutex::new(state) }
    }

    /// Goes on as an earlier process left it.
    pub fn resume(&self, delay: Option<Duration>, left_until: Option<DateTime<Utc>>) {
        let mut state = self.lock();
        if let Some(delay) = delay {
            state.pace.resume(delay);
        }
        state.left_until = left_until;
    }

    /// The delay that the host showed to need, and until when it is left alone.
    pub fn state(&self) -> (Duration, Option<DateTime<Utc>>) {
        let state = self.lock();
        (state.pace.delay, state.left_until)
    }

    /// Waits until the host may be asked.
    ///
    /// # Errors
    /// The seconds that are left of a wait that the host asked for.
    pub async fn turn(&self) -> Result<Turn<'_>, u64> {
        // The semaphore is never closed; without a permit the pace alone holds.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let wait = {
            let mut state = self.lock();
            if let Some(seconds) = state.left_seconds() {
                return Err(seconds);
            }
            let now = Instant::now();
            let at = state.next_at.max(now);
            state.next_at = after(at, state.pace.delay());
            at - now
        };
        tokio::time::sleep(wait).await;
        // Another request may have been told meanwhile.
        let left = self.lock().left_seconds();
        left.map_or(Ok(Turn { host: self, _slot: slot }), Err)
    }

    /// What robots.txt asks for.
    pub fn set_crawl_delay(&self, delay: Duration) {
        self.lock().pace.set_crawl_delay(delay);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn left_seconds(&self) -> Option<u64> {
        let left = (self.left_until? - Utc::now()).num_milliseconds();
        u64::try_from(left).ok().filter(|left| *left > 0).map(|left| left.div_ceil(1000))
    }
}

impl Turn<'_> {
    /// Reports how the host answered: `busy` with what it asked for. Returns the pause before the next request.
    pub fn done(self, latency: Duration, busy: Option<Option<Duration>>) -> Duration {
        let mut state = self.host.lock();
        let pause = match busy {
            Some(asked) => bounded(state.pace.busy(asked)).mul_f64(1.0 + JITTER * fastrand::f64()),
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
        let wait = TimeDelta::seconds(seconds.min(PAUSE_SECONDS_MAX) as i64);
        self.host.lock().left_until = Some(Utc::now() + wait);
    }
}

/// No pause is longer, whatever a host or a setting says.
pub const PAUSE_SECONDS_MAX: u64 = 24 * 3600;

/// `pause` after `at`, the pause bounded so that the clock cannot overflow.
fn after(at: Instant, pause: Duration) -> Instant {
    at.checked_add(bounded(pause)).unwrap_or(at)
}

fn bounded(pause: Duration) -> Duration {
    pause.min(Duration::from_secs(PAUSE_SECONDS_MAX))
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

    #[tokio::test]
    async fn a_host_is_left_alone_for_as_long_as_it_asked_and_no_longer() {
        let config = ScrapingConfig { delay_ms_min: 0, ..ScrapingConfig::default() };
        let host = HostPace::new(&config);
        host.turn().await.ok().unwrap().leave(u64::MAX);
        assert!(host.turn().await.err().is_some_and(|left| left <= PAUSE_SECONDS_MAX && left > 3600));
        let (delay, until) = host.state();
        let later = HostPace::new(&config);
        later.resume(Some(delay), until);
        assert!(later.turn().await.is_err(), "an agent after it keeps to it");
        later.resume(None, Some(Utc::now() - TimeDelta::seconds(1)));
        assert!(later.turn().await.is_ok());
    }
}
