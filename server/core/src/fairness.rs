//! Whose request is next: start-time fair queuing over clients (Goyal, Vin, Cheng, SIGCOMM 1996).
//!
//! ```text
//! start(request)  = max(virtual time, finish of its client's request before)
//! finish(request) = start + its tokens, computed and expected
//! virtual time    = the largest start of a request that was admitted
//! ```
//! A client that sends a hundred requests gets tags far in the future; one that sends its first gets today's. So each
//! client has the same share of tokens while it has requests, and nobody is paid for time in which it had none.

use std::collections::BTreeMap;

/// Tokens that an answer is taken to have where more are allowed: most are shorter than their bound.
const OUTPUT_TOKENS_EXPECTED: u32 = 256;

/// The virtual clock and the clients that are ahead of it.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    virtual_time: u64,
    /// Finish of each client's last request; those that are past are forgotten.
    finish: BTreeMap<u64, u64>,
}

impl Fairness {
    /// The start tag of a new request.
    pub fn submit(&mut self, client: u64, prompt_tokens: u32, tokens_max: u32) -> u64 {
        let cost = u64::from(prompt_tokens) + u64::from(tokens_max.min(OUTPUT_TOKENS_EXPECTED));
        let start = self.finish.get(&client).copied().unwrap_or(0).max(self.virtual_time);
        self.finish.insert(client, start.saturating_add(cost));
        start
    }

    /// A request with this start tag runs for the first time.
    pub fn admit(&mut self, start_tag: u64) {
        if start_tag > self.virtual_time {
            self.virtual_time = start_tag;
            self.finish.retain(|_, finish| *finish > start_tag);
        }
    }

    /// Nothing is queued or runs: nobody is ahead of anybody.
    pub fn idle(&mut self) {
        self.finish.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_waits_for_one_request_of_a_busy_client() {
        let mut fairness = Fairness::default();
        let busy: Vec<u64> = (0..5).map(|_| fairness.submit(1, 100, 50)).collect();
        assert_eq!(busy, [0, 150, 300, 450, 600]);
        fairness.admit(busy[1]);
        assert_eq!(fairness.submit(2, 100, 50), 150, "before the busy client's third");
        assert_eq!(fairness.submit(2, 100, 1000), 300);
        fairness.idle();
        assert_eq!(fairness.submit(1, 1, 1), 150, "nobody is punished for the past");
    }
}
