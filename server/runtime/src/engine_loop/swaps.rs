//! Blocks on their way between device and host.

use std::collections::HashMap;

use quarry_core::ids::{ModelId, SwapId};
use quarry_core::plan::{Direction, Event, StepPlan, SwapFailed};
use quarry_model::executor::{ExecError, SwapDone};

use super::EngineLoop;

/// Weight of a swap in the mean of their rates.
const RATE_WEIGHT: f64 = 0.2;

/// Swaps in flight and how fast the last ones were.
#[derive(Default)]
pub(super) struct Swaps {
    in_flight: HashMap<SwapId, (ModelId, Direction)>,
    done: Vec<SwapDone>,
    bytes_per_s: Option<f64>,
}

impl Swaps {
    pub fn are_over(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Mean of the last ones; `None` before the first.
    pub fn bytes_per_s(&self) -> Option<f64> {
        self.bytes_per_s
    }

    /// Nobody waits for those in flight any more.
    pub fn forget(&mut self) {
        self.in_flight.clear();
        self.done.clear();
    }

    fn note_rate(&mut self, done: &SwapDone) {
        if done.result.is_ok() && done.seconds > 0.0 {
            let rate = done.bytes as f64 / done.seconds;
            let mean = self.bytes_per_s.map_or(rate, |mean| mean + RATE_WEIGHT * (rate - mean));
            self.bytes_per_s = Some(mean);
        }
    }
}

impl EngineLoop {
    pub(super) fn start_swaps(&mut self, plan: &StepPlan) {
        let host = &self.registry.host;
        for order in &plan.swaps {
            let known = self.registry.models.get_mut(order.model.0 as usize);
            let started = match known {
                Some(known) => known.kv.swap(order.id, host, &order.moves),
                None => Err(ExecError::BadMove(format!("model {} is not known", order.model))),
            };
            match started {
                Ok(()) => {
                    let direction = order.moves.first().map_or(Direction::Out, |first| first.direction);
                    self.swaps.in_flight.insert(order.id, (order.model, direction));
                }
                Err(error) => {
                    tracing::warn!(swap = order.id.0, %error, "swap failed");
                    self.events.push(Event::SwapDone(order.id, Err(SwapFailed)));
                }
            }
        }
    }

    pub(super) fn poll_swaps(&mut self) {
        if self.swaps.are_over() {
            return;
        }
        for known in &mut self.registry.models {
            known.kv.poll(&mut self.swaps.done);
        }
        for done in std::mem::take(&mut self.swaps.done) {
            let Some((model, direction)) = self.swaps.in_flight.remove(&done.id) else { continue };
            if let Some(known) = self.registry.get_mut(model) {
                match direction {
                    Direction::Out => known.swap_out_bytes += done.bytes as u64,
                    Direction::In => known.swap_in_bytes += done.bytes as u64,
                }
            }
            self.swaps.note_rate(&done);
            let result = done.result.map_err(|error| {
                tracing::warn!(swap = done.id.0, %error, "swap failed");
                SwapFailed
            });
            self.events.push(Event::SwapDone(done.id, result));
        }
    }
}
