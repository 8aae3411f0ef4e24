//! Each bench once, small: it runs, its JSON has what it says, the plots and the show scripts can read it. No figure
//! is judged.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quarry_tiny::{TensorType, TinyModel};
use serde_json::{Value, json};
use support::Server;
use tempfile::TempDir;

fn tiny() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    TinyModel::qwen3().write(&path, TensorType::Q8_0).unwrap();
    (dir, path)
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

fn quarry() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quarry"))
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn plot(files: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/plot_bars.py");
    let output = run(Command::new("python3").arg(script).args(files));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_model_is_measured_and_drawn() {
    let (dir, model) = tiny();
    let out = dir.path().join("model.json");
    let tests =
        ["--prompt", "40", "--generate", "3", "--depth", "0,33", "--streams", "1,2", "--repeats", "2"];
    run(quarry()
        .args(["bench", "model", "--isa", "portable", "--threads", "1", "--out"])
        .arg(&out)
        .arg("--model")
        .arg(&model)
        .args(tests));
    let report = read(&out);
    assert_eq!((&report["isa"], &report["threads"]), (&json!("portable"), &json!(1)));
    let names: Vec<&str> =
        report["tests"].as_array().unwrap().iter().map(|test| test["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp40", "tg3", "tg3 x2", "pp40 @ d33", "tg3 @ d33", "tg3 x2 @ d33"]);

    let rival = dir.path().join("rival.json");
    std::fs::write(&rival, r#"[{"n_prompt": 40, "n_gen": 0, "n_depth": 33, "avg_ts": 12.5}]"#).unwrap();
    let drawn = plot(&[&out, &rival]);
    assert!(drawn.starts_with("<svg") && drawn.contains("12.5") && drawn.contains("tg3 x2"), "{drawn}");
}

#[test]
fn an_unknown_instruction_set_is_refused_by_name() {
    let output = quarry().args(["bench", "model", "--isa", "z80"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("avx2") && said.contains("portable"), "{said}");
}

#[test]
fn kernels_are_measured_beside_their_limits() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("kernels.json");
    let sizes = ["--formats", "q4_0,Q6_K", "--shapes", "32x256,40x96", "--rows", "1,9", "--depth", "0,33"];
    let output = run(quarry()
        .args([
            "bench",
            "kernels",
            "--isa",
            "all",
            "--threads",
            "2",
            "--repeats",
            "1",
            "--cold",
            "1",
            "--out",
        ])
        .arg(&out)
        .args(sizes));
    let report = read(&out);
    assert_eq!(report["threads"], json!(2));
    let sets = report["sets"].as_array().unwrap();
    assert!(!sets.is_empty());
    for set in sets {
        let figures = set["figures"].as_array().unwrap();
        let names: Vec<&str> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
        assert_eq!(names[..2], ["Q4_0 32x256 x1", "Q4_0 32x256 x9"]);
        assert!(names.contains(&"decode at 33") && names.contains(&"silu+quantize 96"), "{names:?}");
        assert!(
            set["read_limit"].as_f64().unwrap() > 0.0 && figures[0]["gops"]["median"].as_f64() > Some(0.0)
        );
        assert_eq!(figures[0]["of_operations"].is_null(), set["isa"] == json!("portable"), "{set}");
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("norm+quantize 256"));
    assert!(plot(&[&out]).contains("prefill 512 at 33 GOP/s"));

    let refused = quarry().args(["bench", "kernels", "--formats", "Q9"]).output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("Q4_0"));
}

#[test]
fn a_model_of_random_weights_is_made_and_runs() {
    let (dir, tokenizer) = tiny();
    let made = dir.path().join("made.gguf");
    run(quarry()
        .args(["bench", "make-model", "--shape", "qwen3-0.6b", "--layers", "1", "--tokenizer"])
        .arg(&tokenizer)
        .arg(&made));
    let out = dir.path().join("model.json");
    let tests = ["--prompt", "8", "--generate", "0", "--depth", "0", "--repeats", "1", "--out"];
    run(quarry().args(["bench", "model", "--model"]).arg(&made).args(tests).arg(&out));
    assert_eq!(read(&out)["quantization"], "Q4_K");
}

#[test]
fn a_server_is_loaded_closed_and_open() {
    let (dir, model) = tiny();
    let server = Server::ready(&model, &[]);
    let out = dir.path().join("serve.json");
    let sizes = ["--requests", "6", "--prompt-tokens", "40", "--output-tokens", "4", "--out"];
    // The same server twice, in turns.
    for mode in [["--clients", "3"], ["--rate", "200"]] {
        run(quarry()
            .args(["bench", "serve", "--url", &server.base_url(), "--url", &server.base_url()])
            .args(sizes)
            .arg(&out)
            .args(mode));
        let report = read(&out);
        assert_eq!(report["servers"].as_array().unwrap().len(), 2);
        for one in report["servers"].as_array().unwrap() {
            assert_eq!((&one["answered"], &one["failed"]), (&json!(6), &json!(0)), "{one}");
            assert_eq!(one["output_tokens"], json!(4.0), "{one}");
            assert!(one["prompt_tokens"].as_f64().unwrap() > 20.0, "{one}");
            assert_eq!(one["ttft"]["count"], json!(6));
        }
    }
    assert!(plot(&[&out]).contains("first token"));
}

#[test]
fn a_text_is_scored() {
    let (dir, model) = tiny();
    let out = dir.path().join("perplexity.json");
    run(quarry()
        .args(["eval", "perplexity", "--tokens", "100", "--context", "64", "--out"])
        .arg(&out)
        .arg(&model));
    let report = read(&out);
    assert_eq!((&report["scored"], &report["context"]), (&json!(98), &json!(64)));
    assert!(report["perplexity"].as_f64().unwrap() > 1.0, "{report}");
    assert_eq!(report["reference"].is_object(), cfg!(feature = "reference"), "{report}");
}

/// A rival that always says the same speed.
fn rival(dir: &Path, speed: f64) -> PathBuf {
    let path = dir.join(format!("rival-{speed}"));
    let rows = format!(
        r#"[{{"n_prompt": 16, "n_gen": 0, "avg_ts": {speed}, "build_commit": "none", "build_number": 1}},
            {{"n_prompt": 0, "n_gen": 64, "avg_ts": {speed}}}]"#
    );
    std::fs::write(&path, format!("#!/bin/sh\ncat <<'EOF'\n{rows}\nEOF\n")).unwrap();
    let mut rights = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
    std::fs::set_permissions(&path, rights).unwrap();
    path
}

