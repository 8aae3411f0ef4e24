//! What each event does to the state. Late, doubled or unknown ids are counted and otherwise ignored.

use crate::fairness;
use crate::ids::{SequenceId, StepId, SwapId, Tick};
use crate::plan::{
    Event, FinishReason, Refused, RefusedReason, RowOutcome, StepOutcome, StepPlan, SwapFailed,
};
use crate::request::Request;
use crate::scheduler::{InFlight, InFlightRow, Scheduler};
use crate::sequence::{KvState, Sequence};

impl Scheduler {
    pub(crate) fn take(&mut self, event: Event, plan: &mut StepPlan) {
        match event {
            Event::Submit(request) => self.submit(request, plan),
            Event::Cancel(request) => match self.by_request.get(&request).copied() {
                // A step that all its clients' deadlines have passed is abandoned like one that nobody waits for.
                Some(id) if self.is_late(id) => self.end(id, FinishReason::Deadline),
                Some(id) => self.end(id, FinishReason::Cancelled),
                None => self.stray_events += 1,
            },
            Event::Load(setup) => self.load(setup),
            Event::Resident(model, is_resident) => self.set_resident(model, is_resident),
            Event::SwitchRequested(model) => self.turns.wanted = Some(model),
            Event::SwitchStarted(model) => self.switch_started(model),
            Event::SwitchDone(model, result) => self.switch_done(model, result.is_ok()),
            Event::StepDone(outcome) => self.step_done(&outcome),
            Event::StepFailed(step) => self.step_failed(step),
            Event::SwapDone(swap, result) => self.swap_done(swap, result),
            Event::Rates(model, rates) => match self.models.get_mut(&model) {
                Some(known) => known.rates = Some(rates),
                None => self.stray_events += 1,
            },
            Event::Shutdown => self.shutting_down = true,
        }
    }

    fn submit(&mut self, request: Request, plan: &mut StepPlan) {
        let parts = request.parts();
        let id = parts.id;
        // Who was pushed out is no newcomer.
        let waiting = self.sequences.values().filter(|s| !s.admitted_once).count();
        let refused = match self.models.get(&parts.model) {
            _ if self.shutting_down => Some(RefusedReason::ShuttingDown),
            None => Some(RefusedReason::UnknownModel),
            _ if self.by_request.contains_key(&id) => Some(RefusedReason::DuplicateId),
            Some(known) => {
                let prompt_tokens_max = known.tokens_max(self.limits.kv_slabs).saturating_sub(1);
                let prompt_tokens = u32::try_from(parts.prompt.len()).unwrap_or(u32::MAX);
                if prompt_tokens > prompt_tokens_max {
                    Some(RefusedReason::PromptTooLong { prompt_tokens, prompt_tokens_max })
                } else if waiting >= self.limits.queue_max {
                    Some(RefusedReason::QueueFull)
                } else {
                    None
                }
            }
        };
        if let Some(reason) = refused {
            plan.refused.push(Refused { request: id, reason });
            return;
        }
        let (model, client) = (parts.model, parts.client);
        let queue = fairness::queue(parts);
        let start_tag = self.fairness.submit(queue, client, parts.prompt.len() as u32, parts.tokens_max);
        self.credit_idle_time(model);
        self.last.sequence += 1;
        let sequence = Sequence::new(SequenceId(self.last.sequence), request, self.now, start_tag);
        let is_urgent = sequence.parts.deadline.is_some();
        self.by_request.insert(id, sequence.id);
        self.sequences.insert(sequence.id, sequence);
        if is_urgent {
            self.order_by_deadline(queue, client);
        }
    }

    /// Deals a client's start tags out anew among its requests that have not run yet: who must be done first has the
    /// first one. What it has beside other clients stays the same.
    fn order_by_deadline(&mut self, queue: fairness::Queue, client: u64) {
        let is_own = |s: &&mut Sequence| {
            fairness::queue(&s.parts) == queue && s.parts.client == client && !s.admitted_once
        };
        let mut own: Vec<&mut Sequence> = self.sequences.values_mut().filter(is_own).collect();
        let mut tags: Vec<u64> = own.iter().map(|s| s.start_tag).collect();
        tags.sort_unstable();
        own.sort_by_key(|s| (s.parts.deadline.unwrap_or(Tick(u64::MAX)), s.id));
        for (sequence, tag) in own.into_iter().zip(tags) {
            sequence.start_tag = tag;
        }
    }

    /// Ends whoever's deadline has passed.
    pub(crate) fn end_late(&mut self) {
        let late: Vec<SequenceId> = self.sequences.keys().copied().filter(|id| self.is_late(*id)).collect();
        for id in late {
            self.end(id, FinishReason::Deadline);
        }
    }

    fn is_late(&self, id: SequenceId) -> bool {
        let deadline = self.sequences.get(&id).and_then(|s| s.parts.deadline);
        deadline.is_some_and(|deadline| deadline <= self.now)
    }

