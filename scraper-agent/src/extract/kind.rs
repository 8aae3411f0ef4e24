//! What a page is, where structure leaves it open: one question to the local model, answered with one word.
//!
//! Small models answer such a question the same whatever they are shown. So a model is first asked about invented pages of
//! known kinds, once a run; only one that sorts these is asked about real ones.

use std::time::Instant;

use crate::attempt::{Attempt, AttemptResult, Tokens};
use crate::extract::{LocalModel, Resources, prompt};
use crate::gate;
use crate::posting::Route;
use crate::reading::Reading;

/// Invented pages that a model may sort wrongly.
const WRONG_MAX: usize = 1;

/// The reading as the model sees it, with the question as a try; as it was where the gate is sure, where the model cannot
/// tell pages apart, or where nobody answers.
pub async fn ask_kind(resources: &Resources, reading: Reading) -> (Reading, Option<Attempt>) {
    let Some(local) = resources.models.local.as_ref().filter(|_| reading.is_close()) else {
        return (reading, None);
    };
    if !*local.can_judge.get_or_init(|| can_judge(local)).await {
        return (reading, None);
    }
    let started = Instant::now();
    let answered = local.chat.chat(&prompt::kind(&local.name, &reading.gate_digest())).await;
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

async fn can_judge(local: &LocalModel) -> bool {
    let mut right = 0;
    for (kind, digest) in &gate::SAMPLES {
        let answered = local.chat.chat(&prompt::kind(&local.name, digest)).await;
        let said = answered.ok().and_then(|response| response.text().and_then(gate::read_answer));
        right += usize::from(said == Some(*kind));
    }
    let samples = gate::SAMPLES.len();
    let can_judge = right + WRONG_MAX >= samples;
    tracing::info!(model = %local.name, right, samples, can_judge, "asked the model about pages of known kinds");
    can_judge
}
