//! Whether and when to try again. Pure: the clock, the sleep and the random number are the caller's.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first. Default 2, as OpenAI's SDKs do.
    pub retries_max: u32,
    /// The pause before the first retry; doubles each time. Default 0.5 s.
    pub backoff_first: Duration,
    /// The longest pause of our own choice. Default 8 s.
    pub backoff_max: Duration,
    /// The longest pause a server may ask for; past it the error is given to the caller. Default 60 s.
    pub retry_after_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries_max: 2,
            backoff_first: Duration::from_millis(500),
            backoff_max: Duration::from_secs(8),
            retry_after_max: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// One try, no more.
    pub const fn never() -> Self {
        let zero = Duration::ZERO;
        Self { retries_max: 0, backoff_first: zero, backoff_max: zero, retry_after_max: zero }
    }

    /// The pause before the next try, or `None` to give up. `attempts` tries were made; `unit` is a random number
    /// in `0..1`, which takes up to a quarter off, so that many clients do not come back at once.
    pub fn pause(&self, attempts: u32, asked: Option<Duration>, unit: f64) -> Option<Duration> {
        if attempts > self.retries_max {
            return None;
        }
        if let Some(asked) = asked {
            return (asked <= self.retry_after_max).then_some(asked);
        }
        let doublings = attempts.saturating_sub(1).min(31);
        let full = self.backoff_first.saturating_mul(1 << doublings).min(self.backoff_max);
        Some(full.mul_f64(1.0 - 0.25 * unit.clamp(0.0, 1.0)))
    }
}

/// Whether an answer with `status` is worth another try; the server's `x-should-retry` has the last word.
pub fn is_retryable(status: u16, headers: &HeaderMap) -> bool {
    match header(headers, "x-should-retry") {
        Some("true") => true,
        Some("false") => false,
        _ => matches!(status, 408 | 409 | 429) || status >= 500,
    }
}

/// The pause a server asks for: `retry-after-ms`, else `Retry-After` in seconds or as a date.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if let Some(ms) = header(headers, "retry-after-ms").and_then(number) {
        return Some(ms / 1000);
    }
    let value = header(headers, "retry-after")?;
    number(value).or_else(|| httpdate::parse_http_date(value).ok()?.duration_since(now).ok())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A whole or broken number, not negative, as that many seconds.
fn number(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_shrink_by_a_quarter_at_most() {
        let policy = RetryPolicy { retries_max: 9, ..RetryPolicy::default() };
        let full: Vec<_> = (1..8).map(|n| policy.pause(n, None, 0.0).unwrap().as_millis()).collect();
        assert_eq!(full, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(policy.pause(1, None, 1.0), Some(Duration::from_millis(375)));
        assert_eq!(policy.pause(9, None, 0.0), Some(Duration::from_secs(8)));
        assert_eq!(policy.pause(10, None, 0.0), None);
        assert_eq!(RetryPolicy::never().pause(1, Some(Duration::ZERO), 0.0), None);
    }

    #[test]
    fn the_server_is_obeyed_within_the_bound() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause(1, Some(Duration::from_secs(3)), 0.5), Some(Duration::from_secs(3)));
        assert_eq!(policy.pause(1, Some(Duration::from_secs(61)), 0.5), None);
    }

    #[test]
    fn what_is_retryable() {
        for (status, header, expected) in [
            (200, None, false),
            (400, None, false),
            (404, None, false),
            (408, None, true),
            (409, None, true),
            (422, None, false),
            (429, None, true),
            (500, None, true),
            (503, None, true),
            (503, Some("false"), false),
            (400, Some("true"), true),
        ] {
            let headers = header.map(|v| headers(&[("x-should-retry", v)])).unwrap_or_default();
            assert_eq!(is_retryable(status, &headers), expected, "{status} {header:?}");
        }
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let read = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs), now);
        assert_eq!(read(&[]), None);
        assert_eq!(
            read(&[("retry-after-ms", "250"), ("retry-after", "9")]),
            Some(Duration::from_millis(250))
        );
        assert_eq!(read(&[("retry-after", "1.5")]), Some(Duration::from_millis(1500)));
        assert_eq!(read(&[("retry-after", "-1")]), None);
        assert_eq!(read(&[("retry-after", "soon")]), None);
        let date = httpdate::fmt_http_date(now + Duration::from_secs(30));
        assert_eq!(read(&[("retry-after", &date)]), Some(Duration::from_secs(30)));
        let past = httpdate::fmt_http_date(now - Duration::from_secs(30));
        assert_eq!(read(&[("retry-after", &past)]), None);
    }
}
