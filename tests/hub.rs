//! `quarry serve` of a folder as the model hub has them, in each form of weights, and of one that it gets from a hub.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quarry_tiny::{HubWeights, StoredType, TensorType, TinyModel};
use serde_json::json;
use support::Server;

/// What the server says to a greedy chat.
fn answer(server: &Server, model: &str) -> String {
    let answer = server.chat(json!({"model": model, "max_completion_tokens": 24}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

#[test]
fn a_folder_answers_as_the_gguf_file_of_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = TinyModel::qwen3();
    let file = dir.path().join("tiny.gguf");
    tiny.write(&file, TensorType::F32).unwrap();
    let expected = answer(&Server::ready(&file, &[]), "tiny");
    assert!(!expected.is_empty());
    for (name, shards) in [("one-file", 1), ("three-files", 3)] {
        let folder = dir.path().join(name);
        tiny.write_hub(&folder, HubWeights::Plain(StoredType::F32), shards).unwrap();
        let server = Server::ready(&folder, &[]);
        assert_eq!(answer(&server, name), expected, "{name}");
    }
}

#[test]
fn awq_and_bf16_folders_are_served_and_named() {
    let dir = tempfile::tempdir().unwrap();
    for (weights, kind) in [(HubWeights::Awq, "AWQ4"), (HubWeights::Plain(StoredType::BF16), "BF16")] {
        let folder = dir.path().join(kind);
        TinyModel::qwen3().write_hub(&folder, weights, 2).unwrap();
        let server = Server::ready(&folder, &[]);
        assert!(!answer(&server, kind).is_empty());
        let active = server.log_lines().into_iter().find(|line| line["message"] == "model active").unwrap();
        assert_eq!((&active["quantization"], &active["architecture"]), (&json!(kind), &json!("qwen3")));
    }
}

#[test]
fn yarn_extends_the_context_as_far_as_the_kv_cache_reaches() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny");
    TinyModel::qwen3().write_hub(&folder, HubWeights::Plain(StoredType::BF16), 1).unwrap();
    let config = dir.path().join("quarry.yaml");
    let yarn = "{type: yarn, factor: 32, original_context: 4096}";
    let served = format!("models:\n  primary: {{name: {}, rope_scaling: {yarn}}}\n", folder.display());
    std::fs::write(&config, served).unwrap();
    // A block of 32 positions takes 33,792 bytes, and one slab of 64 MiB holds 1,985 of them.
    for (kv_cache, expected) in [("256MiB", 131_072), ("64MiB", 1985 * 32)] {
        let mut server = Server::configured(&config, &[("SERVER__KV_CACHE", kv_cache)], &[]);
        server.wait("is ready", |server| server.get("/ready").status == 200);
        assert!(!answer(&server, "tiny").is_empty());
        let line = |message: &str| server.log_lines().into_iter().find(|line| line["message"] == message);
        let on = line("YaRN is on").unwrap();
        assert_eq!((&on["own_context"], &on["context_tokens"]), (&json!(4096), &json!(131_072)));
        let active = line("model active").unwrap();
        assert_eq!(active["context_tokens"], expected);
        let bounded = line("context bounded by the KV cache");
        assert_eq!(
            bounded.map(|line| line["context_tokens"].clone()),
            (expected < 131_072).then(|| json!(expected))
        );
    }
}

/// A hub on this machine with one repository: the files of a folder. It answers nothing until it is open.
fn hub_of(repo: &str, folder: PathBuf, is_open: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let prefix = format!("/{repo}/resolve/main/");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            while !is_open.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut words = head.first().map_or("", String::as_str).split(' ');
            let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let file = path.strip_prefix(&prefix).and_then(|name| std::fs::read(folder.join(name)).ok());
            let (status, body) = file.map_or(("404 Not Found", Vec::new()), |bytes| ("200 OK", bytes));
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let body = if method == "HEAD" { &[][..] } else { &body };
            // A client that went away is no failure of the hub's.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    url
}

#[test]
fn a_model_of_the_configuration_comes_from_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("repository");
    TinyModel::qwen3().write_hub(&repository, HubWeights::Awq, 3).unwrap();
    let expected = answer(&Server::ready(&repository, &[]), "repository");
    let config = dir.path().join("quarry.yaml");
    std::fs::write(&config, "models:\n  primary: {name: Qwen/Qwen3-8B, quantization: awq-4bit}\n").unwrap();
    let hub = hub_of("Qwen/Qwen3-8B-AWQ", repository, Arc::new(AtomicBool::new(true)));
    let cache = dir.path().join("cache");
    let variables = [("HF_ENDPOINT", hub.as_str()), ("QUARRY_CACHE", cache.to_str().unwrap())];
    let mut server = Server::configured(&config, &[], &variables);
    server.wait("is ready", |server| server.get("/ready").status == 200);
    for name in ["qwen3-8b-awq", "Qwen/Qwen3-8B", "primary"] {
        assert_eq!(answer(&server, name), expected, "{name}");
    }
    assert!(cache.join("models/qwen3-8b-awq/quarry-sums.txt").is_file());
    // The second start needs no hub.
    let nobody = [("HF_ENDPOINT", "http://127.0.0.1:9"), variables[1]];
    let mut server = Server::configured(&config, &[], &nobody);
    server.wait("is ready", |server| server.get("/ready").status == 200);
    assert_eq!(answer(&server, "primary"), expected);
}

#[test]
fn the_first_model_is_served_while_another_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("repository");
    TinyModel::qwen3().write_hub(&repository, HubWeights::Awq, 1).unwrap();
    let here = dir.path().join("here.gguf");
    TinyModel::llama().write(&here, TensorType::F32).unwrap();
    let expected = answer(&Server::ready(&repository, &[]), "repository");
    let config = dir.path().join("quarry.yaml");
    let awq = "{name: Qwen/Qwen3-8B, quantization: awq-4bit}";
    let models =
        format!("models:\n  primary: {{name: {}}}\n  maximum: {awq}\n  thinking: {awq}\n", here.display());
    std::fs::write(&config, models).unwrap();
    let is_open = Arc::new(AtomicBool::new(false));
    let hub = hub_of("Qwen/Qwen3-8B-AWQ", repository, is_open.clone());
    let cache = dir.path().join("cache");
    let variables = [("HF_ENDPOINT", hub.as_str()), ("QUARRY_CACHE", cache.to_str().unwrap())];
    let mut server = Server::configured(&config, &[], &variables);
    server.wait("is ready", |server| server.get("/ready").status == 200);
    assert!(!answer(&server, "primary").is_empty());
    let listed = server.get("/v1/models").json();
    assert_eq!(
        (&listed["data"][0]["id"], &listed["data"][1]["id"]),
        (&json!("here"), &json!("qwen3-8b-awq"))
    );
    for name in ["maximum", "thinking", "Qwen/Qwen3-8B"] {
        let model = server.get(&format!("/v1/models/{name}")).json();
        assert_eq!((&model["id"], &model["details"]["state"]), (&json!("qwen3-8b-awq"), &json!("absent")));
        let refused = server.chat(json!({"model": name}));
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("model_absent")));
    }
    is_open.store(true, Ordering::Release);
    server.wait("is served", |server| server.chat(json!({"model": "maximum"})).status == 200);
    assert_eq!(answer(&server, "thinking"), expected);
    server.wait("is active", |server| {
        let metrics = server.get("/metrics").body;
        let line = metrics.lines().find(|line| {
            line.starts_with("quarry_model_state{")
                && line.contains("qwen3-8b-awq")
                && line.contains("\"active\"")
        });
        line.is_some_and(|line| line.ends_with(" 1"))
    });
}
