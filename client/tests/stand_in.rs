//! The client against a stand-in server on localhost: what it sends, what it reads, when it tries again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode};
use futures::StreamExt as _;
use quarry_client::retry::RetryPolicy;
use quarry_client::{Client, ClientError, ClientOptions};
use quarry_openapi::{ChatMessage, ChatRequest, TokenizeRequest};
use serde_json::{Value, json};

/// What the stand-in was sent: path, headers, body.
type Seen = Arc<Mutex<Vec<(String, HeaderMap, Value)>>>;

/// Serves `answers` in turn, the last one for ever.
async fn stand_in(answers: Vec<fn() -> Response<Body>>) -> (String, Seen) {
    let seen = Seen::default();
    let log = seen.clone();
    let app = Router::new().fallback(move |request: Request| {
        let log = log.clone();
        let answers = answers.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let mut log = log.lock().unwrap();
            log.push((parts.uri.path().to_owned(), parts.headers, body));
            answers[log.len().min(answers.len()) - 1]()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (base_url, seen)
}

fn options(base_url: &str) -> ClientOptions {
    let quick = RetryPolicy { backoff_first: Duration::from_millis(1), ..RetryPolicy::default() };
    ClientOptions { retry: quick, ..ClientOptions::new(base_url) }
}

fn request() -> ChatRequest {
    ChatRequest { model: "m".into(), messages: vec![ChatMessage::user("hi")], ..ChatRequest::default() }
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let builder = Response::builder().status(StatusCode::from_u16(status).unwrap());
    headers.iter().fold(builder, |b, (k, v)| b.header(*k, *v)).body(body.into()).unwrap()
}

fn whole() -> Response<Body> {
    let body = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello", "refusal": null},
                     "finish_reason": "stop", "logprobs": null}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}});
    answer(200, &[("content-type", "application/json")], body.to_string())
}

fn busy() -> Response<Body> {
    let body = json!({"error": {"message": "queue full", "type": "rate_limit_error", "param": null, "code": "queue_full"}});
    answer(429, &[("retry-after-ms", "2"), ("x-request-id", "r-1")], body.to_string())
}

fn gateway() -> Response<Body> {
    answer(502, &[], "<html>bad gateway</html>")
}

fn bad() -> Response<Body> {
    let body = json!({"error": {"message": "too long", "type": "invalid_request_error", "param": "messages",
        "code": "context_length_exceeded"}});
    answer(400, &[], body.to_string())
}

#[tokio::test]
async fn gpt5_style_request_is_sent_as_asked_and_nothing_more() {
    let (base_url, seen) = stand_in(vec![whole]).await;
    let client = Client::new(ClientOptions { api_key: Some("k".into()), ..options(&base_url) }).unwrap();
    let request = ChatRequest {
        max_completion_tokens: Some(50),
        reasoning_effort: Some("minimal".into()),
        stream: Some(true),
        ..request()
    };
    let answer = client.with_request_id("page-7").chat(&request).await.unwrap();
    assert_eq!((answer.text(), answer.usage.total_tokens), (Some("hello"), 4));
    let seen = seen.lock().unwrap();
    let (path, headers, body) = &seen[0];
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(headers["authorization"], "Bearer k");
    assert_eq!(headers["x-request-id"], "page-7");
    assert_eq!(
        *body,
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 50,
            "reasoning_effort": "minimal"})
    );
}

#[tokio::test]
async fn busy_and_broken_servers_are_tried_again() {
    let (base_url, seen) = stand_in(vec![busy, gateway, whole]).await;
    let client = Client::new(options(&base_url)).unwrap();
    assert_eq!(client.chat(&request()).await.unwrap().text(), Some("hello"));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn after_the_last_try_the_error_tells_all() {
    let (base_url, seen) = stand_in(vec![busy]).await;
    let client = Client::new(options(&base_url)).unwrap();
    let error = client.chat(&request()).await.unwrap_err();
    let ClientError::Status { status, error, retry_after, request_id, attempts, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((status, attempts, error.code.as_deref()), (429, 3, Some("queue_full")));
    assert_eq!((retry_after, request_id.as_deref()), (Some(Duration::from_millis(2)), Some("r-1")));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_wrong_request_is_not_tried_again() {
    let (base_url, seen) = stand_in(vec![bad]).await;
    let client = Client::new(options(&base_url)).unwrap();
    let error = client.chat_stream(&request()).await.err().unwrap();
    assert!(error.is_context_length());
    assert_eq!((error.status(), error.attempts()), (Some(400), Some(1)));
    assert_eq!(error.api_error().unwrap().param.as_deref(), Some("messages"));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_error_that_is_no_json_shows_its_start() {
    let (base_url, _) = stand_in(vec![gateway]).await;
    let client = Client::new(ClientOptions { retry: RetryPolicy::never(), ..options(&base_url) }).unwrap();
    let error = client.chat(&request()).await.unwrap_err();
    assert_eq!(error.api_error().unwrap().message, "<html>bad gateway</html>");
}

#[tokio::test]
async fn nobody_there_is_a_connection_error_with_its_attempts() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(options(&base_url)).unwrap();
    let error = client.chat(&request()).await.unwrap_err();
    assert!(matches!(error, ClientError::Connection { attempts: 3, .. }), "{error}");
    assert!(!client.is_ready().await);
}

#[tokio::test]
async fn a_body_past_the_bound_is_not_read() {
    let (base_url, _) = stand_in(vec![|| answer(200, &[], vec![b' '; 4096])]).await;
    let client = Client::new(ClientOptions { body_bytes_max: 1000, ..options(&base_url) }).unwrap();
    let error = client.models().await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { bytes_max: 1000, .. }), "{error}");
}

#[tokio::test]
async fn a_silent_server_times_out() {
    fn silent() -> Response<Body> {
        answer(200, &[], Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>()))
    }
    let (base_url, _) = stand_in(vec![silent]).await;
    let short = Duration::from_millis(50);
    let client =
        Client::new(ClientOptions { idle_timeout: short, total_timeout: short, ..options(&base_url) })
            .unwrap();
    let error = client.chat(&request()).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { attempts: 1, .. }), "{error}");
    let mut stream = client.chat_stream(&request()).await.unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    assert!(stream.next().await.is_none());
}

