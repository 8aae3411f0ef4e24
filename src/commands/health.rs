//! `quarry health`: asks the configured server whether it takes requests, and says so by its exit status.
//!
//! For probes where there is no curl, as in a container image: a plain socket and HTTP/1.0, so that a question every few
//! seconds starts neither a runtime nor a client.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::HealthArgs;
use crate::config::ServerConfig;

/// What the server has for the whole answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Success where the server answers with 200; otherwise an error that says what came instead.
pub fn run(args: &HealthArgs, server: &ServerConfig) -> anyhow::Result<ExitCode> {
    let host = reachable(args.host.unwrap_or(server.host));
    let address = SocketAddr::new(host, args.port.unwrap_or(server.port));
    let path = if args.live { "/health" } else { "/ready" };
    let url = format!("http://{address}{path}");
    let answer = ask(address, path, PATIENCE)
        .with_context(|| format!("{url} does not answer; is `quarry serve` running there?"))?;
    let Some(status) = status_of(&answer) else {
        bail!("{url} does not speak HTTP; is another program at this port?");
    };
    if status != 200 {
        bail!("{url} answers {status}{}", reason(&answer));
    }
    println!("ok");
    Ok(ExitCode::SUCCESS)
}

/// Where a server is asked that listens on `listening`: all interfaces are no address to connect to.
fn reachable(listening: IpAddr) -> IpAddr {
    match listening {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// The first bytes of the answer to a GET.
fn ask(address: SocketAddr, path: &str, patience: Duration) -> std::io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(std::io::Error::from(ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    while filled < answer.len() {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut answer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    answer.truncate(filled);
    Ok(answer)
}

/// `200` of `HTTP/1.1 200 OK`.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|&byte| byte == b'\r').next()?).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

/// The message of an error body, with a colon before it; empty where there is none.
fn reason(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    body.pointer("/error/message")
        .and_then(Value::as_str)
        .map(|message| format!(": {message}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_is_read() {
        let answer = b"HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\n{\"error\":{\"message\":\"loading\"}}";
        assert_eq!((status_of(answer), reason(answer)), (Some(503), ": loading".to_owned()));
        assert_eq!(
            (status_of(b"HTTP/1.1 200 OK\r\n\r\n"), reason(b"HTTP/1.1 200 OK\r\n\r\n")),
            (Some(200), String::new())
        );
        for other in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1\r\n", b"\xff\xfe\r\n"] {
            assert_eq!(status_of(other), None, "{other:?}");
        }
    }

    #[test]
    fn all_interfaces_are_asked_at_loopback() {
        for (listening, asked) in [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")] {
            assert_eq!(reachable(listening.parse().unwrap()), asked.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn a_server_that_accepts_and_says_nothing_is_given_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let asked = ask(listener.local_addr().unwrap(), "/ready", Duration::from_millis(50));
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
