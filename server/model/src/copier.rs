//! A thread that copies blocks between a device that is the host and the host pool, so that steps go on meanwhile.
//!
//! An order is checked and its addresses are found where it is given; only bytes move here. Orders are carried out one
//! after another. There is at most one for each sequence, so the queue is bounded by their number.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use quarry_core::ids::SwapId;

use crate::executor::{ExecError, SwapDone};

/// The bytes of one order's blocks are moved by this; it says how many.
type Work = Box<dyn FnOnce() -> Result<usize, ExecError> + Send>;

struct Order {
    id: SwapId,
    work: Work,
    done: Sender<SwapDone>,
}

/// The thread; it ends when this is dropped and every order is carried out.
pub struct Copier {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// Where the ends of one model's orders arrive.
pub struct Completions {
    sender: Sender<SwapDone>,
    receiver: Receiver<SwapDone>,
}

impl Default for Completions {
    fn default() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver }
    }
}

impl Completions {
    /// Appends what ended since the last call.
    pub fn poll(&self, done: &mut Vec<SwapDone>) {
        done.extend(self.receiver.try_iter());
    }
}

impl Copier {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, where it would not start one.
    pub fn start() -> std::io::Result<Self> {
        let (orders, receiver) = channel::<Order>();
        let thread = std::thread::Builder::new().name("copier".into()).spawn(move || {
            for Order { id, work, done } in receiver {
                let begun = Instant::now();
                let result = work();
                let bytes = result.as_ref().copied().unwrap_or(0);
                let seconds = begun.elapsed().as_secs_f64();
                // A receiver that is gone was a model that nobody waits for any more.
                let _ = done.send(SwapDone { id, result: result.map(drop), bytes, seconds });
            }
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Queues an order.
    ///
    /// # Errors
    /// [`ExecError::Device`] where the thread is gone.
    pub fn order(
        &self,
        id: SwapId,
        completions: &Completions,
        work: impl FnOnce() -> Result<usize, ExecError> + Send + 'static,
    ) -> Result<(), ExecError> {
        let order = Order { id, work: Box::new(work), done: completions.sender.clone() };
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        sent.then_some(()).ok_or_else(|| ExecError::Device("the copier thread is gone".into()))
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was an order's, which its model misses already.
            let _ = thread.join();
        }
    }
}
