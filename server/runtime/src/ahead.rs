//! Steps that begin before they are planned.
//!
//! A device that computes while the host waits would idle between a step's draw and the next step's launch. So the runtime
//! guesses the next plan: every row that draws goes on by one token. The executor queues that step behind the draw
//! ([`quarry_model::executor::Executor::finish_ahead`]), the scheduler plans as ever, and rows of its plan that the guess has
//! right take the step that runs already. Others run in a step of their own behind it, and what nobody wants is dropped.

use std::time::Instant;

use quarry_core::ids::{BlockId, ModelId, SequenceId};
use quarry_core::plan::{PlanRow, StepPlan};
use quarry_model::executor::{AheadRow, StepTicket};

/// A row that is expected next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    sequence: SequenceId,
    /// Of its one token.
    position: u32,
    blocks: Vec<BlockId>,
    /// Which of the step's samples its token is; until the step is finished, which of the plan's rows.
    pub sample: usize,
}

/// A step that was started for a plan to come.
#[derive(Debug)]
pub struct Started {
    pub model: ModelId,
    pub ticket: StepTicket,
    pub rows: Vec<Expected>,
    /// When the step before was done.
    pub at: Instant,
}

/// What of a plan a started step has right.
#[derive(Debug, PartialEq, Eq)]
pub struct Matched {
    /// For each row of the started step the plan's row that it is, if any.
    pub rows: Vec<Option<usize>>,
    /// The plan's other rows.
    pub others: Vec<usize>,
}

/// What most likely comes behind a step: every row that `goes_on` says of. Empty where that cannot be known: a row that
/// draws nothing yet, one with a draft, or one whose next position has no block.
pub fn expect(plan: &StepPlan, block_tokens: u32, goes_on: &dyn Fn(&PlanRow) -> GoesOn) -> Vec<Expected> {
    let mut rows = Vec::with_capacity(plan.rows.len());
    for (sample, row) in plan.rows.iter().enumerate() {
        match goes_on(row) {
            GoesOn::ByOne => {}
            GoesOn::Ends => continue,
            GoesOn::Unknown => return Vec::new(),
        }
        let has_room = row.end < row.blocks.len() as u32 * block_tokens;
        if !row.samples || !row.draft().is_empty() || !has_room {
            return Vec::new();
        }
        let PlanRow { sequence, end, .. } = *row;
        rows.push(Expected { sequence, position: end, blocks: row.blocks.clone(), sample });
    }
    rows
}

/// How a row goes on behind its draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoesOn {
    /// By the token drawn, unless that ends it.
    ByOne,
    /// The draw is its last.
    Ends,
    /// The draw decides how many tokens follow.
    Unknown,
}

impl Expected {
    pub fn row(&self) -> AheadRow<'_> {
        AheadRow { sample: self.sample, position: self.position as usize, blocks: &self.blocks }
    }

    fn is(&self, row: &PlanRow) -> bool {
        (self.sequence, self.position, 1) == (row.sequence, row.start, row.tokens.len())
            && row.samples
            // The table may have grown, and ends where the row does.
            && self.blocks.iter().zip(&row.blocks).all(|(own, its)| own == its)
    }
}

impl Started {
    /// `None` where the plan has none of its rows.
    pub fn matched(&self, plan: &StepPlan) -> Option<Matched> {
        let place = |expected: &Expected| plan.rows.iter().position(|row| expected.is(row));
        let rows: Vec<Option<usize>> = self.rows.iter().map(place).collect();
        let others = (0..plan.rows.len()).filter(|index| !rows.contains(&Some(*index))).collect();
        rows.iter().any(Option::is_some).then_some(Matched { rows, others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarry_core::ids::RequestId;

    fn row(sequence: u64, start: u32, tokens: &[u32], blocks: &[u32]) -> PlanRow {
        PlanRow {
            sequence: SequenceId(sequence),
            request: RequestId(sequence),
            start,
            end: start + tokens.len() as u32,
            tokens: tokens.to_vec(),
            blocks: blocks.iter().copied().map(BlockId).collect(),
            samples: true,
        }
    }

    fn plan(rows: Vec<PlanRow>) -> StepPlan {
        StepPlan { rows, ..StepPlan::default() }
    }

    fn started(plan: &StepPlan) -> Option<Started> {
        let rows = expect(plan, 4, &|_| GoesOn::ByOne);
        (!rows.is_empty()).then_some(Started {
            model: ModelId(0),
            ticket: StepTicket(1),
            rows,
            at: Instant::now(),
        })
    }

    #[test]
    fn rows_that_draw_go_on_by_one() {
        let first = plan(vec![row(1, 0, &[7, 8, 9], &[0]), row(2, 6, &[5], &[4, 1])]);
        let started = started(&first).unwrap();
        let next = plan(vec![row(2, 7, &[3], &[4, 1]), row(3, 0, &[1, 2], &[9]), row(1, 3, &[4], &[0, 5])]);
        assert_eq!(started.matched(&next), Some(Matched { rows: vec![Some(2), Some(0)], others: vec![1] }));
        let ended = plan(vec![row(1, 3, &[4], &[0])]);
        assert_eq!(started.matched(&ended), Some(Matched { rows: vec![Some(0), None], others: vec![] }));
    }

    #[test]
    fn what_went_another_way_is_no_match() {
        let first = plan(vec![row(1, 0, &[7, 8, 9], &[0])]);
        let started = started(&first).unwrap();
        for other in [
            row(1, 3, &[4], &[2]),
            row(1, 2, &[4], &[0]),
            row(1, 3, &[4, 5], &[0, 1]),
            row(2, 3, &[4], &[0]),
            PlanRow { samples: false, ..row(1, 3, &[4], &[0]) },
        ] {
            assert_eq!(started.matched(&plan(vec![other.clone()])), None, "{other:?}");
        }
    }

    #[test]
    fn nothing_is_expected_where_nothing_can_be_known() {
        let drafted = PlanRow { tokens: vec![1, 2], ..row(1, 3, &[1], &[0, 1]) };
        let full = row(1, 3, &[1], &[0]);
        let chunk = PlanRow { samples: false, ..row(1, 0, &[1, 2], &[0]) };
        for first in [drafted, full, chunk] {
            assert!(started(&plan(vec![row(2, 0, &[1], &[7]), first.clone()])).is_none(), "{first:?}");
        }
        let two = plan(vec![row(1, 0, &[1], &[0]), row(2, 0, &[1], &[1])]);
        let ends = |row: &PlanRow| if row.sequence.0 == 1 { GoesOn::Ends } else { GoesOn::ByOne };
        let rows = expect(&two, 4, &ends);
        assert_eq!((rows.len(), rows[0].sample, rows[0].sequence), (1, 1, SequenceId(2)));
        assert!(expect(&two, 4, &|_| GoesOn::Unknown).is_empty());
    }
}
