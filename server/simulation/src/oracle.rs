//! What a request must produce, computed alone and naively: no batch, no cache, no blocks.

use quarry_core::ids::{ModelId, TokenId};
use quarry_core::plan::FinishReason;
use quarry_core::request::RequestParts;

use crate::rng::mix;

const VOCABULARY: u64 = 40;

/// The KV of one position: it depends on the model and on every token up to there, and here on the salt too, so that
/// whoever reads a block of another salt is found out.
pub fn content(model: ModelId, salt: u64, before: Option<u64>, token: TokenId) -> u64 {
    let start = || mix(u64::from(model.0) + 1 + (salt << 32));
    mix(before.unwrap_or_else(start).wrapping_mul(31).wrapping_add(u64::from(token) + 7))
}

/// What the model and the constraint say after a position with this content.
pub struct Answer {
    pub token: TokenId,
    pub forced: Vec<TokenId>,
    /// Whether a stop string or the end of a constraint comes with these tokens.
    pub stops: bool,
}

pub fn answer(content: u64) -> Answer {
    let pick = |salt: u64| (mix(content ^ salt) % VOCABULARY) as TokenId;
    let forced = if mix(content ^ 1).is_multiple_of(8) { mix(content ^ 2) % 6 + 1 } else { 0 };
    Answer {
        token: pick(3),
        forced: (0..forced).map(|i| pick(100 + i)).collect(),
        stops: mix(content ^ 4).is_multiple_of(90),
    }
}

/// How the request ends and with how many output tokens, where nothing fails. `room` bounds prompt and output.
pub fn expected(parts: &RequestParts, room: usize) -> (FinishReason, u32) {
    let prompt = parts.prompt.len();
    let bound = room.min(prompt + parts.tokens_max as usize);
    let mut tokens = parts.prompt.clone();
    loop {
        let next = |before, &token| Some(content(parts.model, parts.cache_salt, before, token));
        let last = tokens.iter().fold(None, next);
        let answer = answer(last.expect("prompts are not empty"));
        let run: Vec<TokenId> = std::iter::once(answer.token).chain(answer.forced).collect();
        let output = tokens.len() - prompt;
        let room = bound - tokens.len();
        let stop = (0..run.len())
            .find(|i| output + i >= parts.tokens_min as usize && parts.stop_tokens.contains(&run[*i]));
        if let Some(stop) = stop.filter(|&stop| stop <= room) {
            return (FinishReason::Stop, (output + stop) as u32);
        }
        if run.len() > room {
            return (FinishReason::Length, (output + room) as u32);
        }
        tokens.extend(&run);
        if answer.stops {
            return (FinishReason::Stop, (output + run.len()) as u32);
        }
        if tokens.len() == bound {
            return (FinishReason::Length, (output + run.len()) as u32);
        }
    }
}
