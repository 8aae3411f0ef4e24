//! A small pool of threads that all run the same closure and meet again.
//!
//! Why our own: a forward pass is some hundreds of short parallel regions; waking through a general pool costs
//! more than many of them take. How: workers spin briefly on a generation counter, then park. Work inside a region
//! is taken from a shared counter ([`Tiles`]), so that a core slowed by another process takes less of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Looks at the counter before a thread parks; about 20 µs on a current core.
const SPINS: usize = 20_000;

/// A region's closure with its lifetime erased; see the safety note in [`Threads::run`].
#[derive(Clone, Copy)]
struct Region(*const (dyn Fn(usize) + Sync));

// SAFETY: the closure behind the pointer is Sync, and `Threads::run` keeps it alive until every worker is done.
unsafe impl Send for Region {}

struct Shared {
    generation: AtomicUsize,
    region: Mutex<Option<Region>>,
    wake: Condvar,
    working: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// The pool. Dropping it ends its threads.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// A worker panicked in the last region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a worker thread panicked")]
pub struct WorkerPanicked;

impl Threads {
    /// `threads` in all, the caller of [`Threads::run`] being one of them.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            generation: AtomicUsize::new(0),
            region: Mutex::new(None),
            wake: Condvar::new(),
            working: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name(format!("cpu-{index}"));
            // A machine that cannot start a thread runs with fewer: slower, not wrong.
            builder.spawn(move || work(&shared, index)).ok()
        };
        let workers = (1..threads.max(1)).filter_map(spawn).collect();
        Self { shared, workers }
    }

    /// Threads in all.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `region(thread index)` on every thread and returns when all are done.
    ///
    /// # Errors
    /// [`WorkerPanicked`]; a panic of the caller's own part goes on as a panic after the others are done.
    pub fn run(&mut self, region: &(dyn Fn(usize) + Sync)) -> Result<(), WorkerPanicked> {
        let shared = &*self.shared;
        if !self.workers.is_empty() {
            // SAFETY: only the lifetime is erased. Workers use the pointer between the generation's rise and
            // their decrement of `working`, and this function does not return (or unwind) before `working` is 0.
            let erased: Region = Region(unsafe {
                std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(
                    region,
                )
            });
            shared.working.store(self.workers.len(), Ordering::Relaxed);
            *shared.region.lock().unwrap_or_else(PoisonError::into_inner) = Some(erased);
            shared.generation.fetch_add(1, Ordering::Release);
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| region(0)));
        let mut spins = 0;
        while shared.working.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        if shared.panicked.swap(false, Ordering::AcqRel) { Err(WorkerPanicked) } else { Ok(()) }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.generation.load(Ordering::Acquire) == seen && !shared.stop.load(Ordering::Relaxed) {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            let guard = shared.region.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |_: &mut Option<Region>| {
                shared.generation.load(Ordering::Acquire) == seen && !shared.stop.load(Ordering::Relaxed)
            };
            drop(shared.wake.wait_while(guard, idle));
        }
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        seen = shared.generation.load(Ordering::Acquire);
        let region = *shared.region.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Region(region)) = region {
            // SAFETY: `run` set the region before it raised the generation and waits for the decrement below.
            let region = unsafe { &*region };
            if catch_unwind(AssertUnwindSafe(|| region(index))).is_err() {
                shared.panicked.store(true, Ordering::Release);
            }
        }
        shared.working.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        {
            // Taken so that no worker is between its check and its wait.
            let _guard = self.shared.region.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // its panics were reported by `run`
        }
    }
}

/// Pieces of a region, handed out once each.
pub struct Tiles {
    next: AtomicUsize,
    total: usize,
    grain: usize,
}

impl Tiles {
    /// `total` tiles, `grain` at a time.
    pub fn new(total: usize, grain: usize) -> Self {
        Self { next: AtomicUsize::new(0), total, grain: grain.max(1) }
    }

    /// The next run of tiles.
    pub fn take(&self) -> Option<std::ops::Range<usize>> {
        let start = self.next.fetch_add(self.grain, Ordering::Relaxed);
        (start < self.total).then(|| start..(start + self.grain).min(self.total))
    }
}

/// A buffer that threads of a region write disjoint parts of.
#[derive(Clone, Copy)]
pub struct Shares<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: access goes through `slice`, whose caller proves that parts are disjoint; T is plain data.
unsafe impl<T: Send> Sync for Shares<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shares<T> {}

impl<T> Shares<T> {
    /// Lends the whole buffer for one region.
    pub fn new(buffer: &mut [T]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len() }
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// The buffer outlives the region, and no other thread uses any element of the part while it is held.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.len, "part {start}..{} of {}", start + len, self.len);
        // SAFETY: in bounds by the assertion; disjoint and alive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
