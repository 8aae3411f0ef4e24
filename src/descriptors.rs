//! How many files and connections the system lets this process have open: raised to what the server's bounds need, as
//! many systems start processes with 1,024, which is fewer than the connections alone.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For everything that is no connection: models, logs, the store, the runtime's own.
const OTHERS_MAX: u64 = 256;

/// Raises the soft limit to `connections` and what else the process opens, at most to the hard limit; never lowers it.
/// Says in the log where that is not enough.
pub fn raise(connections: usize) {
    let needed = (connections as u64).saturating_add(OTHERS_MAX);
    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let Some(soft) = limit.current.filter(|soft| *soft < needed) else { return };
    let raised = limit.maximum.map_or(needed, |hard| hard.min(needed));
    let wanted = Rlimit { current: Some(raised), maximum: limit.maximum };
    let (had, error) = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => (raised, None),
        Err(error) => (soft, Some(error)),
    };
    if had < needed {
        let error = error.map(tracing::field::display);
        tracing::warn!(
            needed,
            had,
            error,
            "open files are limited (ulimit -n): connections past that wait; raise the hard limit or lower \
             server.connections_max"
        );
    } else {
        tracing::debug!(had, before = soft, "limit of open files raised");
    }
}
