//! A request's state in the engine.
//!
//! Three counters tell all: `tokens` known (prompt, then output), `computed` whose KV is in blocks, and
//! `published` full blocks in the prefix cache. Decode, prefill and forced tokens are the same thing: positions
//! `computed..tokens.len()` still to run. A `draft` is no token of the sequence before it was drawn.

use crate::block_pool::{Chain, Key};
use crate::ids::{BlockId, HostBlockId, ModelId, RequestId, SequenceId, StepId, SwapId, Tick, TokenId};
use crate::plan::FinishReason;
use crate::request::{Request, RequestParts, SamplingParams};

/// Where a sequence's KV is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvState {
    /// Nowhere: waits for admission, or to be recomputed.
    Waiting,
    /// In device blocks.
    Device,
    /// On its way to the host; device blocks pinned.
    SwappingOut(SwapId),
    /// In the host pool.
    Host,
    /// On its way back; host blocks pinned, device blocks unreadable.
    SwappingIn(SwapId),
}

/// Smaller is served earlier.
pub(crate) type Rank = (i32, u64, u64);

/// One sequence.
#[derive(Debug)]
pub struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) parts: RequestParts,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_tokens: u32,
    pub(crate) computed: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) blocks: Vec<BlockId>,
    pub(crate) host: Vec<HostBlockId>,
    /// Blocks of its table that are being filled from cached host blocks, and with which content.
    pub(crate) restoring: Vec<(usize, Key)>,
    pub(crate) published: u32,
    pub(crate) chain: Chain,
    pub(crate) kv: KvState,
    pub(crate) in_step: Option<StepId>,
    pub(crate) end: Option<FinishReason>,
    pub(crate) arrived: Tick,
    /// Its client's virtual time when its turn begins; see [`crate::fairness`].
    pub(crate) start_tag: u64,
    pub(crate) admitted_once: bool,
    /// A guess of the tokens that come next.
    pub(crate) draft: Vec<TokenId>,
    /// Cleared when a swap of it failed: next time it is recomputed.
    pub(crate) swappable: bool,
}

impl Sequence {
    pub(crate) fn new(id: SequenceId, request: Request, now: Tick, start_tag: u64) -> Self {
        let mut parts = request.into_parts();
        let tokens = std::mem::take(&mut parts.prompt);
        Self {
            id,
            prompt_tokens: tokens.len() as u32,
            chain: Chain::Start(parts.cache_salt),
            parts,
            tokens,
            computed: 0,
            cached_tokens: 0,
            blocks: Vec::new(),
            host: Vec::new(),
            restoring: Vec::new(),
            published: 0,
            kv: KvState::Waiting,
            in_step: None,
            end: None,
            arrived: now,
            start_tag,
            admitted_once: false,
            draft: Vec::new(),
            swappable: true,
        }
    }

    /// Its id.
    pub fn id(&self) -> SequenceId {
        self.id
    }

    /// The request it answers.
    pub fn request(&self) -> RequestId {
        self.parts.id
    }

    /// The model it runs on.
    pub fn model(&self) -> ModelId {
        self.parts.model
    }

    /// Prompt, then output.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// How many of [`Sequence::tokens`] are the prompt.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    /// How it draws.
    pub fn sampling(&self) -> &SamplingParams {
        &self.parts.sampling
    }

    /// Output tokens so far.
    pub fn output_tokens(&self) -> u32 {
        self.tokens.len() as u32 - self.prompt_tokens
    }

    /// Whether it was ever on the device.
    pub fn was_admitted(&self) -> bool {
        self.admitted_once
    }

    /// Positions still to run before the next draw.
    pub(crate) fn remaining(&self) -> u32 {
        self.tokens.len() as u32 - self.computed
    }

    /// Whether its prompt is not all computed yet.
    pub(crate) fn is_prefilling(&self) -> bool {
        self.computed < self.prompt_tokens
    }

    /// Whether device or host memory of it is in use by a step or a swap.
    pub(crate) fn pinned(&self) -> bool {
        self.in_step.is_some() || matches!(self.kv, KvState::SwappingOut(_) | KvState::SwappingIn(_))
    }

    /// Order of service: priority, then its client's virtual time (dealt out by deadline), then arrival.
    pub(crate) fn rank(&self) -> Rank {
        (self.parts.priority, self.start_tag, self.id.0)
    }

    /// Whether its KV is on the device and nothing but the next step is waited for.
    pub(crate) fn is_runnable(&self) -> bool {
        self.kv == KvState::Device && self.end.is_none()
    }

    /// Its blocks on the device serve only itself and nothing is reading or writing them: it may be pushed off.
    pub(crate) fn is_movable(&self) -> bool {
        self.kv == KvState::Device && !self.pinned()
    }
}
