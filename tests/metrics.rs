//! `/metrics` of a running `quarry serve`, read by Prometheus' own parser: `tests/api/metrics_test.py`.

mod support;

use std::process::Command;

use support::python::{api, python, run};
use support::{MODEL, Server, model};

#[test]
fn prometheus_reads_the_metrics_and_boards_find_them() {
    let python = python();
    let server = Server::ready(&model(), &[("SERVER__METRICS_LLAMACPP_NAMES", "true")]);
    run(Command::new(python).arg(api("metrics_test.py")).args([&server.base_url(), MODEL]));
}

#[test]
fn llama_servers_names_are_left_out_by_default() {
    let server = Server::ready(&model(), &[]);
    server.still_answers();
    let text = server.get("/metrics").body;
    assert!(text.contains("vllm:") && !text.contains("llamacpp:"), "{text}");
}
