//! Which network addresses may be fetched.
//!
//! A page's link or redirect must not make the agent read the network it runs in, so the check is on the resolved
//! address, at the moment of connecting: a name that resolves differently the second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::fetch::FetchError;

/// A resolved address that the policy refuses.
#[derive(Debug, thiserror::Error)]
#[error("{host} is a private address ({address})")]
pub struct Refused {
    /// The name.
    pub host: String,
    /// What it resolves to.
    pub address: IpAddr,
}

/// The system's resolver behind the policy.
#[derive(Debug)]
pub struct PolicyResolver {
    /// Whether private addresses pass.
    pub allow_private: bool,
}

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            // One private address among public ones is as bad as all: the connector picks.
            if !allow_private
                && let Some(address) = found.iter().map(SocketAddr::ip).find(|ip| !is_public(*ip))
            {
                return Err(Box::new(Refused { host, address }) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Addresses written as numbers never reach the resolver, so they are checked here.
pub fn check_literal(url: &Url, allow_private: bool) -> Result<(), FetchError> {
    let address = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    if allow_private || is_public(address) {
        return Ok(());
    }
    Err(FetchError::PrivateAddress {
        host: url.host_str().unwrap_or_default().to_owned(),
        address: address.to_string(),
    })
}

/// Whether an address is on the public internet (IANA special-purpose registries).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(a == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || shared
        || protocol
        || benchmark
        // Multicast, reserved and broadcast.
        || a >= 224)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    // 64:ff9b::/96 and 2002::/16 carry an IPv4 address.
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return embedded(s[6], s[7]);
    }
    if s[0] == 0x2002 {
        return embedded(s[1], s[2]);
    }
    // Only 2000::/3 is handed out, less documentation (2001:db8::/32, 3fff::/20) and Teredo (2001::/32).
    (s[0] & 0xe000) == 0x2000
        && !(s[0] == 0x2001 && (s[1] == 0xdb8 || s[1] == 0))
        && !(s[0] == 0x3fff && s[1] < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ];
        for text in private {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in
            ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "100.128.0.1", "172.32.0.1"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_number_in_disguise_is_refused() {
        // The URL parser normalises these, as a browser does.
        for text in ["http://2130706433/", "http://0x7f.1/", "http://[::ffff:10.0.0.1]/", "http://127.1/"] {
            let url = Url::parse(text).unwrap();
            assert!(matches!(check_literal(&url, false), Err(FetchError::PrivateAddress { .. })), "{text}");
            assert!(check_literal(&url, true).is_ok());
        }
    }
}