    /// Marks a sequence ended; it is reaped once nothing uses its memory.
    pub(crate) fn end(&mut self, id: SequenceId, reason: FinishReason) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.end.get_or_insert(reason);
        }
    }

    fn step_done(&mut self, outcome: &StepOutcome) {
        let Some(in_flight) = self.in_flight.take_if(|step| step.id == outcome.id) else {
            self.stray_events += 1;
            return;
        };
        self.count_service(&in_flight);
        for row in &in_flight.rows {
            let Some(sequence) = self.sequences.get_mut(&row.sequence) else { continue };
            sequence.in_step = None;
            sequence.computed = row.end;
        }
        let mut answers = outcome.rows.iter();
        for row in in_flight.rows.iter().filter(|row| row.samples) {
            match answers.next().filter(|answer| answer.sequence == row.sequence) {
                Some(answer) => self.extend(answer, row),
                None => self.end(row.sequence, FinishReason::Failed),
            }
        }
        for row in &in_flight.rows {
            self.publish(row.sequence);
        }
    }

    /// The time of an ended step, at least one microsecond, counts as its model's service.
    fn count_service(&mut self, step: &InFlight) {
        if let Some(model) = self.models.get_mut(&step.model) {
            model.ran = self.now;
            model.service_us += self.now.0.saturating_sub(step.began.0).max(1);
        }
    }

    /// Appends what a row brought and keeps the KV of the draft as far as it is right; what follows is run again.
    fn extend(&mut self, answer: &RowOutcome, row: &InFlightRow) {
        let Some(sequence) = self.sequences.get_mut(&answer.sequence) else { return };
        let Some(model) = self.models.get_mut(&sequence.parts.model) else { return };
        if sequence.end.is_some() {
            return;
        }
        if self.turns.exclusive.is_none_or(|(holder, _)| holder == sequence.parts.model) {
            self.turns.has_drawn = true;
        }
        let bound = model.tokens_max_of(sequence, self.limits.kv_slabs) as usize;
        let length = sequence.tokens.len() + answer.tokens.len();
        let goes_on = answer.finish.is_none();
        // Whoever carries out steps ends an answer that is full; one that does not grow would never end.
        if length > bound || (goes_on && (length == bound || answer.tokens.is_empty())) {
            sequence.end = Some(FinishReason::Failed);
            return;
        }
        let accepted = answer.accepted(&row.draft);
        sequence.tokens.extend_from_slice(&answer.tokens);
        sequence.computed += accepted as u32;
        sequence.end = answer.finish;
        sequence.draft.clone_from(&answer.draft);
        model.totals.draft_tokens += row.draft.len() as u64;
        model.totals.draft_tokens_accepted += accepted as u64;
    }

    /// Makes newly full blocks findable.
    fn publish(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let Some(model) = self.models.get_mut(&sequence.parts.model) else { return };
        let block_tokens = model.pool.block_tokens();
        while (sequence.published as usize + 1) * block_tokens <= sequence.computed as usize {
            let index = sequence.published as usize;
            let tokens = &sequence.tokens[index * block_tokens..(index + 1) * block_tokens];
            sequence.chain = model.pool.publish(sequence.blocks[index], sequence.chain, tokens);
            sequence.published += 1;
        }
    }

    fn step_failed(&mut self, step: StepId) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.id == step) else {
            self.stray_events += 1;
            return;
        };
        self.count_service(&in_flight);
        for row in &in_flight.rows {
            if let Some(sequence) = self.sequences.get_mut(&row.sequence) {
                sequence.in_step = None;
            }
            self.end(row.sequence, FinishReason::Failed);
        }
    }

    fn swap_done(&mut self, swap: SwapId, result: Result<(), SwapFailed>) {
        if let Some(save) = self.save.take_if(|save| save.swap == swap) {
            self.save_done(&save, result);
            return;
        }
        let out = KvState::SwappingOut(swap);
        let back = KvState::SwappingIn(swap);
        let found = self.sequences.values().find(|s| s.kv == out || s.kv == back).map(|s| s.id);
        let Some(mut sequence) = found.and_then(|id| self.sequences.remove(&id)) else {
            self.stray_events += 1;
            return;
        };
        match (sequence.kv == out, result) {
            (true, Ok(())) => {
                self.memory.trim(&mut self.models, &mut sequence, 0);
                sequence.kv = KvState::Host;
            }
            (true, Err(SwapFailed)) => {
                // The device blocks are still whole: go on from them, and do not try the same again.
                self.free_host(&mut sequence);
                sequence.swappable = false;
                sequence.kv = KvState::Device;
            }
            (false, Ok(())) => {
                self.free_host(&mut sequence);
                sequence.kv = KvState::Device;
                self.end_restore(&mut sequence, true);
            }
            (false, Err(SwapFailed)) => {
                self.free_host(&mut sequence);
                self.end_restore(&mut sequence, false);
                self.forget_kv(&mut sequence);
            }
        }
        let id = sequence.id;
        self.sequences.insert(id, sequence);
        self.publish(id);
    }
}
