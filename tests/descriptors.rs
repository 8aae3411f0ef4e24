//! The server has room for the connections that it may hold, or says so.

mod support;

use std::path::Path;

use quarry_tiny::{TensorType, TinyModel};
use support::Server;

/// Soft and hard limit of open files of a process, as Linux shows them.
fn open_files(process: u32) -> (u64, u64) {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap_or(u64::MAX));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn with_limits(model: &Path, ulimit: &str, connections: &str) -> (Server, (u64, u64), bool) {
    let server = Server::limited(model, ulimit, &[("SERVER__CONNECTIONS_MAX", connections)]);
    let is_told = server.log_lines().iter().any(|line| line["level"] == "WARN" && line["needed"].is_u64());
    let limits = open_files(server.id());
    (server, limits, is_told)
}

#[test]
fn the_limit_of_open_files_follows_the_bound_of_connections() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("tiny.gguf");
    TinyModel::qwen3().write(&model, TensorType::Q8_0).unwrap();

    let (_server, (soft, hard), is_told) = with_limits(&model, "ulimit -Sn 200 && ulimit -Hn 900", "400");
    assert!((400..900).contains(&soft) && hard == 900 && !is_told, "{soft} {hard} {is_told}");

    let (_server, limits, is_told) = with_limits(&model, "ulimit -Sn 200 && ulimit -Hn 900", "2000");
    assert_eq!((limits, is_told), ((900, 900), true), "as many as may be, and a word about it");

    let (_server, limits, is_told) = with_limits(&model, "ulimit -Sn 800 && ulimit -Hn 900", "10");
    assert_eq!((limits, is_told), ((800, 900), false), "never lowered");
}