fn events(text: &'static str) -> Response<Body> {
    // One byte at a time: the cuts fall everywhere.
    let pieces = text.as_bytes().chunks(1).map(Ok::<_, std::io::Error>);
    answer(200, &[("content-type", "text/event-stream")], Body::from_stream(futures::stream::iter(pieces)))
}

async fn collect(client: &Client) -> (String, Option<ClientError>) {
    let mut stream = client.chat_stream(&request()).await.unwrap();
    let mut text = String::new();
    while let Some(item) = stream.next().await {
        match item {
            Ok(chunk) => text.extend(chunk.choices.into_iter().filter_map(|c| c.delta.content)),
            Err(error) => return (text, Some(error)),
        }
    }
    (text, None)
}

#[tokio::test]
async fn a_stream_is_read_to_its_end() {
    let (base_url, seen) = stand_in(vec![|| {
        events(concat!(
            ": ping\r\n\r\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"gr\u{fc}\"}}]}\r\n\r\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"n\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n",
            "data: [DONE]\n\ndata: {never read\n\n",
        ))
    }])
    .await;
    let client = Client::new(options(&base_url)).unwrap();
    let (text, error) = collect(&client).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(text, "gr\u{fc}n");
    assert_eq!(seen.lock().unwrap()[0].2["stream_options"], json!({"include_usage": true}));
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_an_error() {
    let (base_url, _) = stand_in(vec![
        || {
            events(concat!(
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
                "data: {\"error\":{\"message\":\"engine failed\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
            ))
        },
        || events("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"),
        || events("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n"),
        || events("data: {oops}\n\n"),
    ])
    .await;
    let client = Client::new(options(&base_url)).unwrap();
    let (text, error) = collect(&client).await;
    assert_eq!(text, "a");
    assert!(matches!(error, Some(ClientError::MidStream { error }) if error.message == "engine failed"));
    assert!(matches!(collect(&client).await.1, Some(ClientError::Interrupted)));
    assert!(collect(&client).await.1.is_none(), "an answer that ended needs no [DONE]");
    assert!(matches!(collect(&client).await.1, Some(ClientError::Decode { .. })));
}

#[tokio::test]
async fn endpoints_beside_openais_are_found_at_the_root() {
    let (base_url, seen) = stand_in(vec![
        || answer(200, &[], r#"{"tokens":[1,2],"count":2,"max_model_len":9}"#),
        || answer(200, &[], r#"{"model":"m","prompt":"p","token_ids":[1],"count":1,"prompt_tokens_max":8}"#),
        || answer(503, &[], "{}"),
        || answer(200, &[], r#"{"status":"ok"}"#),
    ])
    .await;
    let client = Client::new(options(&base_url)).unwrap();
    let asked = TokenizeRequest { prompt: "ab".into(), ..TokenizeRequest::default() };
    assert_eq!(client.tokenize(&asked).await.unwrap().tokens, [1, 2]);
    assert_eq!(client.render(&request()).await.unwrap().count, 1);
    assert!(!client.is_ready().await);
    assert!(client.is_healthy().await);
    let paths: Vec<String> = seen.lock().unwrap().iter().map(|(path, ..)| path.clone()).collect();
    assert_eq!(paths, ["/tokenize", "/v1/chat/completions/render", "/ready", "/health"]);
}

#[test]
fn options_are_checked_and_the_key_is_not_shown() {
    for base_url in ["", "localhost:8000", "ftp://x/v1"] {
        assert!(
            matches!(Client::new(ClientOptions::new(base_url)), Err(ClientError::Options { .. })),
            "{base_url}"
        );
    }
    let options = ClientOptions { api_key: Some("sk-secret".into()), ..ClientOptions::new("http://x/v1") };
    assert!(!format!("{options:?}").contains("sk-secret"));
    assert!(!format!("{:?}", Client::new(options)).contains("sk-secret"));
}
