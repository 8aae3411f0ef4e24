//! On a real socket: shutting down well, clients that vanish, connections past the bound.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use quarry_http::{AppState, Limits, serve};
use quarry_runtime::Engine;
use serde_json::json;
use support::{chat, idle, start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    address: SocketAddr,
    engine: Engine,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), quarry_http::ServeError>>,
}

async fn server(limits: Limits) -> Server {
    let (engine, metrics) = tokio::task::spawn_blocking(start).await.unwrap();
    let state = AppState::new(metrics, limits).unwrap();
    state.set_engine(engine.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, state, async move {
        let _ = stopped.await;
    }));
    Server { address, engine, stop, serving }
}

async fn post(address: SocketAddr, body: &serde_json::Value) -> TcpStream {
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    socket
}

async fn read_all(mut socket: TcpStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    read_all(socket).await
}

fn long(stream: bool, tokens: u32) -> serde_json::Value {
    chat("Tell me a story.", json!({"stream": stream, "ignore_eos": true, "max_completion_tokens": tokens}))
}

async fn running(engine: &Engine) {
    for _ in 0..1000 {
        if engine.snapshot().sum(|m| m.running) > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_client_frees_its_request() {
    let server = server(Limits::default()).await;
    for stream in [false, true] {
        let socket = post(server.address, &long(stream, 900)).await;
        running(&server.engine).await;
        drop(socket);
        idle(&server.engine).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_finishes_what_runs_and_takes_nothing_new() {
    let server = server(Limits::default()).await;
    let socket = post(server.address, &long(true, 150)).await;
    running(&server.engine).await;
    server.stop.send(()).unwrap();
    let mut refused = String::new();
    for _ in 0..200 {
        refused = read_all(post(server.address, &long(false, 5)).await).await;
        if refused.starts_with("HTTP/1.1 503") {
            break;
        }
    }
    assert!(refused.contains("shutting_down") && refused.contains("retry-after"), "{refused}");
    let text = read_all(socket).await;
    assert!(text.contains("\"finish_reason\":\"length\"") && text.contains("data: [DONE]"), "{text}");
    server.serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_bound_running_requests_end_with_an_error() {
    let limits =
        Limits { drain: Duration::from_millis(50), close: Duration::from_secs(10), ..Limits::default() };
    let server = server(limits).await;
    let socket = post(server.address, &long(true, 900)).await;
    running(&server.engine).await;
    server.stop.send(()).unwrap();
    let text = read_all(socket).await;
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    server.serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_past_the_bound_serve_probes_then_wait() {
    let limits = Limits {
        connections_max: 1,
        reserved_connections_max: 1,
        reserved_request_timeout: Duration::from_secs(20),
        ..Limits::default()
    };
    let server = server(limits).await;
    let first = post(server.address, &long(true, 900)).await;
    running(&server.engine).await;
    // Probes are answered; each connection is closed after one answer, though it may not ask for it.
    for (path, word) in [("/health", "ok"), ("/ready", "ok"), ("/metrics", "vllm:num_requests_running")] {
        let mut probe = TcpStream::connect(server.address).await.unwrap();
        probe.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let text = read_all(probe).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains(word), "{text}");
    }
    // Anything else is told to come again, and counted.
    let text = read_all(post(server.address, &long(false, 5)).await).await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: 5"), "{text}");
    assert!(text.contains("connections_full"), "{text}");
    let scrape = get(server.address, "/metrics").await;
    let line = "quarry_requests_refused_total{model_name=\"unknown\",reason=\"connections_full\"} 1";
    assert!(scrape.contains(line), "{scrape}");
    // Where the reserved one is held too, a connection waits.
    let second = TcpStream::connect(server.address).await.unwrap();
    let third = get(server.address, "/health");
    let mut third = std::pin::pin!(third);
    let early = tokio::time::timeout(Duration::from_millis(100), third.as_mut()).await;
    assert!(early.is_err(), "the third connection was served while two were open");
    drop(second);
    assert!(third.await.contains("200 OK"));
    // When the first ends, everything is served again.
    drop(first);
    idle(&server.engine).await;
    let text = read_all(post(server.address, &long(false, 5)).await).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn a_burst_of_connections_is_kept_until_it_is_accepted() {
    let listener = quarry_http::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: past the system's backlog none would come to its end.
    let burst = futures::future::try_join_all((0..400).map(|_| TcpStream::connect(address)));
    let connected = tokio::time::timeout(Duration::from_secs(20), burst).await;
    assert_eq!(connected.expect("the backlog is too short").unwrap().len(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_do_not_keep_probes_out() {
    let limits = Limits {
        connections_max: 1,
        reserved_connections_max: 1,
        reserved_request_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = server(limits).await;
    let silent: Vec<TcpStream> =
        futures::future::join_all((0..4).map(|_| TcpStream::connect(server.address)))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
    let answer = tokio::time::timeout(Duration::from_secs(20), get(server.address, "/health")).await;
    assert!(answer.is_ok_and(|text| text.contains("200 OK")));
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_silent_connections_are_closed() {
    let server = server(Limits { head_timeout: Duration::from_millis(200), ..Limits::default() }).await;
    for head in ["", "GET /health HT", "GET /health HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(20), read_all(socket)).await;
        assert!(closed.is_ok(), "{head:?} holds a connection");
    }
    // A connection that was used may be used again, but not kept for ever.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..2 {
        socket.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut piece = [0; 1024];
        let read = socket.read(&mut piece).await.unwrap();
        assert!(piece[..read].starts_with(b"HTTP/1.1 200 OK"));
    }
    let closed = tokio::time::timeout(Duration::from_secs(20), read_all(socket)).await;
    assert!(closed.is_ok(), "an idle connection is kept");
    // An answer may take longer than a head.
    let text = read_all(post(server.address, &long(true, 60)).await).await;
    assert!(text.contains("data: [DONE]"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_bounded() {
    let server = server(Limits { head_bytes_max: 8 << 10, ..Limits::default() }).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET /health HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(64 << 10));
    let _ = socket.write_all(head.as_bytes()).await; // it may be closed before it has all
    let mut piece = [0; 256];
    let read = socket.read(&mut piece).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&piece[..read]);
    assert!(read == 0 || text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_cut_off() {
    let limits =
        Limits { connections_max: 1, write_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = server(limits).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    // Far more answers than sockets hold, none of them read.
    let ask = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2000);
    let (unread, mut asking) = first.into_split();
    let asked = tokio::spawn(async move { asking.write_all(ask.as_bytes()).await });
    // Until it is cut off only probes are answered.
    let is_free = async { while !get(server.address, "/version").await.contains("200 OK") {} };
    tokio::time::timeout(Duration::from_secs(20), is_free).await.expect("it is never cut off");
    drop((unread, asked));
}
