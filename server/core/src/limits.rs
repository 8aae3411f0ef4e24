//! Every bound of the engine, with its meaning, default and cost.

/// Bounds of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// Requests that may wait for admission, all models together. Default 256; a waiting request costs its prompt.
    pub queue_max: usize,
    /// Bytes of the host pool. Default 4 GiB; taken only as blocks are swapped out.
    pub swap_space_bytes: u64,
    /// How long a model's oldest waiting request may wait for another model's work, in microseconds, before its
    /// model gets a turn. Default 2 s; smaller switches more often.
    pub switch_wait_us: u64,
}

/// KV positions of a block. Smaller shares more of a prefix, larger makes tables and swaps cheaper.
pub const BLOCK_TOKENS_DEFAULT: u32 = 32;
/// Tokens of one step. Larger prefills faster, smaller lets decodes in sooner.
pub const STEP_TOKENS_DEFAULT: u32 = 512;
/// Rows of one step.
pub const STEP_ROWS_DEFAULT: u32 = 64;

const _: () = assert!(STEP_TOKENS_DEFAULT >= STEP_ROWS_DEFAULT, "every row of a step needs a token");
const _: () = assert!(BLOCK_TOKENS_DEFAULT.is_power_of_two(), "attention tiles are powers of two");

impl Default for SchedulerLimits {
    fn default() -> Self {
        Self { queue_max: 256, swap_space_bytes: 4 << 30, switch_wait_us: 2_000_000 }
    }
}
