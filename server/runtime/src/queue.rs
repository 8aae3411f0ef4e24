//! Room for requests that wait for their first step: taken before anything is paid for (templates, tokens, schemas), so
//! that a full server says so at once, and given back when the request first runs or ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bound and how much of it is taken.
pub struct Queue {
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// One request's room in the queue; given back when this is dropped.
pub struct Reservation {
    queue: Arc<Queue>,
}

impl Queue {
    /// Room for so many.
    pub fn new(waiting_max: usize) -> Arc<Self> {
        Arc::new(Self { waiting: AtomicUsize::new(0), waiting_max })
    }

    /// Room for one more, or how many wait where there is none.
    pub fn reserve(self: &Arc<Self>) -> Result<Reservation, usize> {
        let more = |waiting: usize| (waiting < self.waiting_max).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map(|_| Reservation { queue: self.clone() })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_comes_back() {
        let queue = Queue::new(2);
        let (first, second) = (queue.reserve().ok().unwrap(), queue.reserve().ok().unwrap());
        assert_eq!(queue.reserve().err(), Some(2));
        drop(first);
        let third = queue.reserve().ok().unwrap();
        assert_eq!(queue.reserve().err(), Some(2));
        drop((second, third));
        assert_eq!(Queue::new(0).reserve().err(), Some(0));
    }
}
