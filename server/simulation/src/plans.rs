//! What the fake runtime does with a plan, and everything that must be true of one.

use std::collections::BTreeSet;

use quarry_core::ids::{BlockId, HostBlockId, ModelId};
use quarry_core::plan::{Direction, PlanRow, StepPlan, SwapOrder};

use crate::device::Work;
use crate::model::run_all;
use crate::world::{Future, Step, Swap, Switching, World};

impl World {
    pub fn apply(&mut self, plan: &StepPlan) {
        for finished in &plan.finished {
            self.finish(finished);
        }
        for refused in &plan.refused {
            self.refuse(refused);
        }
        let idle = self.step.is_none() && self.swaps.is_empty();
        for request in self.cancelled.iter().filter(|_| idle) {
            assert!(!self.unanswered.contains(request), "cancelled request {request} ends in the next step");
        }
        for request in self.live.iter().filter(|_| idle) {
            assert!(!self.is_late(*request), "request {request} ends at its deadline");
        }
        if let Some(model) = plan.switch_to {
            self.start_switch(model, plan);
        }
        for order in &plan.swaps {
            self.start_swap(order);
        }
        if !plan.rows.is_empty() {
            self.start_step(plan);
        }
    }

    fn start_switch(&mut self, model: ModelId, plan: &StepPlan) {
        assert!(self.switching.is_none() && self.step.is_none() && plan.rows.is_empty());
        assert!(!self.resident.contains(&model) && self.device.setups.contains_key(&model));
        self.switching = Some(Switching { model, has_started: false, left: Vec::new() });
        self.seen.switches += 1;
        self.expect_within(200, Future::SwitchStart);
    }

    fn start_swap(&mut self, order: &SwapOrder) {
        assert!(!order.moves.is_empty());
        assert!(order.moves.windows(2).all(|pair| pair[0].direction == pair[1].direction));
        let hosts: Vec<HostBlockId> = order.moves.iter().map(|step| step.host).collect();
        let last = *hosts.last().expect("not empty");
        match order.moves[0].direction {
            Direction::Out => {
                self.seen.swaps_out += 1;
                self.hosts_out.insert(last, hosts);
            }
            Direction::In => {
                self.seen.swaps_in += 1;
                // A sequence's blocks in order, or a prefix that was saved; contents are compared where they are read.
                match self.hosts_out.remove(&last) {
                    Some(all) if all.ends_with(&hosts) => {
                        self.seen.shared_back += (all.len() - hosts.len()) as u64;
                    }
                    _ => self.seen.restored += hosts.len() as u64,
                }
            }
        }
        let fails = self.rng.percent(self.faults.swap);
        let early = self.rng.percent(50);
        if early && !fails {
            self.device.swap(order);
        }
        self.swaps.insert(order.id, Swap { order: order.clone(), fails, early });
        self.expect_within(400, Future::Swap(order.id));
    }

    fn start_step(&mut self, plan: &StepPlan) {
        let model = plan.model.expect("rows have a model");
        let is_held_up = self.switching.as_ref().is_some_and(|switching| !switching.has_started);
        assert!(self.step.is_none() && !is_held_up);
        assert!(self.resident.contains(&model), "rows are of a resident model");
        let setup = self.device.setups[&model];
        assert!(plan.rows.len() <= setup.step_rows_max as usize);
        let tokens: u32 = plan.rows.iter().map(|row| row.tokens.len() as u32).sum();
        assert!(tokens <= setup.step_tokens_max);
        let totals = self.scheduler.counts(model).expect("known").totals;
        // Who was pushed out comes back among the prompts, wherever it is.
        if totals.preemptions + totals.displacements == 0 {
            let is_prompt = |row: &PlanRow| (row.start as usize) < self.requests[&row.request].prompt.len();
            assert!(plan.rows.is_sorted_by_key(is_prompt), "decodes come before prompts");
        }
        let moving = self.moving(model);
        let mut written = BTreeSet::new();
        let mut works = Vec::new();
        for row in &plan.rows {
            let sequence = self.scheduler.sequence(row.sequence).expect("alive");
            assert!(row.start < row.end && self.live.contains(&row.request));
            assert_eq!((sequence.model(), sequence.request()), (model, row.request));
            assert_eq!(row.samples, row.end as usize == sequence.tokens().len());
            assert!(sequence.tokens().starts_with(&self.requests[&row.request].prompt));
            let draft = row.draft();
            assert!(draft.is_empty() || row.samples);
            let positions = row.end + draft.len() as u32;
            assert!(draft.is_empty() || positions < self.room(model), "the token behind the draft has room");
            let ahead = u32::from(setup.runs_ahead && row.samples && draft.is_empty());
            let blocks = |positions: u32| positions.div_ceil(setup.block_tokens) as usize;
            assert!((blocks(positions)..=blocks(positions + ahead)).contains(&row.blocks.len()), "{row:?}");
            for block in &row.blocks {
                assert!(!moving.contains(&(true, *block)), "block {block} of {row:?} is being swapped in");
            }
            for block in &row.blocks[(row.start / setup.block_tokens) as usize..] {
                assert!(written.insert(*block), "block {block} has one writer");
                assert!(!moving.contains(&(false, *block)), "block {block} is being swapped out");
            }
            let before = &sequence.tokens()[..row.start as usize];
            assert!(row.tokens.starts_with(&sequence.tokens()[row.start as usize..row.end as usize]));
            let salt = self.requests[&row.request].cache_salt;
            works.push(Work { row: row.clone(), salt, tokens: [before, &row.tokens].concat() });
        }
        for row in &plan.rows {
            let read = &row.blocks[..(row.start / setup.block_tokens) as usize];
            assert!(read.iter().all(|block| !written.contains(block)), "{row:?} reads what is being written");
        }
        self.seen.steps += 1;
        let fails = self.rng.percent(self.faults.step);
        let early = (!fails && self.rng.percent(50)).then(|| run_all(&mut self.device, model, &works));
        self.step = Some(Step { id: plan.id, model, works, fails, early });
        self.expect_within(60, Future::Step);
    }

    /// The model's blocks that swaps in flight use: whether one is written, and which.
    fn moving(&self, model: ModelId) -> BTreeSet<(bool, BlockId)> {
        let swaps = self.swaps.values().filter(|swap| swap.order.model == model);
        let moves = swaps.flat_map(|swap| &swap.order.moves);
        moves.map(|step| (step.direction == Direction::In, step.device)).collect()
    }
}
