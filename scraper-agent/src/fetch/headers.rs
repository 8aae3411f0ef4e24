//! What an answer's headers, and a robots.txt's numbers, mean.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, HeaderName};

use crate::fetch::pace;

/// Seconds as robots.txt says them; what is no length of time asks for none.
pub fn crawl_delay(seconds: f32) -> Duration {
    // The pace bounds it by scraping.delay_ms_max.
    Duration::try_from_secs_f32(seconds.min(pace::PAUSE_SECONDS_MAX as f32)).unwrap_or(Duration::ZERO)
}

/// A header as text.
pub fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// HTML, XHTML and plain text; a body without a type is looked at.
pub fn is_page(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty()
        || essence.starts_with("text/")
        || essence == "application/xhtml+xml"
        || essence == "application/xml"
}

/// Seconds, or an HTTP date (RFC 9110, 10.2.3).
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // A number that no integer holds is a long wait, not none.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_reads_seconds_and_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480 - 90);
        assert_eq!(parse_retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(90)));
        // The two forms of old servers.
        for old in ["Wednesday, 21-Oct-15 07:28:00 GMT", "Wed Oct 21 07:28:00 2015"] {
            assert_eq!(parse_retry_after(old, now), Some(Duration::from_secs(90)), "{old}");
        }
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:00:00 GMT", now), Some(Duration::ZERO));
        for huge in ["18446744073709551615", "99999999999999999999999999"] {
            assert_eq!(parse_retry_after(huge, now), Some(Duration::from_secs(u64::MAX)), "{huge}");
        }
        for (asked, meant) in [(3.0, 3), (-1.0, 0), (f32::NEG_INFINITY, 0), (1e30, pace::PAUSE_SECONDS_MAX)] {
            assert_eq!(crawl_delay(asked), Duration::from_secs(meant), "{asked}");
        }
        // Not a number: no panic, and within the bound.
        assert!(crawl_delay(f32::NAN) <= Duration::from_secs(pace::PAUSE_SECONDS_MAX));
    }

    #[test]
    fn pages_are_told_from_other_files() {
        for yes in ["text/html; charset=utf-8", "TEXT/HTML", "application/xhtml+xml", "text/plain", ""] {
            assert!(is_page(yes), "{yes}");
        }
        for no in ["application/pdf", "image/png", "application/octet-stream"] {
            assert!(!is_page(no), "{no}");
        }
    }
}
