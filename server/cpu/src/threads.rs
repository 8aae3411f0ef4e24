//! A small pool of threads that share the work of a region and meet again.
//!
//! Why our own: a forward pass is some hundreds of short parallel regions; waking through a general pool costs
//! more than many of them take. How: a region's work is handed out in tiles ([`Tiles`]); threads join a
//! region that is open and nobody waits for one that has not joined, so a core that another process holds takes
//! part when it comes, or not at all. Whoever waits spins briefly and then sleeps, which hands its core to whom it
//! waits for.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

use crate::topology::{self, Cores};

/// Looks at a flag before a thread sleeps: 30 to 100 µs by the processor's pause.
const SPINS: usize = 2_000;

/// A region's closure with its lifetime erased; see the safety note in [`Threads::run`].
#[derive(Clone, Copy)]
struct Region(*const (dyn Fn(usize) + Sync));

// SAFETY: the closure behind the pointer is Sync, and `Threads::run` keeps it alive until every worker is done.
unsafe impl Send for Region {}

struct Shared {
    /// Odd while a region is open; rises by one at each opening and closing.
    state: AtomicUsize,
    /// Workers within the open region, or about to find that it closed.
    active: AtomicUsize,
    /// Workers asleep.
    sleepers: AtomicUsize,
    /// The caller, if it sleeps until `active` is 0.
    waiting: AtomicBool,
    caller: Mutex<Option<Thread>>,
    region: Mutex<Option<Region>>,
    wake: Condvar,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// The pool. Dropping it ends its threads.
pub struct Threads {
    shared: Arc<Shared>,
    /// A core for each thread, or none.
    cores: Cores,
    workers: Vec<JoinHandle<()>>,
}

/// A worker panicked in the last region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a worker thread panicked")]
pub struct WorkerPanicked;

impl Threads {
    /// `threads` in all, the caller of [`Threads::run`] being one of them.
    pub fn new(threads: usize) -> Self {
        Self::on(threads, Vec::new())
    }

    /// As many threads as `cores`, each kept on one of them; the caller only if it asks for it by
    /// [`Threads::keep_caller`]. With another process about, the system's scheduler likes to put two threads that wake
    /// each other on one core and leave the other core to the stranger; kept apart they lose half a core, not one.
    pub fn kept(cores: Cores) -> Self {
        Self::on(cores.len(), cores)
    }

    fn on(threads: usize, cores: Cores) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            waiting: AtomicBool::new(false),
            caller: Mutex::new(None),
            region: Mutex::new(None),
            wake: Condvar::new(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            // Without a core of its own a worker runs anywhere, even where whoever starts it is kept on one.
            let anywhere = || topology::cores().into_iter().flatten().flatten().copied().collect();
            let core: Vec<usize> = cores.get(index).cloned().unwrap_or_else(anywhere);
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name(format!("cpu-{index}"));
            // A machine that cannot start a thread runs with fewer: slower, not wrong.
            let main = move || {
                topology::keep_on(&core);
                work(&shared, index);
            };
            builder.spawn(main).ok()
        };
        let workers = (1..threads.max(1)).filter_map(spawn).collect();
        Self { shared, cores, workers }
    }

    /// Keeps the calling thread on the first core from now on. For a thread that lives for this pool's regions.
    pub fn keep_caller(&self) {
        thread_local! {
            static IS_KEPT: Cell<bool> = const { Cell::new(false) };
        }
        if let Some(core) = self.cores.first()
            && !IS_KEPT.replace(true)
        {
            topology::keep_on(core);
        }
    }

    /// Threads in all.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `region(thread index)` on the caller (index 0) and on every thread that comes before the caller is done;
    /// returns when nobody is in it any more. So a region takes its work from shared counters and relies on no
    /// thread but the caller. No two threads have the same index.
    ///
    /// # Errors
    /// [`WorkerPanicked`]; a panic of the caller's own part goes on as a panic after the others are done.
    pub fn run(&mut self, region: &(dyn Fn(usize) + Sync)) -> Result<(), WorkerPanicked> {
        let shared = &*self.shared;
        if self.workers.is_empty() {
            region(0);
            return Ok(());
        }
        // SAFETY: only the lifetime is erased. Workers use the pointer only after they have counted themselves into
        // `active` and then seen the region open; this function closes it and does not return (or unwind) before
        // `active` is 0.
        let erased: Region = Region(unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(region)
        });
        *lock(&shared.region) = Some(erased);
        shared.state.fetch_add(1, SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            let _guard = lock(&shared.region); // so that nobody is between its look and its sleep
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| region(0)));
        shared.state.fetch_add(1, SeqCst);
        if !spin(|| shared.active.load(SeqCst) == 0) {
            *lock(&shared.caller) = Some(std::thread::current());
            shared.waiting.store(true, SeqCst);
            while shared.active.load(SeqCst) > 0 {
                std::thread::park();
            }
            shared.waiting.store(false, SeqCst);
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        if shared.panicked.swap(false, SeqCst) { Err(WorkerPanicked) } else { Ok(()) }
    }
}

