//! Pulling whole repositories from a hub on this machine: resume, wrong sums, missing files, names.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use quarry_models::{Against, Fetchers, Format, HubClient, Manifest, Pip, Registry, Source, State};
use sha2::{Digest, Sha256};

const NAME: &str = "tiny-bf16";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What the hub does; changed by tests between pulls.
#[derive(Default)]
struct HubState {
    files: HashMap<String, Vec<u8>>,
    /// Says another sum for this file than it has.
    wrong_sum: Option<String>,
    /// Breaks off in the middle of this file.
    cut: Option<String>,
    commit: String,
    /// `METHOD path range` of every request.
    requests: Vec<String>,
}

/// A hub that knows one repository: weights by sum and by redirect, small files directly.
struct Hub {
    url: String,
    state: Arc<Mutex<HubState>>,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let state: Arc<Mutex<HubState>> = Arc::default();
        let mut files = HashMap::new();
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            files.insert(name.to_owned(), format!("{{\"file\": \"{name}\"}}").into_bytes());
        }
        let map = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
        files.insert("model.safetensors.index.json".into(), map.into());
        for (name, step) in [("model-1.safetensors", 7_usize), ("model-2.safetensors", 11)] {
            files.insert(name.into(), (0..20_000).map(|i| (i / step) as u8).collect());
        }
        *state.lock().expect("lock") = HubState { files, commit: COMMIT.into(), ..HubState::default() };
        let served = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accept");
                answer(stream, &mut served.lock().expect("lock"));
            }
        });
        Self { url, state }
    }

    fn set(&self, by: impl FnOnce(&mut HubState)) {
        by(&mut self.state.lock().expect("lock"));
    }

    /// The requests since the last call.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("lock").requests)
    }
}

/// Answers one request and closes. A client that went away is no failure of the hub's.
fn answer(mut stream: TcpStream, state: &mut HubState) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("UTF-8");
    assert!(head.to_lowercase().contains("accept-encoding: identity"), "lengths are the file's own: {head}");
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().expect("method"), words.next().expect("path"));
    let range = head.lines().find_map(|line| {
        let value =
            line.to_lowercase().strip_prefix("range: bytes=")?.trim_end_matches('-').parse::<usize>().ok()?;
        Some(value)
    });
    state.requests.push(format!("{method} {path} {}", range.unwrap_or(0)));
    let send = |stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    let of_repo = path.strip_prefix("/owner/tiny/resolve/").and_then(|rest| rest.split_once('/'));
    let cdn = path.strip_prefix("/cdn/");
    let name = match (of_repo, cdn) {
        (Some((revision, name)), _) if revision == "main" || revision == state.commit => name,
        (_, Some(name)) => name,
        _ => return send(&mut stream, "404 Not Found", "content-length: 0\r\n", b""),
    };
    let Some(bytes) = state.files.get(name) else {
        return send(&mut stream, "404 Not Found", "content-length: 0\r\n", b"");
    };
    let commit = format!("x-repo-commit: {}\r\n", state.commit);
    if cdn.is_none() && name.ends_with(".safetensors") {
        let told = if state.wrong_sum.as_deref() == Some(name) { sum(b"another") } else { sum(bytes) };
        let size = bytes.len();
        let headers = format!(
            "{commit}x-linked-etag: \"{told}\"\r\nx-linked-size: {size}\r\nlocation: /cdn/{name}\r\ncontent-length: 0\r\n"
        );
        return send(&mut stream, "302 Found", &headers, b"");
    }
    let from = range.unwrap_or(0);
    let rest = &bytes[from..];
    let length = format!("{commit}content-length: {}\r\n", rest.len());
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let body = match method {
        "HEAD" => &[][..],
        _ if state.cut.as_deref() == Some(name) => &rest[..rest.len() / 2],
        _ => rest,
    };
    send(&mut stream, status, &length, body);
}

fn manifest() -> Manifest {
    Manifest {
        name: NAME.into(),
        model: Some("Owner/Tiny".into()),
        format: Format::Folder,
        title: "Tiny".into(),
        architecture: "qwen3".into(),
        quantization: "BF16".into(),
        licence: "Apache-2.0".into(),
        context_tokens: 64,
        memory_bytes: 1 << 20,
        bytes: None,
        sha256: None,
        decoder: None,
        sources: vec![Source::HubFolder { repo: "owner/tiny".into() }],
    }
}

fn registry(cache: &Path, hub: &Hub) -> Registry {
    let fetchers = Fetchers { parts: Box::new(Pip::default()), hub: HubClient { endpoint: hub.url.clone() } };
    Registry::with(cache, vec![manifest()], fetchers)
}

fn pull(registry: &Registry) -> Result<std::path::PathBuf, String> {
    registry.pull(NAME, None, &mut |_| {}).map(|pulled| pulled.path).map_err(|error| error.to_string())
}

