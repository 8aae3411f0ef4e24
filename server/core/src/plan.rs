//! What crosses the border of the pure engine: events in, a plan out, an outcome back in.

use crate::ids::{BlockId, HostBlockId, ModelId, RequestId, SequenceId, StepId, SwapId, TokenId};
use crate::request::Request;

/// Everything that can happen to the engine. Commands and results are different events.
#[derive(Debug)]
pub enum Event {
    /// A new request; refused in the plan ([`StepPlan::refused`]) where a bound is met.
    Submit(Request),
    /// The client is gone: the sequence ends in the next step and its blocks are free.
    Cancel(RequestId),
    /// A model is known: its bounds. It runs once it is resident; until then its requests wait.
    Load(ModelSetup),
    /// A model's weights came onto the device, or left it. Its sequences keep their KV and wait.
    Resident(ModelId, bool),
    /// Somebody wants this model resident, whether or not a request waits for it.
    SwitchRequested(ModelId),
    /// The runtime has made room for this model and loads it: the models that stayed may run meanwhile.
    SwitchStarted(ModelId),
    /// A step was carried out.
    StepDone(StepOutcome),
    /// A step broke; its sequences end with [`FinishReason::Failed`].
    StepFailed(StepId),
    /// A swap order ended, well or not. May come late and in any order.
    SwapDone(SwapId, Result<(), SwapFailed>),
    /// A switch ended: the model is resident, or its requests fail.
    SwitchDone(ModelId, Result<(), SwitchFailed>),
    /// What a model's work costs, as measured.
    Rates(ModelId, MeasuredRates),
    /// Admit nothing more; finish what runs.
    Shutdown,
}

/// A swap's blocks did not arrive; the sequence is recomputed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapFailed;

/// A switch did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchFailed;

/// A model's bounds, as the runtime computed them from memory and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSetup {
    /// The model.
    pub model: ModelId,
    /// KV positions a block holds.
    pub block_tokens: u32,
    /// Blocks that one slab holds.
    pub slab_blocks: u32,
    /// Bytes of one block, for the host pool's bound.
    pub block_bytes: u64,
    /// Prompt + output tokens at most.
    pub context_tokens_max: u32,
    /// Tokens one step may carry, prefill and decode together.
    pub step_tokens_max: u32,
    /// Rows one step may carry.
    pub step_rows_max: u32,
    /// Whether steps may be started before they are planned: a sequence that draws then holds the block of its next position
    /// beforehand, where one is free.
    pub runs_ahead: bool,
}

/// What work costs, for the choice between swap and recompute and for the size of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuredRates {
    /// Host ↔ device, bytes per second; `None` before the first swap.
    pub swap_bytes_per_s: Option<f64>,
    /// Prefill, tokens per second.
    pub prefill_tokens_per_s: f64,
    /// A step of decodes alone, seconds; `None` before the first.
    pub decode_step_s: Option<f64>,
}

/// What one step shall do. Names exactly one model. Reused between steps; cleared by the scheduler.
///
/// Order of execution: `swaps` are started, then `rows` run. Blocks that a swap in flight reads stay pinned, blocks it
/// writes are in no row, until its `SwapDone`. A plan with `switch_to` has no rows.
#[derive(Debug, Default)]
pub struct StepPlan {
    /// Echoed in [`Event::StepDone`] or [`Event::StepFailed`]. A plan without rows needs no outcome.
    pub id: StepId,
    /// The model of every row; `None` when there is nothing to run.
    pub model: Option<ModelId>,
    /// The forward pass.
    pub rows: Vec<PlanRow>,
    /// Swap orders to start.
    pub swaps: Vec<SwapOrder>,
    /// Sequences that ended since the last step, whatever the reason.
    pub finished: Vec<Finished>,
    /// Requests that were not admitted.
    pub refused: Vec<Refused>,
    /// A model to make resident now, answered by [`Event::SwitchStarted`] and [`Event::SwitchDone`]. No step is in flight.
    pub switch_to: Option<ModelId>,
}

