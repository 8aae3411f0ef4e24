//! What a page is, where structure leaves it open: one question to the local model, answered with one word.

use std::time::Instant;

use crate::attempt::{Attempt, AttemptResult, Tokens};
use crate::extract::{Resources, prompt};
use crate::gate;
use crate::posting::Route;
use crate::reading::Reading;

/// The reading as the model sees it, with the question as a try; as it was where the gate is sure, or nobody answers.
pub async fn ask_kind(resources: &Resources, reading: Reading) -> (Reading, Option<Attempt>) {
    let Some(local) = resources.models.local.as_ref().filter(|_| reading.is_close()) else {
        return (reading, None);
    };
    let started = Instant::now();
    let answered = local.chat.chat(&prompt::kind(&local.name, &reading)).await;
    let mut attempt = Attempt {
        route: Route::Local,
        reason: format!("what the page is: {} is close", reading.gate_reason()),
        tokens: Tokens::default(),
        cost_usd: 0.0,
        seconds: started.elapsed().as_secs_f64(),
        result: AttemptResult::Done(0),
    };
    match answered {
        Ok(response) => {
            let usage = &response.usage;
            attempt.tokens = Tokens {
                prompt: usage.prompt_tokens,
                completion: usage.completion_tokens,
                is_estimate: false,
            };
            match response.text().and_then(gate::read_answer) {
                Some(kind) if kind != reading.kind() => {
                    let reason = format!("the model says so; by structure: {}", reading.gate_reason());
                    return (reading.as_kind(kind, reason), Some(attempt));
                }
                Some(_) => {}
                None => attempt.result = AttemptResult::Failed("the answer names no kind".to_owned()),
            }
        }
        // The page goes on as its structure says; a server that fails shows in its next try.
        Err(error) => attempt.result = AttemptResult::Failed(error.to_string()),
    }
    (reading, Some(attempt))
}
