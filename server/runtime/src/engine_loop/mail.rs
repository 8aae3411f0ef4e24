//! What clients want, and their answers.

use quarry_core::plan::{Event, Refused, StepPlan};

use super::{EngineLoop, Next};
use crate::generate::GenerateError;
use crate::inbox::{Mail, Wish};

impl EngineLoop {
    /// Turns mail into events.
    pub(super) fn accept(&mut self, mail: Mail) -> Next {
        if mail.stop {
            return Next::Stop;
        }
        for mut job in mail.submissions {
            if let Some(request) = job.request.take() {
                self.jobs.insert(job.id, job);
                self.events.push(Event::Submit(request));
            }
        }
        self.events.extend(mail.cancels.into_iter().map(Event::Cancel));
        for (model, wish) in mail.wishes {
            match wish {
                Wish::Load => self.wish_load(model),
                Wish::Unload => self.wish_unload(model),
            }
        }
        for opened in mail.arrived {
            self.arrived(opened);
        }
        for (model, result) in mail.loaded {
            self.loaded(model, result);
        }
        // After the submissions: what was accepted before is still answered.
        if mail.drain {
            self.draining = true;
            self.events.push(Event::Shutdown);
        }
        Next::Again
    }

    /// Answers what ended or was refused.
    pub(super) fn settle(&mut self, plan: &StepPlan) {
        for finished in &plan.finished {
            if let Some(job) = self.jobs.remove(&finished.request) {
                let request_id = job.request_id.clone();
                let failure = self.load_failure(job.model.id);
                let stats = job.finish(finished, failure);
                tracing::info!(
                    request_id = %request_id,
                    model = %stats.model,
                    prompt_tokens = stats.prompt_tokens,
                    cached_tokens = stats.cached_tokens,
                    completion_tokens = stats.completion_tokens,
                    queue_s = stats.queue_s,
                    prefill_s = stats.prefill_s,
                    decode_s = stats.decode_s,
                    finish_reason = ?stats.reason,
                    "request ended"
                );
                self.observer.request(&stats);
            }
        }
        for &Refused { request, reason } in &plan.refused {
            if let Some(job) = self.jobs.remove(&request) {
                job.fail(GenerateError::Refused(reason));
            }
        }
    }
}
