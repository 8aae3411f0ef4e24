//! What needs no model starts none: dry runs and the evaluation of the gate, where no model could be had.

use std::path::Path;
use std::process::{Command, Output};

const PAGE: &str = "<title>Pump Engineer</title><h1>Pump Engineer</h1><h2>Requirements</h2><p>You have built a pump \
    before, you know why water does not like corners, and you can read a drawing that somebody else made on a Friday \
    afternoon. You like harbours, mud, and people who say what they mean when it rains.</p><h2>Benefits</h2><p>Full-time, 52,000 to 61,000 EUR per year.</p><a href=/apply>Apply now</a>";

/// One page that a browser would show as a single posting.
const INDEX: &str = "file\tkind\tsite\tjs_shell\tnote\nhtml/a.html\tsingle\tA\tn\t\n";

/// The program in an empty home, with a primary model that does not exist and a hub that nobody listens at.
fn quarry(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
    command.args(arguments).current_dir(home).env_clear();
    command.env("HOME", home).env("HF_ENDPOINT", "http://127.0.0.1:1");
    command.env("QUARRY__MODELS__PRIMARY__NAME", "/nowhere/model.gguf").output().unwrap()
}

fn succeeded(output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    out.into_owned()
}

#[test]
fn a_dry_run_needs_no_model_and_says_that_it_estimates() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("page.html"), PAGE).unwrap();
    let output = quarry(home.path(), &["scrape", "page.html", "--dry-run", "--explain", "--format", "json"]);
    let pages: serde_json::Value = serde_json::from_str(&succeeded(&output)).unwrap();
    assert_eq!(pages[0]["route"], "local", "{pages}");
    assert_eq!(pages[0]["tokens"]["is_estimate"], true, "{pages}");
    assert!(pages[0]["tokens"]["prompt"].as_u64().unwrap() > 50, "{pages}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("prompt of about"), "{told}");
    // No model was fetched, and none could be served.
    let output = quarry(home.path(), &["scrape", "page.html", "--dry-run", "--model", "x.gguf"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("--server"), "{told}");
}

#[test]
fn the_gate_is_evaluated_without_a_model() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("corpus/html")).unwrap();
    std::fs::write(home.path().join("corpus/html/a.html"), PAGE).unwrap();
    let truth = r#"{"file": "html/a.html", "title": "Pump Engineer"}"#;
    std::fs::write(home.path().join("corpus/truth.jsonl"), truth).unwrap();
    std::fs::write(home.path().join("corpus/index.tsv"), INDEX).unwrap();
    succeeded(&quarry(home.path(), &["eval", "corpus", "--subset", "gate"]));
}
