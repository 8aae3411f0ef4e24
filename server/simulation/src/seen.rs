//! What runs saw: whether a workload reaches what it is for, and whether two runs are the same.

use quarry_core::plan::StepPlan;

use crate::rng::mix;

/// A struct of counts with the names under which they are shown.
macro_rules! counts {
    ($($name:ident: $shown:literal,)*) => {
        /// Counts of what happened in one or many runs.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names under which they are shown say it")]
        pub struct Seen {
            $(pub $name: u64,)*
            /// Over every plan in full; equal for equal seeds.
            pub fingerprint: u64,
        }

        impl Seen {
            /// Adds another run's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                self.fingerprint ^= other.fingerprint;
            }

            /// Every count with its name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$(($shown, self.$name),)*]
            }
        }
    };
}

counts! {
    plans: "plans",
    steps: "steps",
    completed: "requests completed",
    cancelled: "requests cancelled",
    late: "requests ended by their deadline",
    failed: "requests failed",
    refused: "requests refused",
    cached_tokens: "prompt tokens from the prefix cache",
    swaps_out: "swaps out",
    swaps_in: "swaps in",
    shared_back: "blocks that came back without a copy",
    restored: "blocks of prefixes that came back from the host pool",
    preemptions: "sequences preempted",
    displaced: "sequences displaced",
    displaced_in_turns: "sequences displaced in exclusive turns",
    switches: "switches",
    switches_asked: "switches asked for by hand",
    switches_failed: "switches failed",
    loads: "models that came without a switch",
    unloads: "unloads by hand",
    restarts: "restarts",
    failed_by_restart: "requests failed by a restart",
    drafted: "draft tokens drawn",
    drafted_in_vain: "draft tokens not drawn",
    firsts: "first requests of clients behind others",
    overtakes: "requests overtaken by these",
    strays: "stray events",
}

impl Seen {
    /// Takes a plan into the fingerprint.
    pub(crate) fn note(&mut self, plan: &StepPlan) {
        let text = format!("{plan:?}");
        self.fingerprint = text.bytes().fold(self.fingerprint, |hash, byte| mix(hash ^ u64::from(byte)));
    }
}
