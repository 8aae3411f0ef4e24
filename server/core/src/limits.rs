//! Every bound of the engine, with its meaning, default and cost.

/// Bounds of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// Requests that may wait for admission, all models together; see [`QUEUE_MAX_DEFAULT`].
    pub queue_max: usize,
    /// Slabs of the device's KV memory, leased to models as they need them; see [`KV_SLABS_DEFAULT`].
    pub kv_slabs: u32,
    /// Bytes of the host pool; see [`SWAP_SPACE_BYTES_DEFAULT`].
    pub swap_space_bytes: u64,
    /// Bytes of the host pool that are leased to blocks of one size at a time; see [`SWAP_EXTENT_BYTES_DEFAULT`].
    pub swap_extent_bytes: u64,
    /// How long a model may wait for memory or for a switch, in microseconds, before it gets its turn; see
    /// [`SWITCH_WAIT_US_DEFAULT`].
    pub switch_wait_us: u64,
    /// How long prefill may hold up decodes in one step, in microseconds; see [`STEP_US_MAX_DEFAULT`].
    pub step_us_max: u64,
}

/// Waiting requests. Each costs its prompt in memory; more of them wait longer instead of being told to come back.
pub const QUEUE_MAX_DEFAULT: usize = 256;
/// Bytes of one KV slab; every model's block must fit. Smaller follows the models' needs closer, larger wastes less at
/// the ends of slabs.
pub const SLAB_BYTES: usize = 64 << 20;
/// Slabs of the device's KV memory: 2 GiB. What sequences and cached prefixes of all models share.
pub const KV_SLABS_DEFAULT: u32 = 32;
/// Bytes of the host pool, taken only as blocks are swapped out. 0 swaps nothing: who is preempted is recomputed.
pub const SWAP_SPACE_BYTES_DEFAULT: u64 = 4 << 30;
/// Bytes of an extent of the host pool. Smaller follows the models' needs closer, larger wastes less at its ends.
pub const SWAP_EXTENT_BYTES_DEFAULT: u64 = 16 << 20;
/// Where host blocks may begin: a cache line.
pub const HOST_UNIT_BYTES: u64 = 64;
/// Microseconds before a model that cannot run gets memory or a switch. Smaller moves more often.
pub const SWITCH_WAIT_US_DEFAULT: u64 = 2_000_000;
/// Microseconds that prefill beside decodes may take in one step, by measured speed; two steps of decodes where those
/// take longer. Smaller makes streams smoother and prompts slower.
pub const STEP_US_MAX_DEFAULT: u64 = 200_000;
/// Prompts that are prefilled in turns. More would share the same steps and each take longer.
pub const PREFILLS_MAX: usize = 8;
/// Tokens of a draft. More than are ever worth a guess on the machines measured; a row costs as many masks and draws.
pub const DRAFT_TOKENS_MAX: usize = 15;
/// Clients of one model and priority that are remembered as ahead of others. More that come meanwhile cost no memory, but
/// those that are least ahead count as new ones again.
pub const CLIENTS_MAX: usize = 4096;
/// KV positions of a block. Smaller shares more of a prefix, larger makes tables and swaps cheaper.
pub const BLOCK_TOKENS_DEFAULT: u32 = 32;
/// Tokens of one step. Larger prefills faster, smaller lets decodes in sooner.
pub const STEP_TOKENS_DEFAULT: u32 = 512;
/// Share of a GPU's memory that is taken; the rest is the driver's own and the desktop's.
pub const GPU_MEMORY_UTILIZATION_DEFAULT: f64 = 0.85;
/// Rows of one step. Each may cost a mask and a draw.
pub const STEP_ROWS_DEFAULT: u32 = 64;

const _: () = assert!(STEP_TOKENS_DEFAULT >= STEP_ROWS_DEFAULT, "every row of a step needs a token");
const _: () = assert!(STEP_TOKENS_DEFAULT.is_multiple_of(BLOCK_TOKENS_DEFAULT), "chunks end on block edges");
const _: () = assert!(BLOCK_TOKENS_DEFAULT.is_power_of_two(), "attention tiles are powers of two");

impl Default for SchedulerLimits {
    fn default() -> Self {
        Self {
            queue_max: QUEUE_MAX_DEFAULT,
            kv_slabs: KV_SLABS_DEFAULT,
            swap_space_bytes: SWAP_SPACE_BYTES_DEFAULT,
            swap_extent_bytes: SWAP_EXTENT_BYTES_DEFAULT,
            switch_wait_us: SWITCH_WAIT_US_DEFAULT,
            step_us_max: STEP_US_MAX_DEFAULT,
        }
    }
}
