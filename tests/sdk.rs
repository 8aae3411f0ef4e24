//! The official Python SDK against `quarry serve`: the scenarios of `tests/api/sdk_test.py`.

mod support;

use std::process::Command;

use support::python::{api, python, run};
use support::{MODEL, Server, model};

#[test]
fn the_official_python_sdk_works() {
    let python = python();
    let server = Server::ready(&model(), &[]);
    run(Command::new(python).arg(api("sdk_test.py")).args([&server.base_url(), MODEL]));
}