/// Whether `done` came true while spinning.
fn spin(done: impl Fn() -> bool) -> bool {
    for _ in 0..SPINS {
        if done() {
            return true;
        }
        std::hint::spin_loop();
    }
    done()
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let called = || {
            let state = shared.state.load(SeqCst);
            (state % 2 == 1 && state != seen) || shared.stop.load(SeqCst)
        };
        if !spin(called) {
            let guard = lock(&shared.region);
            shared.sleepers.fetch_add(1, SeqCst);
            drop(shared.wake.wait_while(guard, |_| !called()));
            shared.sleepers.fetch_sub(1, SeqCst);
        }
        if shared.stop.load(SeqCst) {
            return;
        }
        shared.active.fetch_add(1, SeqCst);
        let state = shared.state.load(SeqCst);
        if state % 2 == 1 && state != seen {
            seen = state;
            let region = *lock(&shared.region);
            if let Some(Region(region)) = region {
                // SAFETY: `run` set the region before it opened it, and it was open after this thread was counted
                // into `active`, so `run` waits for the decrement below.
                let region = unsafe { &*region };
                if catch_unwind(AssertUnwindSafe(|| region(index))).is_err() {
                    shared.panicked.store(true, SeqCst);
                }
            }
        }
        let last = shared.active.fetch_sub(1, SeqCst) == 1;
        if last
            && shared.waiting.load(SeqCst)
            && let Some(caller) = &*lock(&shared.caller)
        {
            caller.unpark();
        }
    }
}

/// A poisoned lock only means that a panic was answered elsewhere; the data here is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        {
            // Taken so that no worker is between its look and its sleep.
            let _guard = lock(&self.shared.region);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // its panics were reported by `run`
        }
    }
}

/// Pieces of a region, handed out once each.
///
/// Each thread has a run of its own, so that it reads memory in order, and takes from the others' ends when its own
/// is done; or all share one run, for pieces that are best begun in order.
pub struct Tiles {
    runs: Vec<Run>,
    grain: u32,
}

/// Tiles `first..end` that are left, as `first << 32 | end`; a cache line of its own.
#[repr(align(64))]
struct Run(AtomicU64);

impl Tiles {
    /// `total` tiles in order, `grain` at a time.
    pub fn shared(total: usize, grain: usize) -> Self {
        Self::split(total, grain, 1)
    }

    /// `total` tiles in a run for each of `threads`, `grain` at a time.
    ///
    /// # Panics
    /// For four thousand million tiles and more; a matrix has millions.
    pub fn split(total: usize, grain: usize, threads: usize) -> Self {
        assert!(u32::try_from(total).is_ok(), "{total} tiles");
        let run = |thread: usize| {
            let (first, end) = (total * thread / threads, total * (thread + 1) / threads);
            Run(AtomicU64::new((first as u64) << 32 | end as u64))
        };
        Self { runs: (0..threads.max(1)).map(run).collect(), grain: grain.clamp(1, 1 << 20) as u32 }
    }

    /// The next tiles for a thread.
    pub fn take(&self, thread: usize) -> Option<std::ops::Range<usize>> {
        let own = thread % self.runs.len();
        if let Some(taken) = self.take_from(own, false) {
            return Some(taken);
        }
        loop {
            let left = |run: &Run| {
                let (first, end) = unpack(run.0.load(Relaxed));
                end.saturating_sub(first)
            };
            let richest = (0..self.runs.len()).max_by_key(|&run| left(&self.runs[run]))?;
            if left(&self.runs[richest]) == 0 {
                return None;
            }
            if let Some(taken) = self.take_from(richest, true) {
                return Some(taken);
            }
        }
    }

    fn take_from(&self, run: usize, back: bool) -> Option<std::ops::Range<usize>> {
        let mut taken = 0..0;
        let take = |word: u64| {
            let (first, end) = unpack(word);
            let n = self.grain.min(end.saturating_sub(first));
            if n == 0 {
                return None;
            }
            let (first, end) = if back {
                taken = (end - n) as usize..end as usize;
                (first, end - n)
            } else {
                taken = first as usize..(first + n) as usize;
                (first + n, end)
            };
            Some(u64::from(first) << 32 | u64::from(end))
        };
        self.runs[run].0.fetch_update(Relaxed, Relaxed, take).ok().map(|_| taken)
    }
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
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

    /// Where `count` parts of `len` begin, the first at `start`, each `stride` behind the one before.
    ///
    /// # Panics
    /// Where one of them leaves the buffer. Whoever uses the pointer promises what [`Shares::slice`] asks for.
    pub fn strided(&self, start: usize, stride: usize, count: usize, len: usize) -> *mut T {
        let end = start + count.saturating_sub(1) * stride + len;
        assert!(end <= self.len, "parts {start}..{end} of {}", self.len);
        self.start.wrapping_add(start)
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// The buffer outlives the region, and no other thread uses any element of the part while it is held.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.len, "part {start}..{} of {}", start + len, self.len);
        // SAFETY: in bounds by the assertion; disjoint and alive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
