//! Many more requests at once than there is room for: each gets a whole answer or a refusal, and each is counted.

mod support;

use std::thread;

use serde_json::json;
use support::{Answer, Server, chat_body, model};

const AT_ONCE: usize = 200;

#[test]
fn everybody_is_served_or_refused() {
    let mut server = Server::ready(&model(), &[("SERVER__QUEUE_MAX", "8")]);
    let is_stream = |n: usize| n.is_multiple_of(4);
    let sent: Vec<_> = (0..AT_ONCE)
        .map(|n| {
            let body =
                chat_body(json!({"stream": is_stream(n), "ignore_eos": true, "max_completion_tokens": 6}));
            server.send("POST /v1/chat/completions HTTP/1.0", body.to_string().as_bytes())
        })
        .collect();
    let readers: Vec<_> = sent.into_iter().map(|socket| thread::spawn(|| Answer::read(socket))).collect();
    let mut served = 0;
    for (n, reader) in readers.into_iter().enumerate() {
        let answer = reader.join().unwrap();
        match answer.status {
            200 if is_stream(n) => {
                let is_whole = answer.body.contains(r#""finish_reason":"length""#)
                    && answer.body.ends_with("data: [DONE]\n\n");
                assert!(is_whole && !answer.body.contains(r#""error""#), "{}", answer.body);
                served += 1;
            }
            200 => {
                let body = answer.json();
                assert_eq!(body["usage"]["completion_tokens"], 6, "{body}");
                assert!(
                    body.get("error").is_none() && body["choices"][0]["finish_reason"] == "length",
                    "{body}"
                );
                served += 1;
            }
            _ => {
                answer.error(429, Some("queue_full"), None);
                assert!(answer.header("retry-after").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0)));
            }
        }
    }
    let refused = AT_ONCE - served;
    assert!(served >= 8 && refused > 0, "{served} served, {refused} refused");
    server.wait_idle();
    assert_eq!(server.metric("vllm:request_success_total") as usize, served);
    assert_eq!(server.metric("vllm:admission_rejections_total") as usize, refused);
    assert_eq!(server.metric("quarry_requests_refused_total") as usize, refused);
    server.still_answers();
}
