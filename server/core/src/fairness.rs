//! Whose request is next: start-time fair queuing over clients (Goyal, Vin, Cheng, SIGCOMM 1996).
//!
//! ```text
//! start(request)  = max(virtual time, finish of its client's request before)
//! finish(request) = start + its tokens, computed and expected
//! virtual time    = the largest start of a request that was admitted
//! ```
//! A client that sends a hundred requests gets tags far in the future; one that sends its first gets today's. So each
//! client has the same share of tokens while it has requests, and nobody is paid for time in which it had none. Each
//! model and priority has a clock of its own, for only its requests are ranked by these tags: on a common one, what
//! others are ahead would put a newcomer behind all who wait.

use std::collections::BTreeMap;

use crate::ids::ModelId;
use crate::limits::CLIENTS_MAX;
use crate::request::RequestParts;

/// Tokens that an answer is taken to have where more are allowed: most are shorter than their bound.
const OUTPUT_TOKENS_EXPECTED: u32 = 256;

/// Whose tags are compared: requests of one model and priority.
pub(crate) type Queue = (ModelId, i32);

/// The queue of a request.
pub(crate) fn queue(parts: &RequestParts) -> Queue {
    (parts.model, parts.priority)
}

/// The clock of every queue that has live requests.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    clocks: BTreeMap<Queue, Clock>,
}

/// The virtual clock and the clients that are ahead of it.
#[derive(Debug, Default)]
struct Clock {
    virtual_time: u64,
    /// Finish of each client's last request; those that are past are forgotten.
    finish: BTreeMap<u64, u64>,
}

impl Fairness {
    /// The start tag of a new request.
    pub fn submit(&mut self, queue: Queue, client: u64, prompt_tokens: u32, tokens_max: u32) -> u64 {
        let Clock { virtual_time, finish } = self.clocks.entry(queue).or_default();
        let cost = u64::from(prompt_tokens) + u64::from(tokens_max.min(OUTPUT_TOKENS_EXPECTED));
        let start = finish.get(&client).copied().unwrap_or(0).max(*virtual_time);
        if finish.len() >= CLIENTS_MAX && !finish.contains_key(&client) {
            // Ever new clients keep the clock where it is: who is least ahead loses nothing much.
            let least = finish.iter().min_by_key(|(_, finish)| **finish).map(|(client, _)| *client);
            least.map(|client| finish.remove(&client));
        }
        finish.insert(client, start.saturating_add(cost));
        start
    }

    /// A request with this start tag runs for the first time.
    pub fn admit(&mut self, queue: Queue, start_tag: u64) {
        let Some(clock) = self.clocks.get_mut(&queue) else { return };
        if start_tag > clock.virtual_time {
            clock.virtual_time = start_tag;
            clock.finish.retain(|_, finish| *finish > start_tag);
        }
    }

    /// Nothing of it is queued or runs: nobody is ahead of anybody.
    pub fn idle(&mut self, queue: Queue) {
        self.clocks.remove(&queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: Queue = (ModelId(0), 0);

    #[test]
    fn a_newcomer_waits_for_one_request_of_a_busy_client() {
        let mut fairness = Fairness::default();
        let busy: Vec<u64> = (0..5).map(|_| fairness.submit(QUEUE, 1, 100, 50)).collect();
        assert_eq!(busy, [0, 150, 300, 450, 600]);
        fairness.admit(QUEUE, busy[1]);
        assert_eq!(fairness.submit(QUEUE, 2, 100, 50), 150, "before the busy client's third");
        assert_eq!(fairness.submit(QUEUE, 2, 100, 1000), 300);
        fairness.idle(QUEUE);
        assert_eq!(fairness.submit(QUEUE, 1, 1, 1), 0, "nobody is punished for the past");
    }

    #[test]
    fn what_is_done_elsewhere_puts_nobody_behind() {
        let mut fairness = Fairness::default();
        for elsewhere in [(ModelId(1), 0), (ModelId(0), -1)] {
            let tags: Vec<u64> = (0..9).map(|_| fairness.submit(elsewhere, 1, 100, 50)).collect();
            fairness.admit(elsewhere, tags[8]);
        }
        let waiting: Vec<u64> = (0..9).map(|_| fairness.submit(QUEUE, 1, 100, 50)).collect();
        assert!(fairness.submit(QUEUE, 2, 100, 50) < waiting[1]);
    }

    #[test]
    fn no_more_clients_are_remembered_than_may() {
        let mut fairness = Fairness::default();
        fairness.submit(QUEUE, 0, 1000, 1);
        for client in 1..=2 * CLIENTS_MAX as u64 {
            fairness.submit(QUEUE, client, 1, 1);
        }
        assert_eq!(fairness.clocks[&QUEUE].finish.len(), CLIENTS_MAX);
        assert_eq!(fairness.submit(QUEUE, 0, 1, 1), 1001, "who is far ahead is remembered");
    }
}
