//! Who waits for admission: no more than may, and a client's first request not behind everything that others sent.
//!
//! The bound of fairness: whoever sends a model its first request of a priority waits for at most one admission of each
//! other client that waits there, for those have a request each whose turn is now; their further ones come later.

use std::collections::{BTreeMap, BTreeSet};

use quarry_core::ids::{ModelId, RequestId};
use quarry_core::request::RequestParts;
use quarry_core::scheduler::Scheduler;

use crate::seen::Seen;

/// Requests of one model and priority are served by their clients' turns.
type Queue = (ModelId, i32);

/// A request that has not been on the device yet.
struct Waiting {
    queue: Queue,
    client: u64,
    /// For a client's first one: who waited before it, and how many of its queue may still go first.
    first: Option<(BTreeSet<RequestId>, usize)>,
}

/// All of them, by what was submitted and what the scheduler says of it.
#[derive(Default)]
pub struct Queues {
    waiting: BTreeMap<RequestId, Waiting>,
    clients: BTreeSet<(Queue, u64)>,
}

impl Queues {
    /// The scheduler has taken in a step's submissions: `accepted` are those that it did not refuse, in their order.
    pub fn submitted(&mut self, accepted: &[&RequestParts]) {
        for parts in accepted {
            let (queue, client) = ((parts.model, parts.priority), parts.client);
            if parts.deadline.is_some() {
                // A client's own requests change places with it.
                let own = |w: &&mut Waiting| (w.queue, w.client) == (queue, client);
                self.waiting.values_mut().filter(own).for_each(|waiting| waiting.first = None);
            }
            let is_first = self.clients.insert((queue, client));
            let first = is_first.then(|| {
                let others = || self.waiting.iter().filter(|(_, other)| other.queue == queue);
                let clients: BTreeSet<u64> = others().map(|(_, other)| other.client).collect();
                (others().map(|(id, _)| *id).collect(), clients.len())
            });
            self.waiting.insert(parts.id, Waiting { queue, client, first });
        }
    }

    /// A step was made: who was admitted in it, and that nobody was passed by more than may.
    pub fn stepped(&mut self, scheduler: &Scheduler, queue_max: usize, seen: &mut Seen) {
        let mut admitted = Vec::new();
        self.waiting.retain(|id, waiting| match scheduler.sequence_of(*id) {
            Some(sequence) if sequence.was_admitted() => {
                admitted.push((*id, waiting.queue, waiting.first.take()));
                false
            }
            Some(_) => true,
            None => false, // ended before its turn
        });
        assert!(self.waiting.len() <= queue_max, "more than {queue_max} requests wait");
        for (_, queue, first) in &admitted {
            if let Some((before, _)) = first
                && !before.is_empty()
            {
                seen.firsts += 1;
                let is_behind = |id: &&RequestId| self.waiting.get(id).is_some_and(|w| w.queue == *queue);
                seen.overtakes += before.iter().filter(is_behind).count() as u64;
            }
        }
        // Who came in the same step may have come after it, so only those who still wait were passed for certain.
        for (id, waiting) in &mut self.waiting {
            let Some((_, left)) = &mut waiting.first else { continue };
            let passed = admitted.iter().filter(|(_, queue, _)| *queue == waiting.queue).count();
            assert!(passed <= *left, "first request {id} of client {} is passed too often", waiting.client);
            *left -= passed;
        }
    }

    /// The engine started anew: everybody's next request is a first one.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
