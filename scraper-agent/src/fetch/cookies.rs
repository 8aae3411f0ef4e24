//! Cookies of a session: in memory, as long as the agent lives, within bounds.
//!
//! A jar for each site, so that no site can set a cookie for another, whatever domain it names; the bounds are those
//! that RFC 6265 (6.1) asks for at least.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::cookie::{CookieStore, Jar};
use reqwest::header::HeaderValue;
use url::Url;

use crate::site::site;

/// Sites with cookies at most; the one that was used longest ago makes room.
const SITES_MAX: usize = 1000;
/// Cookies of a site at most; further ones are not taken.
const COOKIES_PER_SITE_MAX: usize = 50;
/// Bytes of a cookie with its attributes at most; a longer one is not taken.
const COOKIE_BYTES_MAX: usize = 4096;

/// All sites' cookies.
#[derive(Default)]
pub struct Cookies {
    sites: Mutex<Sites>,
}

#[derive(Default)]
struct Sites {
    jars: HashMap<String, SiteJar>,
    /// Rises with each use.
    uses: u64,
}

#[derive(Default)]
struct SiteJar {
    jar: Jar,
    /// Name, domain and path of each cookie: what tells one from another.
    names: HashSet<String>,
    last_use: u64,
}

impl Cookies {
    fn lock(&self) -> MutexGuard<'_, Sites> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CookieStore for Cookies {
    fn set_cookies(&self, headers: &mut dyn Iterator<Item = &HeaderValue>, url: &Url) {
        let mut sites = self.lock();
        let jar = sites.jar(url);
        let mut taken = Vec::new();
        for header in headers.filter(|header| header.len() <= COOKIE_BYTES_MAX) {
            let name = identity(header);
            if jar.names.contains(&name) || jar.names.len() < COOKIES_PER_SITE_MAX {
                jar.names.insert(name);
                taken.push(header);
            }
        }
        jar.jar.set_cookies(&mut taken.into_iter(), url);
    }

    fn cookies(&self, url: &Url) -> Option<HeaderValue> {
        let mut sites = self.lock();
        if !sites.jars.contains_key(&site(url)) {
            return None;
        }
        sites.jar(url).jar.cookies(url)
    }
}

impl Sites {
    fn jar(&mut self, url: &Url) -> &mut SiteJar {
        let key = site(url);
        if self.jars.len() >= SITES_MAX && !self.jars.contains_key(&key) {
            let oldest = self.jars.iter().min_by_key(|(_, jar)| jar.last_use).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.jars.remove(&oldest));
        }
        self.uses += 1;
        let jar = self.jars.entry(key).or_default();
        jar.last_use = self.uses;
        jar
    }
}

fn identity(header: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(header.as_bytes());
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().and_then(|pair| pair.split('=').next()).unwrap_or_default().to_owned();
    let places = parts.map(str::to_ascii_lowercase);
    let mut places: Vec<String> =
        places.filter(|part| part.starts_with("domain=") || part.starts_with("path=")).collect();
    places.sort_unstable();
    format!("{name};{}", places.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cookies: &Cookies, url: &str, headers: &[&str]) {
        let headers: Vec<HeaderValue> = headers.iter().map(|h| HeaderValue::from_str(h).unwrap()).collect();
        cookies.set_cookies(&mut headers.iter(), &Url::parse(url).unwrap());
    }

    fn get(cookies: &Cookies, url: &str) -> String {
        let value = cookies.cookies(&Url::parse(url).unwrap());
        value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_site_gets_its_own_cookies_back_and_nobody_elses() {
        let cookies = Cookies::default();
        set(&cookies, "https://www.a.example/", &["session=1; Domain=a.example", "wide=2; Domain=example"]);
        assert!(get(&cookies, "https://jobs.a.example/x").contains("session=1"));
        assert_eq!(get(&cookies, "https://b.example/"), "");
        set(&cookies, "https://www.a.example/", &["session=1; Domain=a.example; Max-Age=0"]);
        assert!(!get(&cookies, "https://jobs.a.example/x").contains("session"));
    }

    #[test]
    fn the_bounds_hold() {
        let cookies = Cookies::default();
        let many: Vec<String> = (0..500).map(|n| format!("c{n}=1")).collect();
        set(&cookies, "https://a.example/", &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(get(&cookies, "https://a.example/").split(';').count(), COOKIES_PER_SITE_MAX);
        set(&cookies, "https://a.example/", &["c0=new"]);
        assert!(get(&cookies, "https://a.example/").contains("c0=new"), "what is there may change");
        set(&cookies, "https://b.example/", &[&format!("long={}", "x".repeat(COOKIE_BYTES_MAX))]);
        assert_eq!(get(&cookies, "https://b.example/"), "");
        for n in 0..SITES_MAX {
            set(&cookies, &format!("https://s{n}.example/"), &["a=1"]);
        }
        assert_eq!(cookies.lock().jars.len(), SITES_MAX);
        assert_eq!(get(&cookies, "https://a.example/"), "", "used longest ago");
    }
}
