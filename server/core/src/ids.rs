//! Identifiers and counts. Newtypes, so that a block is never mistaken for a token.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub $inner);
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

/// A vocabulary entry.
pub type TokenId = u32;

id!(/// A loaded or known model; assigned by the runtime's model host, never reused in one process.
    ModelId(u32));
id!(/// What a client asked for.
    RequestId(u64));
id!(/// A request's state in the engine. One per request today; `n` choices later.
    SequenceId(u64));
id!(/// One pass of the engine loop.
    StepId(u64));
id!(/// One asynchronous order to move blocks between device and host.
    SwapId(u64));
id!(/// An equal piece of the device's KV memory, leased to one model at a time.
    SlabId(u32));
id!(/// A fixed run of KV positions: the slab times the blocks that a slab holds, and the block's place within it. Two models
    /// may use the same number for different memory, for their blocks differ in size.
    BlockId(u32));
id!(/// Where a block begins in the host pool, in units of [`crate::limits::HOST_UNIT_BYTES`].
    HostBlockId(u32));
id!(/// Time as the runtime hands it in: microseconds since the engine started. Never read from a clock here.
    Tick(u64));
