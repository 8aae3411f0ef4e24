//! A started `quarry serve`, for tests of the whole binary over its socket.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod python;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The model of these tests, as the registry and the server name it.
pub const MODEL: &str = "smollm2-135m-instruct-q4_1";
/// From start to ready, or from a signal to the end, on a machine busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn model() -> PathBuf {
    quarry_models::testing::model_path(MODEL)
}

/// A started server; ended when the test ends, however it ends.
pub struct Server {
    pub address: SocketAddr,
    process: Child,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended by itself
        let _ = self.process.wait();
    }
}

impl Server {
    /// Starts on a free port and waits until it listens; `settings` are overrides such as `SERVER__QUEUE_MAX`.
    pub fn listening(model: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
        command.args(["serve", "--port", "0", "--model"]).arg(model);
        Self::started(command, settings)
    }

    /// As [`Server::listening`], started by a shell that was told `ulimit` before.
    pub fn limited(model: &Path, ulimit: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{ulimit} && exec \"$0\" serve --port 0 --model \"$1\""));
        command.arg(env!("CARGO_BIN_EXE_quarry")).arg(model);
        Self::started(command, settings)
    }

    /// As [`Server::listening`], with a configuration file that names the models, and further variables as they are.
    pub fn configured(config: &Path, settings: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
        command.args(["serve", "--port", "0", "--config"]).arg(config).envs(variables.iter().copied());
        Self::started(command, settings)
    }

    fn started(mut command: Command, settings: &[(&str, &str)]) -> Self {
        command.env("QUARRY__LOGGING__FORMAT", "json");
        command.envs(settings.iter().map(|(key, value)| (format!("QUARRY__{key}"), value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let log: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Shown if the test fails.
                println!("server: {line}");
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let mut server = Self { address: ([127, 0, 0, 1], 0).into(), process, log };
        let mut address = None;
        server.wait("listens", |server| {
            let line = server.log_lines().into_iter().find(|line| line["message"] == "listening");
            address = line.map(|line| line["address"].as_str().unwrap().parse().unwrap());
            address.is_some()
        });
        server.address = address.unwrap();
        server
    }

    /// Starts and waits until it is ready.
    pub fn ready(model: &Path, settings: &[(&str, &str)]) -> Self {
        let mut server = Self::listening(model, settings);
        server.wait("is ready", |server| server.get("/ready").status == 200);
        server
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn log_lines(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// Asks again and again; fails where the server ends meanwhile.
    pub fn wait(&mut self, what: &str, mut until: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !until(self) {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the server ended before it {what}: {status}");
            }
            assert!(started.elapsed() < PATIENCE, "the server never {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A gauge or counter of `/metrics`, all label sets added up.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        });
        values.sum()
    }

    /// Waits until nothing runs and nothing waits.
    pub fn wait_idle(&mut self) {
        self.wait("is idle", |s| {
            s.metric("vllm:num_requests_running") + s.metric("vllm:num_requests_waiting") == 0.0
        });
    }

    pub fn send_signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends a request with this head (its first line and further ones, without length) and body.
    pub fn send(&self, head: &str, body: &[u8]) -> TcpStream {
        let mut socket = self.connect();
        let head = format!("{head}\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
        // A server that refuses early may close before it has all; the answer is what counts.
        let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body));
        socket
    }

    pub fn get(&self, path: &str) -> Answer {
        Answer::read(self.send(&format!("GET {path} HTTP/1.0"), b""))
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        let head = format!("POST {path} HTTP/1.0\r\ncontent-type: application/json");
        Answer::read(self.send(&head, body))
    }

    pub fn chat(&self, fields: Value) -> Answer {
        self.post("/v1/chat/completions", chat_body(fields).to_string().as_bytes())
    }

    /// Begins a streamed answer that lasts until its client goes away; returns when its first event came.
    pub fn begin_stream(&self, fields: Value) -> TcpStream {
        let mut body = chat_body(json!({"stream": true, "ignore_eos": true, "max_completion_tokens": 1500}));
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut socket = self.send("POST /v1/chat/completions HTTP/1.0", body.to_string().as_bytes());
        let mut seen = Vec::new();
        let mut piece = [0; 1024];
        while !String::from_utf8_lossy(&seen).contains("data: ") {
            let read = socket.read(&mut piece).unwrap();
            assert!(read > 0, "no stream: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..read]);
        }
        socket
    }

    /// The server still answers an ordinary chat.
    pub fn still_answers(&self) {
        let answer = self.chat(json!({}));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let message = &answer.json()["choices"][0]["message"];
        assert!(message["content"].as_str().is_some_and(|text| !text.is_empty()), "{}", answer.body);
    }
}

/// A short greedy request, and `fields` over it.
pub fn chat_body(fields: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Name three colours."}],
        "temperature": 0, "max_completion_tokens": 8});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// An answer, whole. Requests are HTTP/1.0, so that it ends with the connection and is not in chunks.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(mut socket: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 << 10];
        loop {
            match socket.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
                // What came before a reset counts: the server does not read what it refused.
                Err(error) if !bytes.is_empty() => {
                    println!("after {} bytes: {error}", bytes.len());
                    break;
                }
                Err(error) => panic!("no answer: {error}"),
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// What is left of an answer whose head was read.
    pub fn read_rest(mut socket: TcpStream) -> String {
        let mut rest = String::new();
        socket.read_to_string(&mut rest).unwrap();
        rest
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The message of an error of this status, which has all four of OpenAI's fields.
    pub fn error(&self, status: u16, code: Option<&str>, param: Option<&str>) -> String {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        let body = self.json();
        let error = &body["error"];
        assert_eq!(error.as_object().unwrap().len(), 4, "{}", self.body);
        assert_eq!((error["code"].as_str(), error["param"].as_str()), (code, param), "{}", self.body);
        assert!(error["type"].is_string(), "{}", self.body);
        error["message"].as_str().unwrap().to_owned()
    }
}
