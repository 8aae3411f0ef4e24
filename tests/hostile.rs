//! What must never bring the server down: wrong bodies, lying model files, clients that vanish, crawl or crowd.
//! After each the server still answers an ordinary chat.

mod support;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quarry_formats::quant::TensorType;
use quarry_tiny::TinyModel;
use serde_json::json;
use support::{Answer, PATIENCE, Server, chat_body, model};

const CHAT: &str = "/v1/chat/completions";

fn text(body: &str) -> Vec<u8> {
    body.as_bytes().to_vec()
}

#[test]
fn wrong_bodies_are_refused_by_name() {
    let server = Server::ready(&model(), &[]);
    let message = |content: &str| {
        format!(r#"{{"model":"primary","messages":[{{"role":"user","content":{content}}}]}}"#)
    };
    let field = |field: &str| text(&message(r#""hi""#).replacen('{', &format!("{{{field},"), 1));
    for (what, body, code, param) in [
        ("nothing", text(""), None, None),
        ("half of it", text(r#"{"model": "primary", "messages": [{"role": "us"#), None, None),
        ("no JSON", text("model=primary&messages=hi"), None, None),
        ("two values", text("{} {}"), None, Some("model")),
        ("a list", text("[]"), None, None),
        ("bytes that are no text", vec![0xff; 1000], None, None),
        (
            "text that is no UTF-8",
            text(&message(r#""X""#)).iter().map(|&b| if b == b'X' { 0xff } else { b }).collect(),
            None,
            None,
        ),
        ("half a surrogate pair", text(&message(r#""\ud83d""#)), None, None),
        ("brackets", text(&"[".repeat(1_000_000)), None, None),
        (
            "nested content",
            text(&message(&("{\"a\":".repeat(100_000) + "1"))),
            None,
            Some("messages[0].content"),
        ),
        ("content of another type", text(&message("7")), None, Some("messages[0].content")),
        ("a number too large", field(r#""max_tokens":1e99"#), None, Some("max_tokens")),
        ("a number that is text", field(r#""temperature":"hot""#), None, Some("temperature")),
        ("a flag that is text", field(r#""stream":"yes""#), None, Some("stream")),
        ("twice the same field", field(r#""model":"primary""#), None, None),
        ("a field that is not served", field(r#""n":3"#), Some("unsupported_parameter"), Some("n")),
        (
            "a schema of itself",
            field(
                r##""response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"$ref":"#"}}}"##,
            ),
            Some("invalid_json_schema"),
            Some("response_format"),
        ),
        (
            "a schema past its bound",
            field(&format!(
                r#""response_format":{{"type":"json_schema","json_schema":{{"name":"x","schema":{{"enum":["{}"]}}}}}}"#,
                "x".repeat(300_000)
            )),
            Some("invalid_json_schema"),
            Some("response_format"),
        ),
    ] {
        let answer = server.post(CHAT, &body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        let message = answer.error(400, code, param);
        assert!(message.len() < 1000, "{what}: {message}");
    }
    // What is JSON is taken as JSON whatever its sender calls it; what is nobody's field is named in a header.
    let body = chat_body(json!({"frobnicate": {"deep": [1, 2, 3]}})).to_string();
    let answer = Answer::read(
        server.send(&format!("POST {CHAT} HTTP/1.0\r\ncontent-type: text/plain"), body.as_bytes()),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.header("warnings").unwrap().contains("frobnicate"));
    assert_eq!(server.get("/v1/../../etc/passwd").status, 404);
    server.still_answers();
}

#[test]
fn bodies_and_prompts_past_their_bounds_are_refused_with_the_bound() {
    let server = Server::ready(&model(), &[]);
    // Announced: refused before it is sent.
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 99000000000\r\n\r\n");
    let mut socket = server.connect();
    socket.write_all(head.as_bytes()).unwrap();
    let message = Answer::read(socket).error(413, Some("body_too_large"), None);
    assert!(message.contains("16777216"), "{message}");
    // Not announced: refused where the bound is met.
    let mut socket = server.connect();
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let sent = (0..40).take_while(|_| socket.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(sent < 40, "the server takes any body");
    server.still_answers();

    for (what, content) in
        [("a million tokens", "word ".repeat(1_000_000)), ("no space", "a".repeat(8_000_000))]
    {
        let body = chat_body(json!({"messages": [{"role": "user", "content": content}]})).to_string();
        let answer = server.post(CHAT, body.as_bytes());
        let message = answer.error(400, Some("context_length_exceeded"), Some("messages"));
        let bound = server.get("/v1/models").json()["data"][0]["details"]["prompt_tokens_max"].to_string();
        assert!(message.contains(&bound), "{what}: {message}");
        server.still_answers();
    }
}

#[test]
fn clients_that_vanish_free_what_they_held() {
    let mut server = Server::ready(&model(), &[]);
    // In mid-stream.
    drop(server.begin_stream(json!({})));
    server.wait_idle();
    // While waiting for a whole answer, and while the prompt is still read.
    for content in ["hi".to_owned(), "word ".repeat(1500)] {
        let messages = json!([{"role": "user", "content": content}]);
        let body =
            chat_body(json!({"ignore_eos": true, "max_completion_tokens": 1500, "messages": messages}));
        let socket = server.send(&format!("POST {CHAT} HTTP/1.1"), body.to_string().as_bytes());
        server.wait("runs", |s| s.metric("vllm:num_requests_running") > 0.0);
        drop(socket);
        server.wait_idle();
    }
    // In the middle of the body, and of the head.
    for part in [
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{\"model\"",
        "POST /v1/ch",
    ] {
        server.connect().write_all(part.as_bytes()).unwrap();
    }
    server.wait_idle();
    server.still_answers();
}

#[test]
fn a_crowd_is_answered_or_told_to_come_back() {
    let server = Server::ready(&model(), &[("SERVER__QUEUE_MAX", "20")]);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = || server.chat(json!({"max_completion_tokens": 4}));
        let asking: Vec<_> = (0..300).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let (served, refused): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|a| a.status == 200);
    for answer in &refused {
        answer.error(429, Some("queue_full"), None);
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    }
    assert!(!refused.is_empty() && served.len() >= 20, "{} served, {} refused", served.len(), refused.len());
    let first = &served[0].json()["choices"];
    assert!(
        served.iter().all(|answer| answer.json()["choices"] == *first),
        "greedy answers differ in a crowd"
    );
    server.still_answers();
}

#[test]
fn crawling_clients_hold_up_nobody() {
    let server = Server::ready(&model(), &[]);
    // Heads and bodies that do not come to an end, and a reader that does not read.
    let crawling: Vec<_> = (0..200)
        .map(|i| {
            let mut socket = server.connect();
            let part = if i % 2 == 0 {
                "GET /health HTTP/1.1\r\nhost: "
            } else {
                "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
            };
            socket.write_all(part.as_bytes()).unwrap();
            socket
        })
        .collect();
    let _unread = server.begin_stream(json!({"max_completion_tokens": 200}));
    server.still_answers();
    drop(crawling);
    server.still_answers();
}

/// Starts the server on a file that must be refused; its words on stderr.
fn refused(model: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
    command.args(["serve", "--port", "0", "--model"]).arg(model).env("RUST_BACKTRACE", "1");
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            process.kill().unwrap();
            panic!("{} is not refused", model.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut words = String::new();
    process.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!(status.code(), Some(1), "{words}");
    assert!(!words.contains("panicked"), "{words}");
    let error = words
        .lines()
        .find(|line| line.starts_with("quarry: "))
        .unwrap_or_else(|| panic!("no error: {words}"));
    error.to_owned()
}

/// Puts a number in the place of a metadata value of the file.
fn lie(bytes: &[u8], key: &str, value: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap() + key.len();
    let kind = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let width = match kind {
        4..=6 => 4,
        10..=12 => 8,
        other => panic!("{key} has type {other}"),
    };
    bytes[at + 4..at + 4 + width].copy_from_slice(&value.to_le_bytes()[..width]);
    bytes
}

#[test]
fn model_files_that_lie_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let tiny = TinyModel::qwen3();
    tiny.write(&path, TensorType::F32).unwrap();
    let good = std::fs::read(&path).unwrap();
    drop(Server::ready(&path, &[])); // as it is it is served

    let cut = |share: usize| good[..good.len() * share / 100].to_vec();
    let patched = |at: usize, bytes: &[u8]| {
        let mut lying = good.clone();
        lying[at..at + bytes.len()].copy_from_slice(bytes);
        lying
    };
    let key = |key: &str, value: u64| lie(&good, &format!("qwen3.{key}"), value);
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("four bytes", b"GGUF".to_vec()),
        ("another format", b"\x89PNG\r\n\x1a\n".repeat(100)),
        ("an unknown version", patched(4, &99u32.to_le_bytes())),
        ("2^60 tensors", patched(8, &(1u64 << 60).to_le_bytes())),
        ("2^60 keys", patched(16, &(1u64 << 60).to_le_bytes())),
        ("a key of 2^63 bytes", patched(24, &(1u64 << 63).to_le_bytes())),
        ("cut in the head", cut(1)),
        ("cut in the middle", cut(50)),
        ("cut at the end", cut(99)),
        ("no heads", key("attention.head_count", 0)),
        ("2^32 - 1 heads", key("attention.head_count", u32::MAX.into())),
        ("heads that do not share evenly", key("attention.head_count_kv", 3)),
        ("no layers", key("block_count", 0)),
        ("2^32 - 1 layers", key("block_count", u32::MAX.into())),
        ("one layer too many", key("block_count", tiny.layers as u64 + 1)),
        ("another width", key("embedding_length", tiny.hidden as u64 / 2)),
        ("no width", key("embedding_length", 0)),
        ("no context", key("context_length", 0)),
        ("another architecture", {
            let at = good.windows(5).position(|w| w == b"qwen3").unwrap();
            patched(at, b"mamba")
        }),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = refused(&path);
        println!("{what}: {error}");
        assert!(error.contains("model.gguf") || error.contains("mamba"), "{what}: {error}");
    }
    assert!(refused(&folder.path().join("absent.gguf")).contains("absent.gguf"));
    assert!(refused(folder.path()).contains(&*folder.path().to_string_lossy()));
}

#[test]
fn the_real_model_cut_short_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    let mut whole = std::fs::File::open(model()).unwrap();
    let bytes = whole.metadata().unwrap().len();
    let mut cut = std::fs::File::create(&path).unwrap();
    std::io::copy(&mut (&mut whole).take(bytes - 1), &mut cut).unwrap();
    let error = refused(&path);
    assert!(error.contains("cut.gguf"), "{error}");
}