/// One sequence's part of a step: run `tokens` at the positions from `start`. Owns all it needs, so that the scheduler may
/// go on while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    /// Whose.
    pub sequence: SequenceId,
    /// The request it belongs to.
    pub request: RequestId,
    /// Half-open range of positions, also indices into the sequence's tokens (prompt then output).
    pub start: u32,
    /// End of the range.
    pub end: u32,
    /// The sequence's tokens from `start` to `end`, then a draft: a guess of what will be drawn, run at the positions
    /// from `end`, each of them drawn from as well; none where nothing was guessed or `samples` is false.
    pub tokens: Vec<TokenId>,
    /// The block table for positions `0..end` and the draft's, and where it is held beforehand the next one's.
    pub blocks: Vec<BlockId>,
    /// Whether the last position's logits are drawn from: true when `end` reaches the sequence's tokens.
    pub samples: bool,
}

impl PlanRow {
    /// The draft at the end of its tokens.
    pub fn draft(&self) -> &[TokenId] {
        self.tokens.get((self.end - self.start) as usize..).unwrap_or_default()
    }
}

/// Which way blocks move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Device to host.
    Out,
    /// Host to device.
    In,
}

/// One block's move between device and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMove {
    /// The device side.
    pub device: BlockId,
    /// The host side.
    pub host: HostBlockId,
    /// Which way.
    pub direction: Direction,
}

/// An order to move blocks; answered by [`Event::SwapDone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapOrder {
    /// Chosen by the scheduler.
    pub id: SwapId,
    /// The model whose blocks these are.
    pub model: ModelId,
    /// The moves, all in one direction.
    pub moves: Vec<BlockMove>,
}

/// What one step did.
#[derive(Clone, Debug, Default)]
pub struct StepOutcome {
    /// The plan's id.
    pub id: StepId,
    /// One entry per plan row with `samples`, in plan order.
    pub rows: Vec<RowOutcome>,
}

/// What happened to one sampling row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowOutcome {
    /// Whose.
    pub sequence: SequenceId,
    /// New tokens in order: the one drawn and those the constraint forces after it; where these are what the draft
    /// says, so on with the one drawn behind them. A final stop token is not among them.
    pub tokens: Vec<TokenId>,
    /// A guess of what comes next, for the sequence's next row.
    pub draft: Vec<TokenId>,
    /// Why the answer ends here, as [`crate::verdict::Verdict`] says; none where it goes on.
    pub finish: Option<FinishReason>,
}

impl RowOutcome {
    /// Tokens of the `draft` that was run whose KV is the answer's: those that were drawn. The last token of an answer
    /// that goes on is run again, for its logits are what is drawn from next.
    pub fn accepted(&self, draft: &[TokenId]) -> usize {
        let equal = self.tokens.iter().zip(draft).take_while(|(drawn, guessed)| drawn == guessed).count();
        if self.finish.is_some() { equal } else { equal.min(self.tokens.len().saturating_sub(1)) }
    }
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token, a stop string, or a complete constraint.
    Stop,
    /// `tokens_max` or the context is reached.
    Length,
    /// The client went away.
    Cancelled,
    /// Its deadline passed before the answer was complete.
    Deadline,
    /// The step or the model failed, or an outcome broke the answer's bounds.
    Failed,
}

/// A sequence's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The request.
    pub request: RequestId,
    /// The sequence.
    pub sequence: SequenceId,
    /// Why.
    pub reason: FinishReason,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Of these, taken from the prefix cache.
    pub cached_tokens: u32,
    /// Output tokens, a final stop token not counted.
    pub output_tokens: u32,
}

/// A request that was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The request.
    pub request: RequestId,
    /// Why.
    pub reason: RefusedReason,
}

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// The queue's bound is met: try again later.
    QueueFull,
    /// No such model is known.
    UnknownModel,
    /// The prompt leaves no room for one output token, in the context or in the whole pool.
    PromptTooLong {
        /// Tokens the prompt has.
        prompt_tokens: u32,
        /// Tokens it may have.
        prompt_tokens_max: u32,
    },
    /// The engine shuts down.
    ShuttingDown,
    /// A live request has this id.
    DuplicateId,
}