#[test]
fn seeds_of_the_simulation() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("seeds.json");
    let said = run(quarry()
        .args(["bench", "simulation", "--seeds", "200", "--first", "5000"])
        .arg("--out")
        .arg(&out));
    let table = String::from_utf8(said.stdout).unwrap();
    assert!(table.contains("displaced") && table.contains("200 seeds from 5000 on"), "{table}");
    let report = read(&out);
    assert!(report["steps_per_second"].as_f64().unwrap() > 0.0 && report["failure"].is_null(), "{report}");
    assert!(report["counts"].as_array().unwrap().iter().all(|count| count["count"].is_u64()), "{report}");
}

#[test]
fn the_exit_code_of_a_show_script_is_its_goal() {
    let (dir, model) = tiny();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/show/decode.sh");
    // A trial with another model is never the whole row, so slower rivals give 2 (incomplete), faster ones 1 (missed).
    for (speed, code) in [(1e-3, 2), (1e12, 1)] {
        let record = dir.path().join("record.json");
        let output = Command::new(&script)
            .env("QUARRY_BIN", env!("CARGO_BIN_EXE_quarry"))
            .env("QUARRY_SHOW_MODELS", format!("tiny={}", model.display()))
            .env("QUARRY_SHOW_REPEATS", "2")
            .env("QUARRY_SHOW_OUT", &record)
            .env("LLAMA_BENCH", rival(dir.path(), speed))
            .env_remove("QUARRY_SHOW_ISA")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("processor") && said.contains("tiny tg64"), "{said}");
        assert_eq!(read(&record)["lines"][0]["met"], json!(code == 2));
        assert!(plot(&[&record]).contains("llama.cpp"));
    }
    let without = Command::new(&script)
        .env("QUARRY_BIN", env!("CARGO_BIN_EXE_quarry"))
        .env_remove("LLAMA_BENCH")
        .env_remove("QUARRY_SHOW_ISA")
        .output()
        .unwrap();
    assert_eq!(without.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&without.stderr).contains("LLAMA_BENCH"));
}
