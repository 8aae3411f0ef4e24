//! Many seeds over threads, in order, up to the first that fails.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::seen::Seen;
use crate::world;

/// A seed whose run broke an assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The smallest that failed.
    pub seed: u64,
    /// What its assertion says.
    pub what: String,
}

/// Told after each seed how many are done; called on several threads.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// Runs `count` seeds from `first` on and sums up what they saw.
///
/// # Errors
/// [`Failure`] where a run breaks an assertion; no further seeds are begun then. The panic is printed as any other.
pub fn run_seeds(
    first: u64,
    count: u64,
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<Seen, Failure> {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let total = Mutex::new(Seen::default());
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let work = || {
        let mut seen = Seen::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let seed = first.wrapping_add(index);
            match catch_unwind(|| world::run(seed)) {
                Ok(run) => seen.add(&run),
                Err(panic) => {
                    next.store(count, Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(|broken| broken.into_inner());
                    if failure.as_ref().is_none_or(|before| seed < before.seed) {
                        *failure = Some(Failure { seed, what: text(&*panic) });
                    }
                }
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        total.lock().unwrap_or_else(|broken| broken.into_inner()).add(&seen);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(work);
        }
    });
    let failure = failure.into_inner().unwrap_or_else(|broken| broken.into_inner());
    let total = total.into_inner().unwrap_or_else(|broken| broken.into_inner());
    failure.map_or(Ok(total), Err)
}

fn text(panic: &(dyn Any + Send)) -> String {
    let known = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    known.unwrap_or("a panic without words").to_owned()
}