/// The folder is what the hub has.
fn assert_whole(folder: &Path, hub: &Hub) {
    let state = hub.state.lock().expect("lock");
    for (name, bytes) in &state.files {
        assert_eq!(&fs::read(folder.join(name)).expect("file"), bytes, "{name}");
    }
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("folder")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.retain(|name| name != "quarry-sums.txt" && !state.files.contains_key(name));
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn a_repository_is_pulled_whole_verified_and_removed() {
    let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
    let registry = registry(cache.path(), &hub);
    assert_eq!(registry.list()[0].state, State::Absent);
    let folder = pull(&registry).expect("pulled");
    assert_eq!(folder, cache.path().join("models").join(NAME));
    assert_whole(&folder, &hub);
    // Everything but the first question is of one commit.
    let requests = hub.requests();
    assert!(requests[0].starts_with("HEAD /owner/tiny/resolve/main/config.json"), "{requests:?}");
    let pinned = format!("/owner/tiny/resolve/{COMMIT}/");
    assert!(requests[1..].iter().all(|r| r.contains(&pinned) || r.contains("/cdn/")), "{requests:?}");

    assert!(matches!(registry.list()[0].state, State::Here { bytes } if bytes > 40_000));
    assert_eq!(pull(&registry), Ok(folder.clone()));
    assert!(hub.requests().is_empty(), "a second pull asks nothing");
    let verified = registry.verify(NAME, &mut |_, _| {}).expect("whole");
    assert_eq!((verified.against, verified.bytes > 40_000), (Against::Hub, true));

    for name in ["model-2.safetensors", "config.json"] {
        let good = fs::read(folder.join(name)).expect("read");
        let mut bad = good.clone();
        bad[3] ^= 1;
        fs::write(folder.join(name), bad).expect("write");
        let error = registry.verify(NAME, &mut |_, _| {}).expect_err("damaged").to_string();
        assert!(error.contains(name) && error.contains(&sum(&good)), "{error}");
        fs::write(folder.join(name), good).expect("write");
    }
    fs::remove_file(folder.join("tokenizer.json")).expect("removed");
    assert!(
        registry.verify(NAME, &mut |_, _| {}).expect_err("damaged").to_string().contains("tokenizer.json")
    );
    assert!(registry.remove(NAME).expect("removed") > 40_000);
    assert_eq!(registry.list()[0].state, State::Absent);
}

#[test]
fn a_pull_that_broke_off_goes_on_where_it_was() {
    let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
    let registry = registry(cache.path(), &hub);
    hub.set(|state| state.cut = Some("model-2.safetensors".into()));
    pull(&registry).expect_err("cut");
    assert!(matches!(registry.list()[0].state, State::Partial { bytes } if bytes > 30_000));
    assert!(!cache.path().join("models").join(NAME).exists());
    hub.requests();
    hub.set(|state| state.cut = None);
    let folder = pull(&registry).expect("resumed");
    assert_whole(&folder, &hub);
    let got: Vec<String> = hub.requests().into_iter().filter(|r| r.starts_with("GET /cdn/")).collect();
    assert_eq!(got, ["GET /cdn/model-2.safetensors 10000"], "the first shard is not fetched again");
}

#[test]
fn a_file_with_another_sum_than_the_hub_says_is_refused_and_not_kept() {
    let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
    let registry = registry(cache.path(), &hub);
    hub.set(|state| state.wrong_sum = Some("model-1.safetensors".into()));
    let error = pull(&registry).expect_err("wrong sum");
    assert!(error.contains("model-1.safetensors: sha256 is") && error.contains(&sum(b"another")), "{error}");
    assert!(!cache.path().join(format!("models/{NAME}.hub.partial/model-1.safetensors")).exists());
    hub.set(|state| state.wrong_sum = None);
    assert_whole(&pull(&registry).expect("pulled"), &hub);
}

#[test]
fn a_new_commit_begins_anew() {
    let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
    let registry = registry(cache.path(), &hub);
    hub.set(|state| state.cut = Some("model-2.safetensors".into()));
    pull(&registry).expect_err("cut");
    hub.set(|state| {
        state.cut = None;
        state.commit = COMMIT.replace('0', "f");
        state.files.insert("model-1.safetensors".into(), vec![9; 25_000]);
    });
    assert_whole(&pull(&registry).expect("pulled"), &hub);
}

#[test]
fn what_changed_behind_the_list_s_back_is_fetched_again() {
    let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
    let registry = registry(cache.path(), &hub);
    hub.set(|state| state.cut = Some("model-2.safetensors".into()));
    pull(&registry).expect_err("cut");
    hub.set(|state| state.cut = None);
    fs::write(cache.path().join(format!("models/{NAME}.hub.partial/model-1.safetensors")), b"short")
        .expect("write");
    assert_whole(&pull(&registry).expect("pulled"), &hub);
    registry.verify(NAME, &mut |_, _| {}).expect("whole");
}

#[test]
fn a_single_weight_file_needs_no_index() {
    let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
    hub.set(|state| {
        state.files.retain(|name, _| !name.starts_with("model"));
        state.files.insert("model.safetensors".into(), vec![5; 3000]);
    });
    assert_whole(&pull(&registry(cache.path(), &hub)).expect("pulled"), &hub);
}

#[test]
fn what_is_missing_or_hostile_is_named() {
    let missing = |name: &str| {
        let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
        hub.set(|state| drop(state.files.remove(name)));
        pull(&registry(cache.path(), &hub)).expect_err("missing")
    };
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model-2.safetensors"] {
        let error = missing(name);
        assert!(error.contains(&format!("the repository has no {name}")), "{error}");
    }
    for (index, expected) in [
        ("{", "is no JSON"),
        ("{}", "weight_map is missing"),
        (r#"{"weight_map": {}}"#, "names 0 weight files"),
        (r#"{"weight_map": {"a": "../../evil.safetensors"}}"#, "no weight file"),
        (r#"{"weight_map": {"a": ".safetensors"}}"#, "no weight file"),
        (r#"{"weight_map": {"a": 3}}"#, "no weight file"),
    ] {
        let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
        hub.set(|state| drop(state.files.insert("model.safetensors.index.json".into(), index.into())));
        let error = pull(&registry(cache.path(), &hub)).expect_err("hostile");
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
    let (cache, hub) = (tempfile::tempdir().expect("folder"), Hub::start());
    let local = registry(cache.path(), &hub).pull(NAME, Some(cache.path()), &mut |_| {});
    assert_eq!(local.expect("the hub has it").skipped.len(), 1, "a folder is not copied");
}

#[test]
fn models_are_found_by_the_hub_s_names() {
    let registry = Registry::new("unused");
    let found = |name: &str, quantization: Option<&str>| {
        registry.resolve(name, quantization).map(|m| m.name.clone()).map_err(|error| error.to_string())
    };
    for (name, quantization, expected) in [
        ("Qwen/Qwen3-8B", Some("awq-4bit"), "qwen3-8b-awq"),
        ("Qwen/Qwen3-8B", Some("AWQ"), "qwen3-8b-awq"),
        ("Qwen/Qwen3-8B", Some("bf16"), "qwen3-8b-bf16"),
        ("qwen3-8b", Some("Q4_K_M"), "qwen3-8b-q4_k_m"),
        ("Qwen/Qwen3-8B", None, "qwen3-8b-q4_k_m"),
        ("qwen3-4b", None, "qwen3-4b-q4_k_m"),
        ("Qwen3-4B-Instruct-2507", Some("bf16"), "qwen3-4b-instruct-2507-bf16"),
        ("Qwen/Qwen3-4B-Thinking-2507", Some("bf16"), "qwen3-4b-thinking-2507-bf16"),
        ("Qwen/Qwen3-14B", Some("awq-4bit"), "qwen3-14b-awq"),
        ("Qwen/Qwen3-0.6B", Some("bf16"), "qwen3-0.6b-bf16"),
        ("qwen3-14b-awq", None, "qwen3-14b-awq"),
        ("qwen2.5-coder-0.5b-instruct", Some("q4_k_m"), "qwen2.5-coder-0.5b-instruct-q4_k_m"),
        ("qwen2.5-coder-0.5b-instruct-q4_k_m", Some("q4_k_m"), "qwen2.5-coder-0.5b-instruct-q4_k_m"),
    ] {
        assert_eq!(found(name, quantization).as_deref(), Ok(expected), "{name} {quantization:?}");
    }
    let on_a_gpu = |name: &str, quantization| {
        registry.resolve_for(name, quantization, Some("awq")).map(|m| m.name.clone()).expect("known")
    };
    assert_eq!(on_a_gpu("Qwen/Qwen3-4B", None), "qwen3-4b-awq");
    assert_eq!(on_a_gpu("qwen3-8b", None), "qwen3-8b-awq");
    assert_eq!(on_a_gpu("qwen3-8b", Some("q4_k_m")), "qwen3-8b-q4_k_m");
    assert_eq!(
        on_a_gpu("Qwen3-4B-Instruct-2507", None),
        "qwen3-4b-instruct-2507-q4_k_m",
        "there is no AWQ of it"
    );
    let error = found("Qwen/Qwen3-4B-Instruct-2507", Some("awq-4bit")).expect_err("no such repository");
    assert!(error.contains("\"awq-4bit\"; known: q4_k_m, bf16"), "{error}");
    assert!(found("qwen3-8b-awq", Some("bf16")).expect_err("another").contains("known: awq"));
    assert!(found("nonesuch", None).expect_err("unknown").contains("no model is called \"nonesuch\""));
}
