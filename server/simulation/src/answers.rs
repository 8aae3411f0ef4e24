//! Every request is answered once, with what it would have got alone, and fails only for a reason.

use quarry_core::ids::{ModelId, RequestId};
use quarry_core::plan::{FinishReason, Finished, Refused, RefusedReason};

use crate::oracle::expected;
use crate::world::World;

impl World {
    pub fn finish(&mut self, finished: &Finished) {
        let request = finished.request;
        assert!(self.unanswered.remove(&request), "{finished:?} is answered once");
        assert!(!self.must_refuse.contains(&request), "{finished:?} came after the shutdown");
        self.live.remove(&request);
        let parts = &self.requests[&request];
        assert_eq!(finished.prompt_tokens as usize, parts.prompt.len());
        assert!(finished.cached_tokens < finished.prompt_tokens, "the last prompt token is always computed");
        self.seen.cached_tokens += u64::from(finished.cached_tokens);
        match finished.reason {
            FinishReason::Cancelled => {
                self.seen.cancelled += 1;
                assert!(self.cancelled.contains(&request));
            }
            FinishReason::Deadline => {
                self.seen.late += 1;
                assert!(self.is_late(request), "{finished:?} had time left");
            }
            FinishReason::Failed => {
                self.seen.failed += 1;
                assert!(self.may_fail.contains(&request), "{finished:?} had no reason to fail");
            }
            FinishReason::Stop | FinishReason::Length => {
                self.seen.completed += 1;
                assert!(!self.must_fail.contains(&request), "the step of {finished:?} failed");
                let room = self.room(parts.model);
                let expected = expected(parts, room as usize);
                assert_eq!((finished.reason, finished.output_tokens), expected, "{finished:?}");
            }
        }
    }

    /// Whether a request's deadline has passed.
    pub fn is_late(&self, request: RequestId) -> bool {
        self.requests[&request].deadline.is_some_and(|deadline| deadline <= self.now())
    }

    pub fn refuse(&mut self, refused: &Refused) {
        self.seen.refused += 1;
        assert!(self.unanswered.remove(&refused.request), "{refused:?} is answered once");
        self.live.remove(&refused.request);
        let is_late = self.must_refuse.contains(&refused.request);
        assert_eq!(is_late, refused.reason == RefusedReason::ShuttingDown, "{refused:?}");
    }

    /// The runtime says of everybody who asked that the engine starts anew.
    pub fn fail_everybody(&mut self) {
        for request in std::mem::take(&mut self.live) {
            assert!(self.unanswered.remove(&request), "request {request} is answered once");
            self.seen.failed_by_restart += 1;
        }
    }

    /// Whose model cannot be had may fail.
    pub fn let_fail(&mut self, model: ModelId) {
        let of_model = |id: &&RequestId| self.requests[id].model == model;
        self.may_fail.extend(self.live.iter().filter(of_model));
    }

    /// Tokens that a sequence of the model may have.
    pub fn room(&self, model: ModelId) -> u32 {
        let setup = self.device.setups[&model];
        setup.context_tokens_max.min(self.limits.kv_slabs * setup.slab_blocks * setup.block_tokens)
    }
}
